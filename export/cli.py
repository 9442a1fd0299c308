"""`cascade export`, `export-phone`, `card`, `weights`: to a bundle, out of it, and back.

Heavy imports happen inside the command.
"""

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from cascade.assignments import parse_assignment
from cascade.bundle.default_bundle import REFERENCE, add_bundle_argument, bundle_or_default
from cascade.diffusion.family import diffusion_specs
from cascade.errors import InvalidRequest, MissingExtra
from cascade.pixels.family import pixel_specs
from cascade.precision import Precision
from export.adapters.kinds import in_words

CHECKPOINTS, DATA = Path("checkpoints"), Path("data/emoji.npz")


def register(subparsers: Any) -> None:
    """Add the subcommands."""
    card = subparsers.add_parser("card", help="write the model card into a bundle")
    add_bundle_argument(card)
    card.add_argument(
        "--quality",
        type=Path,
        help="the quality.json of benchmarks.quality, for the reference cascade (default: a card "
        "without figures)",
    )
    card.set_defaults(run=run_card)
    weights = subparsers.add_parser("weights", help="a bundle's weights as checkpoints again")
    add_bundle_argument(weights)
    weights.add_argument("--stages", nargs="+", help="names (all)")
    weights.add_argument("--checkpoints", type=Path, required=True, help="folder to write into")
    weights.set_defaults(run=run_weights)
    add_phone_parser(subparsers)
    parser = subparsers.add_parser(
        "export",
        help="write a bundle from trained checkpoints",
        description="Export every component to ONNX, prove parity with torch, write the bundle.",
    )
    parser.add_argument(
        "--checkpoints", type=Path, help=f"folder with the trained stages (default: {CHECKPOINTS})"
    )
    parser.add_argument("--out", type=Path, help=f"folder to write (default: {REFERENCE})")
    parser.add_argument("--data", type=Path, help=f"prepared data (default: {DATA})")
    parser.add_argument(
        "--storage",
        choices=("int8", "float16", "float32"),
        help="how large weights lie in the float32 files; rounded to it first (default: int8)",
    )
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=("fp32", "int8", "int8-block", "int4-block"),
        help="files besides fp32, which is always written: int8 of diffusion stages; int8-block "
        "and int4-block, weights of 8 or 4 bits, of text encoders and other components whose "
        "weights are matrices (default: fp32 int8, with --from: fp32)",
    )
    parser.add_argument(
        "--gpu-forms",
        nargs="*",
        choices=("fp16", "fp32"),
        help="forms of every graph for compilers of GPUs, besides the weights a few percent larger "
        "(default: fp16, with --from: none)",
    )
    parser.add_argument(
        "--web-forms",
        action="store_true",
        help="forms for browsers of the graphs that WebGPU would compute wrongly: small files, "
        "which share the weights",
    )
    parser.add_argument(
        "--weights",
        choices=("auto", "beside", "inside"),
        default="auto",
        help="where large weights lie: in the graphs, or in one file per component that all its "
        "graphs share; auto: beside from 256 MiB on (default: auto)",
    )
    parser.add_argument(
        "--networks",
        nargs="+",
        default=[],
        metavar="STAGE=FOLDER",
        help="checkpoints of students in place of a stage's own: base=base.guided.8",
    )
    parser.add_argument(
        "--stages",
        nargs="+",
        default=[],
        metavar="STAGE",
        help="a cascade of these stages, the smallest first: px8 px16 px32 px64, or base px128 "
        "px256, or class8 refine32 (default: the diffusion stages)",
    )
    parser.add_argument(
        "--truncated",
        type=float,
        metavar="LEVEL",
        help="class8 refine32: end runs of the base stage at this level of noise and show the "
        "upscaler what is there (default: finished pictures, given noise by request)",
    )
    other = parser.add_argument_group(
        "somebody else's cascade (docs/how-to/export-torch-modules.md)"
    )
    other.add_argument(
        "--from",
        dest="source",
        nargs=2,
        metavar=("KIND", "WHERE"),
        help=f"{in_words()}; needs --out",
    )
    other.add_argument(
        "--upscaler",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="diffusers-if: a super-resolution stage, the smallest first; repeatable",
    )
    other.add_argument(
        "--text-encoder", type=Path, metavar="FOLDER", help="a T5 encoder's transformers folder"
    )
    other.add_argument(
        "--timesteps",
        action="append",
        default=[],
        metavar="STAGE=LIST",
        help="diffusers-if: a list of diffusers' as a stage's default run: base=smart100",
    )
    parser.set_defaults(run=run_export)


