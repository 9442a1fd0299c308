"""`cascade data` and `cascade train`: the training set and the training of each stage.

Also runs as `python -m stages.cli train ...` from a bare checkout with torch, numpy and pillow.
Heavy imports happen inside the commands: help needs no torch.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from cascade.commands.errors import report_error
from cascade.commands.parser import CommandParser
from cascade.errors import CascadeError, InvalidRequest, MissingExtra

DATA_FILE = Path("data/emoji.npz")
FETCH_FOLDER = Path("data/packages")
CHECKPOINTS = Path("checkpoints")
KEYWORDS = Path("benchmarks/lib/keywords.txt")
STAGES = ("base", "sr256", "sr1024")
PIXEL_STAGES = ("px8", "px16", "px32", "px64", "px128", "px256")
"""Stages that make their pictures by groups of pixels."""
REFINEMENT_STAGES = ("class8", "refine32")
"""Stages of the class-conditional cascade, trained by repeated refinement."""


def register(subparsers: Any) -> None:
    """Add the subcommands."""
    data = subparsers.add_parser("data", help="fetch and prepare the training set")
    kinds = data.add_subparsers(metavar="ACTION", required=True)
    fetch = kinds.add_parser("fetch", help="download the icon sets with npm")
    prepare = kinds.add_parser("prepare", help="draw, caption and encode them into one file")
    words = kinds.add_parser("words", help="make the word table that text reaches pixels by")
    words.add_argument("--checkpoints", type=Path, default=CHECKPOINTS, help="folder (%(default)s)")
    words.set_defaults(run=run_words)
    for parser, run in ((fetch, run_fetch), (prepare, run_prepare)):
        parser.add_argument("--packages", type=Path, default=FETCH_FOLDER, help="npm archives")
        parser.set_defaults(run=run)
    keywords = kinds.add_parser("keywords", help="write the keywords that no training caption uses")
    keywords.add_argument("--packages", type=Path, default=FETCH_FOLDER, help="npm archives")
    keywords.add_argument("--out", type=Path, default=KEYWORDS, help="file to write (%(default)s)")
    keywords.set_defaults(run=run_keywords)
    prepare.add_argument("--data", type=Path, default=DATA_FILE, help="file to write")
    prepare.add_argument("--large", type=int, default=260, help="pictures kept at 1024 pixels")
    register_train(subparsers)
    register_distill(subparsers)
    probe = subparsers.add_parser("probe", help="train the classifier that judges the base stage")
    probe.add_argument("--steps", type=int, default=2000, help="training steps (%(default)s)")
    probe.add_argument("--data", type=Path, default=DATA_FILE)
    probe.add_argument("--checkpoints", type=Path, default=CHECKPOINTS)
    probe.add_argument("--threads", type=int, default=0, help="CPU threads, 0 for all")
    probe.add_argument("--bf16", action="store_true", help="mixed precision, if the chip has it")
    probe.set_defaults(run=run_probe)
    evaluate = subparsers.add_parser(
        "evaluate",
        help="a stage on held-out pictures: PSNR of super-resolution, bits of pixels by groups",
    )
    evaluate.add_argument("stage", choices=(*STAGES[1:], *PIXEL_STAGES))
    evaluate.add_argument("--data", type=Path, default=DATA_FILE)
    evaluate.add_argument("--checkpoints", type=Path, default=CHECKPOINTS)
    evaluate.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4])
    evaluate.add_argument("--augmentation", type=float, nargs="+", default=[0.0])
    evaluate.add_argument("--pictures", type=int, default=30, help="held-out pictures to use")
    evaluate.set_defaults(run=run_evaluate)


def register_train(subparsers: Any) -> None:
    """Add `train`."""
    train = subparsers.add_parser("train", help="train one stage, or go on training it")
    train.add_argument("stage", choices=(*STAGES, *PIXEL_STAGES, *REFINEMENT_STAGES))
    train.add_argument("--half-steps", type=int, default=0, help="base: first at half resolution")
    train.add_argument(
        "--start", type=Path, default=None, help="checkpoint to begin with the weights of"
    )
    train.add_argument(
        "--regression",
        action="store_true",
        help="the yardstick: plain regression from the stage's weights, in STAGE.regression",
    )
    train.add_argument(
        "--loss",
        choices=("l1", "l2"),
        help="class8, refine32: distance of the noise or its square (default: l2)",
    )
    train.add_argument(
        "--augmentation",
        choices=("none", "gaussian", "blur"),
        help="refine32: what is done to the small pictures (default: gaussian)",
    )
    add_run_options(train)
    train.set_defaults(run=run_train)


def register_distill(subparsers: Any) -> None:
    """Add `distill`."""
    distill = subparsers.add_parser("distill", help="train a student that needs fewer evaluations")
    add = distill.add_argument
    # fmt: off
    add("what", choices=("guidance", "steps"), help="one evaluation a step, or half the steps")
    add("stage", choices=STAGES)
    add("--to",      type=int, default=None, help="steps: how many the last student takes")
    add("--teacher", default=None,           help="folder among the checkpoints (the stage's own)")
    # fmt: on
    add_run_options(distill)
    distill.set_defaults(run=run_distill)


def add_run_options(parser: Any) -> None:
    """The options of a training run."""
    add = parser.add_argument
    # fmt: off
    add("--minutes",       type=float, default=60.0, help="length of this run (%(default)s)")
    add("--steps",         type=int,   default=None, help="stop after so many steps in all")
    add("--cool-down",     type=float, default=0.25, help="last share, learning rate falling")
    add("--optimizer",     choices=("muon", "adamw", "adafactor"), default="muon")
    add("--learning-rate", type=float, default=None, help="instead of the preset's")
    add("--batch",         type=int,   default=None, help="samples per step, ditto")
    add("--data",          type=Path,  default=DATA_FILE, help="prepared data (%(default)s)")
    add("--checkpoints",   type=Path,  default=CHECKPOINTS, help="folder (%(default)s)")
    add("--device",        default="cpu",            help="cpu or cuda (%(default)s)")
    add("--bf16",          action="store_true",      help="mixed precision, if the chip has it")
    add("--threads",       type=int,   default=0,    help="CPU threads, 0 for all (%(default)s)")
    add("--seed",          type=int,   default=0,    help="of weights and draws (%(default)s)")
    add("--keep-minutes",  type=float, default=0.0,  help="keep the weights so often, 0 for never")
    add("--sheet-minutes", type=float, default=15.0, help="a sample sheet so often, 0 for none")
    # fmt: on


def run_fetch(args: argparse.Namespace) -> int:
    """Download the npm packages that are not there yet."""
    icons = import_icons()
    for package in (*(s.package for s in icons.ICON_SETS), icons.KEYWORDS_PACKAGE):
        print(icons.fetch_package(package, args.packages))
    return 0


def run_prepare(args: argparse.Namespace) -> int:
    """Make the prepared data file."""
    icons = import_icons()
    from stages.data.dataset import prepare
    from stages.data.prompts import encode_prompt

    run_fetch(args)
    sets = {
        s.style: icons.read_json(icons.fetch_package(s.package, args.packages), "icons.json")
        for s in icons.ICON_SETS
    }
    prepare(
        args.data,
        draw=lambda icon, style: icons.draw(icons.svg_text(sets[style], icon)),
        words=icons.words_for(args.packages),
        encode=encode_prompt,
        large=args.large,
        report=print,
    )
    print(f"{args.data}: {args.data.stat().st_size / 1e6:.1f} MB")
    return 0


def run_keywords(args: argparse.Namespace) -> int:
    """Write a line per concept: its name and the keywords kept back for paraphrases."""
    icons = import_icons()
    from stages.data.captions import make_keywords
    from stages.data.dataset import is_held_out, read_concepts

    concepts = [icon for icon in read_concepts() if not is_held_out(icon)]
    keywords = make_keywords(concepts, icons.words_for(args.packages))
    lines = ["# Concept: emojibase keywords (MIT) that are a keyword in no training caption."]
    kept_back = {icon: keywords.kept_back(icon) for icon in concepts}
    lines += [f"{icon}: {', '.join(words)}" for icon, words in kept_back.items() if words]
    args.out.write_text("\n".join(lines) + "\n")
    print(f"{args.out}: {len(lines) - 1} concepts")
    return 0


def run_words(args: argparse.Namespace) -> int:
    """Make the table of the pre-trained encoder's vocabulary; takes two minutes of a core."""
    from stages.data.prompts import make_table
    from stages.pixel_presets import WORDS
    from stages.training.words import TABLE, save_table

    table = make_table(WORDS)
    save_table(args.checkpoints, table.rows)
    print(f"{args.checkpoints / TABLE}: {len(table.rows)} rows of {table.width}")
    return 0


