"""One way to answer the questions of `benchmarks.pixel_exactness`, in a process of its own.

    python -m benchmarks.lib.exact_answers FOLDER --engine ort|openvino|torch|bare [...]

Reads questions and graphs from the folder, runs them on one engine, and prints as JSON how many
values, logits and decisions are not those of the first answers, bit for bit. Without first answers
its own become them. Needs numpy and one engine: `bare` is ONNX Runtime without this project's
engines, for emulated machines.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cascade.pixels.logits import Logits
from cascade.pixels.mixture import Candidates, Mixture
from cascade.pixels.planes import WHOLE
from cascade.pixels.weights import chosen
from cascade.types import Array

Run = Callable[[Mapping[str, Array]], Mapping[str, Array]]
ANSWERS = ("high", "low", "copy")
DRAWN = "first.drawn.npy"
COUNTED = (
    "features", "features_differ", "logits", "logits_differ", "decisions", "decisions_differ"
)  # fmt: skip
CHANNELS = 3
BODY = ("canvas", "known", "pass_index", "targets", "low_res", "aug_level")
TEXT = ("context", "context_mask")


def open_run(args: argparse.Namespace, role: str) -> Run:
    """The graph of a role on the engine."""
    graph = args.folder / f"{role}.onnx"
    if args.engine == "bare":
        import onnxruntime  # noqa: PLC0415  one engine per process

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = args.threads
        session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda inputs: dict(zip(names, session.run(names, dict(inputs)), strict=True))
    if args.engine == "torch":
        import torch  # noqa: PLC0415  ditto

        from stages.evaluation.torch_engine import TorchEngine  # noqa: PLC0415

        torch.set_num_threads(args.threads)
        network = torch.load(args.folder / "network.pt", weights_only=False)
        outputs = ("features",) if role == "body" else ANSWERS
        return TorchEngine(getattr(network, role), *outputs).run
    from cascade.engines.factory import EngineChoice, EngineKind, open_engine  # noqa: PLC0415
    from cascade.precision import Precision  # noqa: PLC0415

    kind = EngineKind.ORT if args.engine == "ort" else EngineKind.OPENVINO
    choice = EngineChoice(kind, Precision.FP32, args.threads)
    return open_engine(graph.read_bytes(), choice).run


def batches(asked: Mapping[str, Array], size: int, order: str) -> Iterator[Array]:
    """Numbers of the samples of each run, `[B]`: of one pass, or of all passes mixed."""
    passes = asked["pass_index"]
    at = np.arange(len(passes)) if order == "mixed" else np.argsort(passes, kind="stable")
    for first in range(0, len(at), size):
        yield at[first : first + size]


def decisions(asked: Mapping[str, Array], channel: int, some: Array, answers: list[Array]) -> Array:
    """What is drawn from logits of some samples, `[B, draws, n]` uint8."""
    flat = [a.reshape(-1, a.shape[-1]) for a in answers]
    matched = asked["match"][channel, some] > 0
    candidates = Candidates(
        columns(asked["symbols"][channel, some]), columns(matched.transpose(0, 2, 1))
    )
    kind: Any = str(asked["arithmetic"])
    found = []
    for words in asked["words"][channel, some].swapaxes(0, 1):
        # `[B, 2, n]`: a word for each digit of every value.
        draw = [words[:, digit].reshape(-1) for digit in range(2)]

        def choose(digit: int, weights: Array, draw: list[Array] = draw) -> Array:
            return chosen(weights, draw[digit])

        drawn = Mixture(WHOLE, candidates).decide(Logits(*flat, kind), choose)
        found.append(drawn.reshape(len(some), -1))
    return np.stack(found, axis=1)


def columns(values: Array) -> Array:
    """`[B, K, n]` to `[K, B * n]`."""
    return np.ascontiguousarray(values.transpose(1, 0, 2).reshape(values.shape[1], -1))


def differing(found: Array, wanted: Array) -> int:
    """Values with other bits."""
    bits = np.dtype(f"u{found.itemsize}")
    return int(np.count_nonzero(found.view(bits) != wanted.view(bits)))


@dataclass
class Comparison:
    """The first answers, and how many of another engine's are not the same."""

    asked: Mapping[str, Array]
    first: Mapping[str, Array]
    """Of every output, all samples: `[S, n, F]` features, `[3, S, n, choices]` logits."""
    drawn: Array
    """Decisions, `[3, S, draws, n]` uint8."""
    is_first: bool
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    largest: float = 0.0

    def features(self, some: Array, found: Array) -> None:
        """Count features `[B, n, F]` of samples `[B]`."""
        if self.is_first:
            self.first["features"][some] = found
        self.counts["features"] += found.size
        self.counts["features_differ"] += differing(found, self.first["features"][some])

    def logits(self, channel: int, some: Array, found: Mapping[str, Array]) -> None:
        """Count logits `[B, n, choices]` of samples, and what is drawn from those that differ."""
        answers = [np.ascontiguousarray(found[name]) for name in ANSWERS]
        changed = 0
        for name, value in zip(ANSWERS, answers, strict=True):
            if self.is_first:
                self.first[name][channel, some] = value
            wanted = self.first[name][channel, some]
            changed += differing(value, wanted)
            self.counts["logits"] += value.size
            self.largest = max(self.largest, float(np.abs(value - wanted).max()))
        self.counts["logits_differ"] += changed
        self.counts["decisions"] += self.drawn[channel, some].size
        if self.is_first:
            self.drawn[channel, some] = decisions(self.asked, channel, some, answers)
        elif changed:
            choice = decisions(self.asked, channel, some, answers)
            self.counts["decisions_differ"] += int((choice != self.drawn[channel, some]).sum())