def add_phone_parser(subparsers: Any) -> None:
    """Add `export-phone`."""
    phone = subparsers.add_parser(
        "export-phone",
        help="components of a bundle for a phone's runtime",
        description="Convert the components that a device runs, run the files here, and compare "
        "their numbers with the networks.",
    )
    add_bundle_argument(phone)
    phone.add_argument(
        "--target",
        required=True,
        choices=("executorch", "litert", "coreml", "ort"),
        help="runtime: .pte of ExecuTorch, .tflite of LiteRT, .mlpackage of Core ML, .ort of "
        "ONNX Runtime",
    )
    phone.add_argument("--out", type=Path, required=True, help="folder to write")
    phone.add_argument(
        "--components",
        nargs="+",
        default=[],
        metavar="NAME",
        help="components (default: text encoder, first stage, every stage of pixels by groups)",
    )
    phone.add_argument(
        "--tokens",
        type=int,
        help="length that prompts are filled to (default: the longest that the bundle takes)",
    )
    phone.set_defaults(run=run_export_phone)


def run_export_phone(args: argparse.Namespace) -> int:
    """Write the files of one phone runtime."""
    try:
        from export.phone.command import PhoneExport, export_phone
    except ImportError as exc:
        raise MissingExtra(
            f"export-phone needs: pip install 'edge-cascade[export,cpu]' ({exc})"
        ) from exc
    from cascade.bundle.bundle import open_bundle

    wanted = PhoneExport(
        target=args.target,
        out=args.out,
        components=tuple(args.components),
        tokens=args.tokens,
    )
    export_phone(open_bundle(bundle_or_default(args.bundle)), wanted, print)
    return 0


def run_export(args: argparse.Namespace) -> int:
    """Write a bundle."""
    if args.source is not None:
        return run_export_foreign(args)
    for option in ("upscaler", "text_encoder", "timesteps"):
        if getattr(args, option):
            name = option.replace("_", "-")
            raise InvalidRequest(f"--{name} goes with --from", field=name)
    if args.stages:
        return run_export_named(args)
    check_untruncated(args)
    try:
        from export.adapters.reference_cascade import ReferenceSource, describe_reference
        from export.bundle_folder import check_out
        from export.bundle_writer import write_cascade
        from export.weights.rounding import Storage
        from stages.reference import PRESETS
    except ImportError as exc:
        raise MissingExtra(f"export needs: pip install 'edge-cascade[export]' ({exc})") from exc
    networks = networks_of(args.networks, PRESETS)
    out = args.out or REFERENCE
    check_out(out)
    source = ReferenceSource(
        checkpoints=args.checkpoints or CHECKPOINTS,
        data_file=args.data or DATA,
        storage=Storage(args.storage or "int8"),
        networks=networks,
    )
    options = export_options(args, ("fp32", "int8"), ("fp16",))
    write_cascade(describe_reference(source), out, options=options, report=print)
    return 0