def import_icons() -> Any:
    """The module that draws icons, or the pip command that makes it work."""
    try:
        from stages.data import icons
    except ImportError as exc:
        raise MissingExtra("drawing needs: pip install 'edge-cascade[train]'") from exc
    return icons


def run_train(args: argparse.Namespace) -> int:
    """Train one stage for some minutes."""
    prepare_torch(args)
    if args.stage in REFINEMENT_STAGES:
        return run_train_refinement(args)
    for flag in ("loss", "augmentation"):
        if getattr(args, flag) is not None:
            raise InvalidRequest(
                f"{flag}: it is for {' and '.join(REFINEMENT_STAGES)}; {args.stage} has its own: "
                "leave it out",
                field=flag,
            )
    if args.stage in PIXEL_STAGES:
        return run_train_pixels(args)
    from stages.data.dataset import open_dataset
    from stages.data.loader import Loader
    from stages.evaluation.sheet import SheetWriter
    from stages.reference import PRESETS
    from stages.training.recipes import regression_recipe, warm_start
    from stages.training.trainer import train

    preset = PRESETS[args.stage]
    if args.half_steps and preset.low_resolution is not None:
        raise InvalidRequest(
            f"half-steps: they are for the base stage; {args.stage} trains on crops",
            field="half-steps",
        )
    data = open_dataset(args.data)
    sheets = SheetWriter(preset, data, args.checkpoints, every_minutes=args.sheet_minutes)
    options = run_options(args, half_steps=args.half_steps)
    recipe = None
    if args.regression:
        recipe = regression_recipe(preset, args.start or args.checkpoints / preset.name)
    elif args.start is not None:
        recipe = warm_start(preset, args.start)
    # A regression draws no samples: a sheet of it by the sampler would show nothing of it.
    watch = None if args.regression else sheets
    train(preset, Loader(data, preset), options, report=print_line, watch=watch, recipe=recipe)
    return 0


