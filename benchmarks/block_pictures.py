"""What does a text encoder in blocks do to pictures: how far do they move, and do they show less?

    python -m benchmarks.block_pictures [--asked 60] [--large 20] [--checkpoints DIR] [--json FILE]

The encoder of emoji-1 is exported in float32 and in blocks of 8 and 4 bits (`--encoders` keeps the
files for another time). Each encodes the same prompts; the bundle's other stages draw them in
float32 with one seed per prompt, at every default. PSNR of each stage's picture against the
float32 encoder's: median and worst. With a probe (`cascade probe`) also what it names of the base
stage's pictures. The cut makes no difference: embeddings cross the wire as they are.
"""

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.block_encoder import export
from benchmarks.lib.local_cascade import LocalCascade, open_cascade
from benchmarks.lib.prompt_lists import PromptQuestion, reworded_questions
from benchmarks.lib.record import write_record
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.engines.ort import OrtEngine
from cascade.events import StageFinished
from cascade.precision import BLOCKS, Precision
from cascade.request import GenerateRequest, Handoff
from cascade.text.family import text_encoder_of
from cascade.text.stage import TextEncoderStage
from cascade.text.tokenizer import PromptTokenizer
from cascade.tuning.options import parse_engine_options
from cascade.types import ContextF16, ImageU8
from stages.data.captions import STYLES
from stages.evaluation.metrics import psnr_db
from stages.evaluation.probe import Probe, judge, load_probe

EXACT = Precision.FP32.value
CONCEPTS = ("apple", "robot", "cactus", "cat", "rocket", "pizza", "guitar", "tree", "sun", "fish")
"""Asked for where no probe says which concepts there are."""


def contexts(bundle: Bundle, file: Path, prompts: Sequence[str]) -> list[ContextF16]:
    """The embeddings of some prompts by one encoder's file, as they would cross the wire."""
    spec = text_encoder_of(bundle.manifest.components)
    tokenizer = PromptTokenizer(bundle.read(spec.tokenizer_file), spec.max_tokens)
    stage = TextEncoderStage(spec, tokenizer, OrtEngine(file.read_bytes()))
    found = []
    for prompt in prompts:
        events = stage.run(GenerateRequest(prompt=prompt), Handoff(prompt=prompt))
        done = next(event for event in events if isinstance(event, StageFinished))
        assert done.handoff.context is not None
        found.append(done.handoff.context)
    stage.close()
    return found


def drawn(
    cascade: LocalCascade, prompt: str, contexts: Mapping[str, ContextF16], seed: int, last: int
) -> dict[str, list[ImageU8]]:
    """A prompt's pictures up to stage number `last`, by the encoder that read it."""
    found = {}
    for name, context in contexts.items():
        cascade.contexts[prompt] = context
        found[name] = cascade.pictures(prompt, seed=seed, last=last)
    return found


def moved(
    names: Sequence[str], pictures: Sequence[Mapping[str, Sequence[ImageU8]]], encoder: str
) -> dict[str, Any]:
    """PSNR of one encoder's pictures against the float32 encoder's, by stage."""
    rows: dict[str, Any] = {}
    for number, name in enumerate(names):
        values = [
            min(psnr_db(one[EXACT][number], one[encoder][number]), 99.0)
            for one in pictures
            if number < len(one[EXACT])
        ]
        rows[name] = {
            "pictures": len(values),
            "median": statistics.median(values),
            "worst": min(values),
        }
    return rows


def named(
    probe: Probe,
    icons: Sequence[str],
    asked: Sequence[PromptQuestion],
    pictures: Sequence[Mapping[str, Sequence[ImageU8]]],
) -> dict[str, Any]:
    """What a probe names of the base stage's pictures, by encoder."""
    concepts = [icons.index(question.icon) for question in asked]
    styles = [STYLES.index(question.style) for question in asked]
    return {
        name: asdict(judge(probe, [one[name][0] for one in pictures], concepts, styles))
        for name in pictures[0]
    }


def plain_questions(count: int) -> list[PromptQuestion]:
    """Prompts over concepts and styles in turn."""
    return [
        PromptQuestion(f"a {icon}, {style} style", icon, style)
        for number in range(count)
        for icon, style in [(CONCEPTS[number % len(CONCEPTS)], STYLES[number // 10 % len(STYLES)])]
    ]


def encoders(folder: Path) -> dict[str, Path]:
    """The files of the encoders, exported where they are not there yet."""
    files = {name: folder / f"{name}.onnx" for name in (EXACT, *sorted(BLOCKS))}
    if not all(file.exists() for file in files.values()):
        export(folder, precisions=BLOCKS)
    return files


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Draw and compare."""
    bundle = open_bundle(Path("bundles/emoji-1"))
    cascade, _ = open_cascade(bundle, parse_engine_options("ort", "fp32", 0))
    names = [spec.name for spec in cascade.specs]
    asked, probe, icons = plain_questions(args.asked), None, list[str]()
    if args.checkpoints is not None:
        probe, facts = load_probe(args.checkpoints / "probe")
        icons = list(facts["names"])
        asked = reworded_questions(icons, args.asked)
    prompts = [question.prompt for question in asked]
    read = {name: contexts(bundle, file, prompts) for name, file in encoders(folder).items()}
    pictures = []
    for seed, prompt in enumerate(prompts):
        last = sum(seed < count for count in (args.prompts, args.large))
        own = {name: found[seed] for name, found in read.items()}
        pictures.append(drawn(cascade, prompt, own, seed, last))
        print(f"{seed + 1} of {len(prompts)}", flush=True)
    cascade.close()
    record = {"pictures": {n: moved(names, pictures, n) for n in read if n != EXACT}}
    if probe is not None:
        record["probe"] = named(probe, icons, asked, pictures)
    return record


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--asked", type=int, default=60, help="prompts that base draws (60)")
    parser.add_argument("--prompts", type=int, default=20, help="of them, up to 256 pixels (20)")
    parser.add_argument("--large", type=int, default=20, help="of them, up to 1024 pixels (20)")
    parser.add_argument("--checkpoints", type=Path, help="folder with a probe; none judges nothing")
    parser.add_argument("--encoders", type=Path, help="folder of the exported encoders")
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="block-pictures-") as folder:
        record = measure(args, args.encoders or Path(folder))
    for name, stages in record["pictures"].items():
        for stage, row in stages.items():
            print(
                f"{name:12} {stage:8} {row['pictures']:3} pictures  "
                f"median {row['median']:5.1f} dB  worst {row['worst']:5.1f}"
            )
    for name, verdict in record.get("probe", {}).items():
        print(f"{name:12} " + "  ".join(f"{k} {v:.3f}" for k, v in verdict.items()))
    write_record(args.json, record)


if __name__ == "__main__":
    main()