def run_export_named(args: argparse.Namespace) -> int:
    """Write a bundle of the stages that `--stages` names, of both families."""
    try:
        from export.adapters.pixel_cascade import PixelSource, describe_pixels
        from export.bundle_folder import check_out
        from export.bundle_writer import write_cascade
        from export.weights.rounding import Storage
        from stages.reference import PRESETS
        from stages.refinement_presets import REFINEMENT_PRESETS
    except ImportError as exc:
        raise MissingExtra(f"export needs: pip install 'edge-cascade[export]' ({exc})") from exc
    if args.out is None:
        raise InvalidRequest("--stages needs --out FOLDER", field="out")
    if set(args.stages) & set(REFINEMENT_PRESETS):
        return run_export_refinement(args)
    check_untruncated(args)
    if not set(args.stages) & set(PRESETS):
        check_exact_alone(args)
    check_out(args.out)
    source = PixelSource(
        stages=tuple(args.stages),
        checkpoints=args.checkpoints or CHECKPOINTS,
        data_file=args.data or DATA,
        storage=Storage(args.storage or "int8"),
        networks=networks_of(args.networks, PRESETS),
    )
    write_cascade(describe_pixels(source), args.out, report=print, options=export_options(args))
    return 0


def run_export_refinement(args: argparse.Namespace) -> int:
    """Write a bundle of the class-conditional cascade.

    Raises:
        InvalidRequest: other stages than its two, or a flag that says nothing of it.
    """
    from export.adapters.refinement_cascade import RefinementSource, describe_refinement
    from export.bundle_folder import check_out
    from export.bundle_writer import write_cascade
    from stages.refinement_presets import REFINEMENT_PRESETS

    if args.stages != list(REFINEMENT_PRESETS):
        raise InvalidRequest(
            f"stages: expected {' '.join(REFINEMENT_PRESETS)}, got {' '.join(args.stages)}",
            field="stages",
        )
    for flag in ("storage", "data"):
        if getattr(args, flag):
            raise InvalidRequest(
                f"{flag}: weights of {' '.join(args.stages)} are written as they are: leave it out",
                field=flag,
            )
    check_out(args.out)
    source = RefinementSource(
        checkpoints=args.checkpoints or CHECKPOINTS,
        networks=networks_of(args.networks, REFINEMENT_PRESETS),
        truncated=args.truncated or 0.0,
    )
    write_cascade(describe_refinement(source), args.out, report=print, options=export_options(args))
    return 0


def check_untruncated(args: argparse.Namespace) -> None:
    """Refuse truncation of a cascade whose upscalers read finished pictures alone.

    Raises:
        InvalidRequest: naming the flag.
    """
    if args.truncated is not None:
        raise InvalidRequest(
            "truncated: it goes with --stages class8 refine32: leave it out", field="truncated"
        )


def check_exact_alone(args: argparse.Namespace) -> None:
    """Refuse what would make other pictures of an exact cascade.

    Raises:
        InvalidRequest: naming the flag.
    """
    asked_for = {
        "precisions": set(args.precisions or ["fp32"]) - {"fp32"},
        "gpu-forms": set(args.gpu_forms or []),
        "storage": {args.storage} - {None},
        "networks": set(args.networks),
    }
    for flag, values in asked_for.items():
        if values:
            raise InvalidRequest(
                f"{flag}: stages of pixels by groups are exact in fp32 alone and make other "
                f"pictures in any other precision: leave --{flag} {min(values)} out",
                field=flag,
            )


def networks_of(texts: list[str], stages: Collection[str]) -> dict[str, str]:
    """The checkpoint folders that `--networks` names, by diffusion stage.

    Args:
        texts: of the form STAGE=FOLDER.
        stages: that there are.

    Raises:
        InvalidRequest: another form, or another stage.
    """
    form = f"STAGE=FOLDER with {', '.join(stages)}"
    networks = pairs_of(texts, "networks", form)
    unknown = [stage for stage in networks if stage not in stages]
    if unknown:
        raise InvalidRequest(f"networks: expected {form}, got {unknown[0]}", field="networks")
    return networks


def pairs_of(texts: list[str], flag: str, form: str) -> dict[str, str]:
    """What the values of a flag say, by name.

    Args:
        texts: of the form NAME=VALUE.
        flag: for the error.
        form: what is expected, for the error.

    Raises:
        InvalidRequest: a text is not of that form.
    """
    found = {}
    for text in texts:
        try:
            name, value = parse_assignment(text)
        except ValueError as exc:
            raise InvalidRequest(f"{flag}: expected {form}, got {text}", field=flag) from exc
        found[name] = value
    return found