def run_train_refinement(args: argparse.Namespace) -> int:
    """Train one stage of the class-conditional cascade for some minutes."""
    from stages.data.class_loader import ClassLoader
    from stages.data.dataset import open_dataset
    from stages.refinement_presets import REFINEMENT_PRESETS
    from stages.training.conditioning_augmentation import (
        AugmentationKind,
        ConditioningAugmentation,
    )
    from stages.training.refinement import RefinementChoices, refinement_recipe
    from stages.training.trainer import train

    preset = REFINEMENT_PRESETS[args.stage]
    wrong = {"half-steps": args.half_steps, "regression": args.regression}
    if preset.low_resolution is None:
        wrong["augmentation"] = args.augmentation
    for flag, given in wrong.items():
        if given:
            raise InvalidRequest(
                f"{flag}: {args.stage} is trained without it: leave it out", field=flag
            )
    loader = ClassLoader(open_dataset(args.data), preset)
    usual: AugmentationKind = "none" if preset.low_resolution is None else "gaussian"
    kind: AugmentationKind = args.augmentation or usual
    choices = RefinementChoices(
        loss=args.loss or "l2", augmentation=ConditioningAugmentation(kind=kind)
    )
    recipe = refinement_recipe(preset, loader, args.seed, choices, start=args.start)
    train(preset, loader, run_options(args), report=print_line, recipe=recipe)
    return 0


def run_train_pixels(args: argparse.Namespace) -> int:
    """Train one stage of pixels by groups for some minutes."""
    from stages.data.pixel_loader import PixelLoader
    from stages.pixel_presets import PIXEL_PRESETS
    from stages.training.pixel_recipe import pixel_recipe
    from stages.training.trainer import train
    from stages.training.words import open_captioned

    for flag, given in (("half-steps", args.half_steps), ("regression", args.regression)):
        if given:
            raise InvalidRequest(
                f"{flag}: it is for diffusion stages; {args.stage} makes its picture by groups of "
                "pixels: leave it out",
                field=flag,
            )
    preset = PIXEL_PRESETS[args.stage]
    loader = PixelLoader(open_captioned(preset, args.data, args.checkpoints), preset)
    recipe = pixel_recipe(preset, loader, args.seed, start=args.start)
    train(preset, loader, run_options(args), report=print_line, recipe=recipe)
    return 0


def run_distill(args: argparse.Namespace) -> int:
    """Train one student."""
    prepare_torch(args)
    from stages.data.dataset import open_dataset
    from stages.data.loader import Loader
    from stages.reference import PRESETS
    from stages.training.recipes import guidance_recipe, steps_recipe
    from stages.training.trainer import train

    if args.what == "guidance" and args.to is not None:
        raise InvalidRequest("to: it goes with `distill steps`; guidance has no steps", field="to")
    preset = PRESETS[args.stage]
    teacher = args.checkpoints / (args.teacher or args.stage)
    if args.what == "guidance":
        student, recipe = guidance_recipe(preset, teacher)
    else:
        student, recipe = steps_recipe(preset, teacher, to=args.to)
    data = open_dataset(args.data)
    train(student, Loader(data, preset), run_options(args), report=print_line, recipe=recipe)
    print_line(f"{args.checkpoints / recipe.name}")
    return 0


