"""How good are a bundle's pictures, and what do they look like?

    python -m benchmarks.quality --checkpoints checkpoints --out quality
    python -m benchmarks.quality --checkpoints checkpoints --quick

Runs the bundle's stages as a client runs them. Prints tables, and with `--out` writes
`quality.json`, from which `cascade card` makes the model card, and the sheets. Needs the prepared
data and a trained probe (`cascade probe`); the plain regressions (`cascade train sr256
--regression`) are compared where they are. Every seed is fixed: the same bundle gives the same
figures.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.base_quality import (
    Judge,
    answer,
    closeness,
    colours,
    looks,
    make_judge,
    named,
    probe_facts,
    variety,
)
from benchmarks.lib.local_cascade import LocalCascade, open_cascade
from benchmarks.lib.prompt_lists import (
    PromptQuestion,
    colour_questions,
    keyword_questions,
    read_keywords,
    read_sheet_prompts,
    reworded_questions,
    spread,
    trained_captions,
)
from benchmarks.lib.record import write_record
from benchmarks.sheet import write_comparison, write_sheets
from benchmarks.upscaling_quality import continued_figures, held_out_figures, regression
from cascade.assignments import AUTO
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.diffusion.family import diffusion_specs
from cascade.tuning.options import parse_engine_options
from cascade.types import ImageU8
from export.quality_tables import quality_tables
from stages.data.dataset import Dataset, open_dataset
from stages.evaluation.probe import load_probe

Say = Callable[[str], None]
SEEDS_ASKED = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleCounts:
    """How many pictures each figure is made of."""

    captions: int = 130
    keywords: int = 130
    reworded: int = 60
    colours: int = 70
    combinations: int = 16
    variety_prompts: int = 6
    held_out_small: int = 54
    """Held-out pictures for stages that end with 256 pixels or fewer."""
    held_out_large: int = 18
    continued: int = 12

    def held_out(self, resolution: int) -> int:
        """Held-out pictures for stages that end with `resolution` pixels."""
        return self.held_out_small if resolution <= 256 else self.held_out_large


QUICK = SampleCounts(
    captions=30, keywords=18, reworded=18, colours=14, combinations=8, variety_prompts=2,
    held_out_small=12, held_out_large=3, continued=3,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measured:
    """What is measured, and with what.

    Attributes:
        cascade: the bundle's components.
        data: the prepared data.
        judged: the probe and the real renderings.
        checkpoints: where regressions are looked for.
        counts: of pictures.
    """

    cascade: LocalCascade
    data: Dataset
    judged: Judge
    checkpoints: Path
    counts: SampleCounts


def base_figures(what: Measured) -> dict[str, Any]:
    """Everything about the base stage."""
    cascade, counts, judged = what.cascade, what.counts, what.judged

    def draw(prompt: str, seed: int) -> ImageU8:
        return cascade.picture(0, prompt, seed=seed)

    captions = answer(draw, trained_captions(what.data, counts.captions))
    keywords = {icon: words for icon, words in read_keywords().items() if icon in judged.names}
    others = {
        "trained_keywords": trained_captions(what.data, counts.keywords, named=False),
        "keywords": keyword_questions(keywords, counts.keywords),
        "reworded": reworded_questions(judged.names, counts.reworded),
    }
    answers = {
        "captions": captions,
        **{name: answer(draw, asked) for name, asked in others.items() if asked},
    }
    recoloured = colour_questions(what.data, counts.colours)
    combined = spread(read_sheet_prompts()["combinations"], counts.combinations)
    prompts = [q.prompt for q in spread(captions.asked, counts.variety_prompts)]
    return {
        "named": {name: named(judged, found) for name, found in answers.items()},
        "colours": colours(judged, draw, recoloured) if recoloured else None,
        "looks": looks(judged, captions),
        "nearest": closeness(judged, captions, [draw(p, i) for i, p in enumerate(combined)]),
        "variety": variety(judged, draw, prompts, SEEDS_ASKED),
    }


def kept_at_every_size(what: Measured) -> list[PromptQuestion]:
    """Trained captions whose true pictures exist at the size of the last stage."""
    largest = what.cascade.specs[-1].makes.width
    places = {
        (e.icon, e.style)
        for i, e in enumerate(what.data.examples)
        if largest <= len(what.data.picture(i, 256)) or what.data.pictures_1024[i]
    }
    asked = trained_captions(what.data, len(what.data.examples))
    return spread([q for q in asked if (q.icon, q.style) in places], what.counts.continued)


def measure(what: Measured, say: Say) -> dict[str, Any]:
    """All figures of a bundle, and how long each part took."""
    seconds: dict[str, float] = {}

    def timed(name: str, part: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        found = part()
        seconds[name] = round(time.perf_counter() - begun, 1)
        say(f"{name}: {seconds[name]} s")
        return found

    cascade, data = what.cascade, what.data
    figures = {
        "base": timed("base", lambda: base_figures(what)),
        "held_out": timed(
            "held out",
            lambda: held_out_figures(cascade, data, what.checkpoints, what.counts.held_out),
        ),
        "continued": timed(
            "continued", lambda: continued_figures(cascade, data, kept_at_every_size(what))
        ),
        "counts": asdict(what.counts),
    }
    wanted = [spec.name for spec in cascade.specs[1:]]
    lacking = [name for name in wanted if regression(cascade, what.checkpoints, name) is None]
    return {**figures, "regression_not_trained": lacking, "seconds": seconds}


def described(bundle: Bundle, run: dict[str, str]) -> dict[str, Any]:
    """Which bundle was measured, and how its stages run by default."""
    graphs = [file for component in bundle.manifest.components for file in component.files]
    hashes = {entry.name: entry.sha256 for entry in bundle.manifest.files}
    return {
        "name": bundle.manifest.name,
        "id": bundle.bundle_id,
        "files": {file: hashes[file] for file in graphs},
        "run": run,
        "stages": {
            spec.name: {
                "steps": spec.steps,
                "sampler": spec.sampler,
                "guidance": spec.guidance.weight,
                "augmentation": spec.augmentation.default if spec.augmentation else None,
                "evaluations": evaluations(spec.steps, spec.guidance.weight, spec.guidance.taught),
            }
            for spec in diffusion_specs(bundle.manifest.components)
        },
    }


def evaluations(steps: int, weight: float, taught: Sequence[float]) -> int:
    """Of the network for one picture: guidance doubles them unless it was taught."""
    return steps if taught or weight == 1.0 else 2 * steps


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--bundle", type=Path, default=Path("bundles/emoji-1"))
    add("--data", type=Path, default=Path("data/emoji.npz"), help="prepared data")
    add("--checkpoints", type=Path, default=Path("checkpoints"), help="probe and regressions")
    add("--out", type=Path, help="folder for quality.json and the sheets")
    add("--before", type=Path, help="another bundle, shown beside it on the sheets")
    add("--engine", default=AUTO, help="as for `cascade generate`")
    add("--precision", default=AUTO, help="ditto")
    add("--threads", type=int, default=0, help="of one run, 0 for all cores")
    add("--quick", action="store_true", help="a fifth of the pictures, no sheets")
    args = parser.parse_args()
    bundle = open_bundle(args.bundle)
    engine_options = parse_engine_options(args.engine, args.precision, args.threads)
    cascade, run = open_cascade(bundle, engine_options)
    data = open_dataset(args.data)
    probe, facts = load_probe(args.checkpoints / "probe")
    size = cascade.specs[0].makes.width
    judged = make_judge(probe, facts["names"], data, size)
    counts = QUICK if args.quick else SampleCounts()
    found = measure(Measured(cascade, data, judged, args.checkpoints, counts), print)
    figures = {"bundle": described(bundle, run), "probe": probe_facts(facts), **found}
    print("\n" + quality_tables(figures))
    if args.out is None:
        return
    args.out.mkdir(parents=True, exist_ok=True)
    write_record(args.out / "quality.json", figures)
    if not args.quick:
        after = write_sheets(cascade, args.out, 0, print)
        if args.before is not None:
            before, _ = open_cascade(open_bundle(args.before), engine_options)
            write_comparison(before, after, args.out, 0, print)


if __name__ == "__main__":
    main()