def export_options(
    args: argparse.Namespace, precisions: Sequence[str] = ("fp32",), gpu_forms: Sequence[str] = ()
) -> Any:
    """The `ExportOptions` that the flags ask for.

    Args:
        args: of `cascade export`.
        precisions: where `--precisions` was not given.
        gpu_forms: where `--gpu-forms` was not given.
    """
    from export.components.component import ExportOptions

    return ExportOptions(
        precisions=asked(args.precisions, *precisions),
        gpu_forms=asked(args.gpu_forms, *gpu_forms),
        web_forms=args.web_forms,
        weights=args.weights,
    )


def asked(names: list[str] | None, *default: str) -> frozenset[Precision]:
    """The precisions that a flag names; the default where it was not given."""
    return frozenset(map(Precision, default if names is None else names))


def run_card(args: argparse.Namespace) -> int:
    """Write the model card into a bundle."""
    from export.model_card import CARD, add_card

    folder = bundle_or_default(args.bundle)
    manifest = add_card(folder, args.quality)
    print(f"{folder / CARD}: bundle id {manifest.bundle_id}")
    return 0


def run_weights(args: argparse.Namespace) -> int:
    """Write checkpoints from a bundle."""
    try:
        from export.weights.released_pixels import write_pixel_checkpoint
        from export.weights.released_weights import write_checkpoint
        from export.weights.released_words import reads_words, write_word_table
    except ImportError as exc:
        raise MissingExtra(f"this needs: pip install 'edge-cascade[export]' ({exc})") from exc
    from cascade.bundle.bundle import open_bundle
    from stages.pixel_presets import PIXEL_PRESETS
    from stages.reference import PRESETS
    from stages.training.words import TABLE

    bundle = open_bundle(bundle_or_default(args.bundle))
    components = bundle.manifest.components
    drawing = [spec.name for spec in pixel_specs(components)]
    diffusion = [spec.name for spec in diffusion_specs(components)]
    known = [*(PRESETS if diffusion else ()), *(PIXEL_PRESETS if drawing else ())]
    names = args.stages or diffusion + drawing
    for name in names:
        if name not in known:
            raise InvalidRequest(f"stages: expected {', '.join(known)}, got {name}", field="stages")
        folder = args.checkpoints / name
        if name in PRESETS:
            write_checkpoint(bundle, PRESETS[name], folder)
        else:
            write_pixel_checkpoint(bundle, PIXEL_PRESETS[name], folder)
        print(f"{folder}: cascade train {name} --start {folder} --checkpoints ANOTHER")
    if reads_words(bundle, names):
        rows = write_word_table(bundle, args.checkpoints)
        print(f"{args.checkpoints / TABLE}: {rows} rows; copy it into ANOTHER")
    return 0


def run_export_foreign(args: argparse.Namespace) -> int:
    """Write a bundle from somebody else's cascade."""
    try:
        from export.adapters.command import ForeignSource, export_foreign
    except ImportError as exc:
        raise MissingExtra(f"export needs: pip install 'edge-cascade[export]' ({exc})") from exc
    if args.out is None:
        raise InvalidRequest("--from needs --out FOLDER", field="out")
    check_untruncated(args)
    for name in ("checkpoints", "data", "storage", "networks", "stages"):
        if getattr(args, name):
            raise InvalidRequest(
                f"{name}: it is for our own stages; what comes by --from says it itself",
                field=name,
            )
    timesteps = pairs_of(args.timesteps, "timesteps", "STAGE=LIST, such as base=smart100")
    kind, where = args.source
    source = ForeignSource(
        kind=kind,
        where=where,
        upscalers=tuple(args.upscaler),
        text_encoder=args.text_encoder,
        timesteps=timesteps,
    )
    export_foreign(source, args.out, report=print, options=export_options(args))
    return 0
