"""What does a text encoder in blocks do to pictures: how far do they move, and do they show less?

    python -m benchmarks.block_pictures [--prompts 20] [--checkpoints checkpoints] [--json FILE]

The encoder of emoji-1 is exported in float32 and in blocks of 8 and 4 bits. Each encodes the same
prompts; the bundle's other stages draw them in float32 with one seed per prompt, at every
default. PSNR of every stage's picture against the float32 encoder's: median and worst. With a
probe (`cascade probe`) also what it names of the base stage's pictures. The cut makes no
difference: embeddings cross the wire as they are.
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
from stages.evaluation.probe import judge, load_probe

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
    cascade: LocalCascade, prompts: Sequence[str], embeddings: Sequence[ContextF16], last: int
) -> list[list[ImageU8]]:
    """Every prompt's pictures up to stage number `last`, with embeddings and a seed of its own."""
    found = []
    for seed, (prompt, context) in enumerate(zip(prompts, embeddings, strict=True)):
        cascade.contexts[prompt] = context
        found.append(cascade.pictures(prompt, seed=seed, last=last))
    return found


def moved(
    names: Sequence[str], exact: Sequence[Sequence[ImageU8]], found: Sequence[Sequence[ImageU8]]
) -> dict[str, Any]:
    """Median and worst PSNR of each stage's pictures, and how many are equal."""
    rows: dict[str, Any] = {}
    for number, name in enumerate(names):
        pairs = [(one[number], other[number]) for one, other in zip(exact, found, strict=True)]
        values = [min(psnr_db(one, other), 99.0) for one, other in pairs]
        rows[name] = {"median": statistics.median(values), "worst": min(values)}
    return rows


def probed(
    folder: Path, cascade: LocalCascade, bundle: Bundle, files: Mapping[str, Path], count: int
) -> dict[str, Any]:
    """What a probe names of the base stage's pictures, by the encoder that read the prompts."""
    probe, facts = load_probe(folder)
    icons = list(facts["names"])
    asked = reworded_questions(icons, count)
    prompts = [question.prompt for question in asked]
    found = {}
    for name, file in files.items():
        pictures = drawn(cascade, prompts, contexts(bundle, file, prompts), 0)
        verdict = judge(
            probe,
            [picture[0] for picture in pictures],
            [icons.index(question.icon) for question in asked],
            [STYLES.index(question.style) for question in asked],
        )
        found[name] = asdict(verdict)
    return found


def plain_questions(count: int) -> list[PromptQuestion]:
    """Prompts over concepts and styles in turn."""
    return [
        PromptQuestion(f"a {icon}, {style} style", icon, style)
        for number in range(count)
        for icon, style in [(CONCEPTS[number % len(CONCEPTS)], STYLES[number // 10 % len(STYLES)])]
    ]


def main() -> None:
    """Draw, compare and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=20, help="whose pictures are compared (20)")
    parser.add_argument("--asked", type=int, default=60, help="prompts for the probe (60)")
    parser.add_argument("--checkpoints", type=Path, help="folder with a probe; none judges nothing")
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    bundle = open_bundle(Path("bundles/emoji-1"))
    cascade, _ = open_cascade(bundle, parse_engine_options("ort", "fp32", 0))
    prompts = [question.prompt for question in plain_questions(args.prompts)]
    names = [spec.name for spec in cascade.specs]
    record: dict[str, Any] = {"pictures": {}}
    with tempfile.TemporaryDirectory(prefix="block-pictures-") as folder:
        export(Path(folder), precisions=BLOCKS)
        files = {name: Path(folder) / f"{name}.onnx" for name in (EXACT, *BLOCKS)}
        exact = drawn(cascade, prompts, contexts(bundle, files[EXACT], prompts), len(names) - 1)
        for name in [name for name in files if name != EXACT]:
            other = drawn(cascade, prompts, contexts(bundle, files[name], prompts), len(names) - 1)
            record["pictures"][name] = moved(names, exact, other)
            for stage, row in record["pictures"][name].items():
                print(
                    f"{name:12} {stage:8} median {row['median']:5.1f} dB  worst {row['worst']:5.1f}"
                )
        if args.checkpoints is not None:
            probe = args.checkpoints / "probe"
            record["probe"] = probed(probe, cascade, bundle, files, args.asked)
            for name, verdict in record["probe"].items():
                print(f"{name:12} " + "  ".join(f"{k} {v:.3f}" for k, v in verdict.items()))
    cascade.close()
    write_record(args.json, record)


if __name__ == "__main__":
    main()