def run_probe(args: argparse.Namespace) -> int:
    """Train the probe, check it on real renderings, keep it beside the checkpoints."""
    prepare_torch(args)
    from dataclasses import asdict

    from stages.data.dataset import open_dataset
    from stages.evaluation.probe import check, labelled, style_of_unseen, train_probe
    from stages.training.checkpoint import save_checkpoint

    known = labelled(open_dataset(args.data))
    probe = train_probe(known, steps=args.steps, bf16=args.bf16, report=print_line)
    found = {name: asdict(verdict) for name, verdict in check(probe, known).items()}
    unseen = style_of_unseen(probe, known)
    facts = {
        "names": list(known.names),
        "steps": args.steps,
        "check": found,
        "style_of_unseen_concepts": unseen,
        "unseen_renderings": len(known.unseen),
    }
    save_checkpoint(args.checkpoints / "probe", {"probe": probe.state_dict()}, facts)
    for name, verdict in found.items():
        print_line(json.dumps({"renderings": name, **verdict}))
    print_line(json.dumps({"renderings": "unseen concepts", "style": unseen}))
    return 0


def prepare_torch(args: argparse.Namespace) -> None:
    """Load torch with the threads asked for, or say how to install it."""
    try:
        import torch
    except ImportError as exc:
        raise MissingExtra("training needs: pip install 'edge-cascade[train]'") from exc
    if args.threads:
        torch.set_num_threads(args.threads)
    device = getattr(args, "device", "cpu")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as exc:
        line = " ".join(str(exc).split())[:200]
        raise InvalidRequest(
            f"device: torch has no {device!r} here: {line}", field="device"
        ) from exc


def run_options(args: argparse.Namespace, **more: Any) -> Any:
    """The options of a run as the trainer takes them."""
    from stages.training.trainer import TrainOptions

    return TrainOptions(
        folder=args.checkpoints,
        minutes=args.minutes,
        steps=args.steps,
        cool_down=args.cool_down,
        keep_minutes=args.keep_minutes,
        optimizer=args.optimizer,
        learning_rate=args.learning_rate,
        batch=args.batch,
        device=args.device,
        bf16=args.bf16,
        seed=args.seed,
        **more,
    )


def print_line(line: str) -> None:
    """Print at once, also into a file."""
    print(line, flush=True)


def run_evaluate(args: argparse.Namespace) -> int:
    """Held-out PSNR of a super-resolution stage against Lanczos, as a table."""
    if args.stage in PIXEL_STAGES:
        return run_evaluate_pixels(args)
    from stages.data.dataset import open_dataset
    from stages.evaluation.upscaling import evaluate_upscaling
    from stages.reference import PRESETS

    data = open_dataset(args.data)
    for level in args.augmentation:
        for steps in args.steps:
            scores = evaluate_upscaling(
                PRESETS[args.stage], data, args.checkpoints / args.stage,
                steps=steps, augmentation=level, limit=args.pictures,
            )  # fmt: skip
            print_line(json.dumps({"steps": steps, "augmentation": level, **scores}))
    return 0


def run_evaluate_pixels(args: argparse.Namespace) -> int:
    """Bits per value of held-out pictures under a stage, beside codecs; what its text is worth."""
    from stages.evaluation.pixel_bits import caption_bits, evaluate_pixels
    from stages.pixel_presets import PIXEL_PRESETS
    from stages.training.words import open_captioned

    preset = PIXEL_PRESETS[args.stage]
    data = open_captioned(preset, args.data, args.checkpoints)
    checkpoint = args.checkpoints / args.stage
    found = evaluate_pixels(preset, data, checkpoint, limit=args.pictures)
    if preset.context_width:
        found |= caption_bits(preset, data, checkpoint, limit=args.pictures)
    print_line(json.dumps(found))
    return 0


def main() -> int:
    """The bare-checkout entry: the same subcommands without the installed `cascade`."""
    parser = CommandParser(prog="python -m stages.cli")
    register(parser.add_subparsers(metavar="COMMAND", required=True))
    try:
        args = parser.parse_args()
        return int(args.run(args))
    except (CascadeError, OSError) as exc:
        return report_error(exc, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