def open_comparison(folder: Path) -> Comparison:
    """With the first answers of a folder, or room for them."""
    asked = dict(np.load(folder / "questions.npz"))
    shape = asked["targets"].shape
    widths = {"high": 16, "low": 256, "copy": asked["match"].shape[-1] + 1}
    places = {"features": (*shape, int(asked["features"]))}
    places |= {name: (CHANNELS, *shape, width) for name, width in widths.items()}
    is_first = not (folder / DRAWN).exists()
    first = {
        name: np.lib.format.open_memmap(
            folder / f"first.{name}.npy",
            mode="w+" if is_first else "r",
            dtype=np.float32,
            shape=place,
        )
        for name, place in places.items()
    }
    draws = asked["words"].shape[2]
    none = np.zeros((CHANNELS, shape[0], draws, shape[1]), np.uint8)
    drawn = none if is_first else np.load(folder / DRAWN)
    return Comparison(asked, first, drawn, is_first)


def answered(args: argparse.Namespace) -> dict[str, Any]:
    """Run everything, count what differs from the first answers."""
    compared = open_comparison(args.folder)
    asked = compared.asked
    body, heads = open_run(args, "body"), open_run(args, "heads")
    names = [name for name in (*BODY, *TEXT) if name in asked]
    for some in batches(asked, args.batch, args.order):
        if compared.counts["decisions"] >= args.decisions:
            break
        features = body({name: asked[name][some] for name in names})["features"]
        compared.features(some, features)
        for channel in range(CHANNELS):
            question = {name: asked[name][channel, some] for name in ("earlier", "match")}
            compared.logits(channel, some, heads({"features": features, **question}))
    if compared.is_first:
        np.save(args.folder / DRAWN, compared.drawn)
    return {**compared.counts, "largest_difference_16": round(compared.largest, 7)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engine", required=True, choices=("ort", "openvino", "torch", "bare"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--order", choices=("passes", "mixed"), default="passes")
    parser.add_argument("--decisions", type=int, default=1 << 62, help="stop after so many")
    print(json.dumps(answered(parser.parse_args())))


if __name__ == "__main__":
    main()
