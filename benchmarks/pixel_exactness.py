"""How many values differ between engines, threads, batches, instruction sets and machines?

    python -m benchmarks.pixel_exactness --data emoji.npz --checkpoints checkpoints [--json FILE]
    ... [--emulated "arm64=qemu-aarch64-static -L ROOT ROOT/usr/bin/python3.11"]

The trained network of a stage and the float network with the same weights answer the same
questions: every pass of held-out pictures, all three channels. The first answers are ONNX Runtime's
on one thread, a sample at a time. Every other row runs in a process of its own, so that a
library's own switch can take instruction sets away. Logits and features are compared bit for bit;
decisions are drawn from logits that differ with the same words.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.lib.record import write_record
from cascade.graph_spec import TensorSpec
from cascade.types import Array
from export.graphs import export_graph
from stages.data.dataset import Dataset, open_dataset
from stages.data.loader import pad
from stages.data.pixel_passes import one_pass
from stages.evaluation.pixel_bits import held_out
from stages.networks.exact import frozen
from stages.networks.pixel_network import PixelNetwork
from stages.pixel_presets import PIXEL_PRESETS, PixelPreset
from stages.training.checkpoint import load_part
from stages.training.pixel_objective import CENTRE, asked, symbols_of

EMULATED_DECISIONS = 20_000
"""An emulator takes some hundred times as long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExactnessRow:
    """One way to answer."""

    name: str
    engine: str
    options: tuple[str, ...] = ()
    switches: dict[str, str] = field(default_factory=dict)
    """Environment variables of the libraries."""
    python: tuple[str, ...] = (sys.executable,)
    """What starts Python, an emulator before it perhaps."""
    decisions: int | None = None
    """Fewer than all."""


def rows() -> list[ExactnessRow]:
    """All rows but those of emulators; the first one's answers are what the others are held to."""
    mixed = ("--batch", "8", "--order", "mixed")
    found = [ExactnessRow(name="ONNX Runtime, 1 thread, one sample", engine="ort")]
    for threads in (2, 4):
        options = ("--threads", str(threads))
        found.append(
            ExactnessRow(name=f"ONNX Runtime, {threads} threads", engine="ort", options=options)
        )
    for batch in (2, 8):
        options = ("--batch", str(batch))
        found.append(
            ExactnessRow(name=f"ONNX Runtime, batch {batch}", engine="ort", options=options)
        )
    found += [
        ExactnessRow(name="ONNX Runtime, batch 8, passes mixed", engine="ort", options=mixed),
        ExactnessRow(name="OpenVINO", engine="openvino"),
        ExactnessRow(
            name="OpenVINO, 4 threads, batch 8, passes mixed",
            engine="openvino", options=(*mixed, "--threads", "4"),
        ),
        ExactnessRow(name="PyTorch", engine="torch"),
        ExactnessRow(
            name="PyTorch, 4 threads, batch 8, passes mixed",
            engine="torch", options=(*mixed, "--threads", "4"),
        ),
    ]  # fmt: skip
    for isa, capability in (("AVX2", "avx2"), ("SSE41", "default")):
        torch_switches = {
            "ATEN_CPU_CAPABILITY": capability,
            "ONEDNN_MAX_CPU_ISA": isa,
            "MKL_ENABLE_INSTRUCTIONS": "SSE4_2" if isa == "SSE41" else "AVX2",
        }
        options = ("--batch", "8")
        found += [
            ExactnessRow(
                name=f"PyTorch, {isa}, batch 8",
                engine="torch", options=options, switches=torch_switches,
            ),
            ExactnessRow(
                name=f"OpenVINO, {isa}, batch 8",
                engine="openvino", options=options, switches={"ONEDNN_MAX_CPU_ISA": isa},
            ),
        ]  # fmt: skip
    return found


def emulated(name: str, command: str, decisions: int) -> ExactnessRow:
    """ONNX Runtime on an emulated processor; it has no switch of its own for instruction sets."""
    return ExactnessRow(
        name=f"ONNX Runtime, {name} (emulated)",
        engine="bare",
        python=tuple(shlex.split(command)),
        decisions=decisions,
    )


def prepare(
    network: PixelNetwork, preset: PixelPreset, questions: dict[str, Array], folder: Path
) -> None:
    """Questions, graphs and the network as files."""
    widths = {"features": np.array(preset.config.features)}
    np.savez(folder / "questions.npz", **questions, **widths)
    torch.save(network, folder / "network.pt")
    body = {n: v for n, v in questions.items() if n in body_names(questions)}
    features = np.zeros((*questions["targets"].shape, preset.config.features), np.float32)
    heads = {n: questions[n][0] for n in ("earlier", "match")} | {"features": features}
    count = features.shape[1]
    answers = {"high": 16, "low": 256, "copy": preset.config.candidates + 1}
    outputs = {
        "body": [spec("features", features)],
        "heads": [spec(n, np.zeros((1, count, w), np.float32)) for n, w in answers.items()],
    }
    for role, case in (("body", body), ("heads", heads)):
        inputs = [spec(name, value) for name, value in case.items()]
        model = export_graph(getattr(network, role), inputs, outputs[role])
        (folder / f"{role}.onnx").write_bytes(model.SerializeToString())


def body_names(questions: dict[str, Array]) -> list[str]:
    """Inputs of the body."""
    every = ("canvas", "known", "pass_index", "targets", "context", "context_mask", "aug_level")
    return [name for name in (*every, "low_res") if name in questions]


def spec(name: str, value: Array) -> TensorSpec:
    """A signature by an example; samples and tokens are free."""
    shape: list[int | str] = ["batch", *value.shape[1:]]
    if name.startswith("context"):
        shape[1] = "tokens"
    dtype: Any = value.dtype.name
    return TensorSpec(name=name, dtype=dtype, shape=tuple(shape))


def questions_of(
    preset: PixelPreset, data: Dataset, limit: int, draws: int = 1
) -> dict[str, Array]:
    """Every pass of held-out pictures, pictures outermost, all values told in turn."""
    pictures, texts = (found[:limit] for found in held_out(data, preset.resolution))
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    pixels = pixels.repeat_interleave(preset.passes, 0)
    passes = torch.arange(preset.passes).repeat(len(pictures))
    context, mask = (t.repeat_interleave(preset.passes, 0) for t in pad(texts))
    level = torch.zeros(len(pixels))
    batch = one_pass(preset, pixels, pixels.float(), passes, level, (context, mask))
    symbols = symbols_of(batch)
    earlier, match = asked(batch, symbols)
    copied = (batch.candidates - batch.guess[:, :, None] + CENTRE) % 256
    shape = (3, len(pixels), *earlier.shape[1:])
    rng = np.random.default_rng(0)
    found = {
        name: getattr(batch, name).numpy()
        for name in body_names(dict.fromkeys(("canvas", "known", "pass_index", "targets")))
    }
    for name in ("context", "context_mask", "aug_level", "low_res"):
        value = getattr(batch, name)
        if value is not None:
            found[name] = value.numpy()
    return found | {
        "earlier": earlier.reshape(shape).numpy(),
        "match": match.reshape(3, len(pixels), *match.shape[1:]).float().numpy(),
        "symbols": copied.permute(3, 0, 2, 1).to(torch.uint8).numpy(),
        "words": rng.integers(0, 1 << 32, (3, len(pixels), draws, 2, shape[2]), dtype=np.uint32),
        "arithmetic": np.array("exact" if preset.exact else "float"),
    }


def answered(row: ExactnessRow, folder: Path) -> dict[str, Any]:
    """Run a row in its own process."""
    command = [*row.python, "-m", "benchmarks.lib.exact_answers", str(folder)]
    command += ["--engine", row.engine, *row.options]
    if row.decisions is not None:
        command += ["--decisions", str(row.decisions)]
    surroundings = {**os.environ, **row.switches}
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1:] or [str(done.returncode)]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compared(
    preset: PixelPreset, args: argparse.Namespace, more: Sequence[ExactnessRow]
) -> list[Any]:
    """The table of one network."""
    network = preset.network()
    network.load_state_dict(load_part(args.checkpoints / preset.name, "ema"))
    table = []
    with tempfile.TemporaryDirectory(dir=args.scratch) as name:
        folder = Path(name)
        questions = questions_of(preset, open_dataset(args.data), args.pictures, args.draws)
        prepare(frozen(network), preset, questions, folder)
        for row in [*rows(), *more]:
            if not row.name.startswith(tuple(args.rows)):
                continue
            found = answered(row, folder)
            table.append({"row": row.name, "switches": row.switches, **found})
            print_row(table[-1])
    return table


def print_row(found: dict[str, Any]) -> None:
    """One line of the table."""
    if "failed" in found:
        print(f"{found['row']:50} {found['failed']}", flush=True)
        return
    counts = [f"{found[k]:,}" for k in ("logits_differ", "logits", "decisions_differ", "decisions")]
    print(f"{found['row']:50} {counts[0]:>11} of {counts[1]:>11} {counts[2]:>7} of {counts[3]:>9}",
          flush=True)  # fmt: skip


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="prepared data")
    add("--checkpoints", type=Path, required=True, help="folder of trained stages")
    add("--draws", type=int, default=1, help="decisions from each value's logits (%(default)s)")
    add("--rows", nargs="+", default=[""], help="begins of rows' names; the first is always needed")
    add("--pictures", type=int, default=54, help="held-out pictures (%(default)s)")
    add("--stage", default="px32", help="preset (%(default)s)")
    add("--nets", nargs="+", choices=("exact", "float"), default=["exact", "float"])
    add(
        "--emulated", nargs="*", default=[], metavar="NAME=COMMAND", help="what starts Python there"
    )
    add("--emulated-decisions", type=int, default=EMULATED_DECISIONS)
    add("--scratch", type=Path, default=None, help="folder for some hundred MB")
    add("--json", type=Path, default=None, help="where the figures go")
    args = parser.parse_args()
    torch.set_num_threads(1)
    more = [
        emulated(*entry.split("=", 1), args.emulated_decisions)  # type: ignore[misc]
        for entry in args.emulated
    ]
    found = {}
    for net in args.nets:
        print(f"{args.stage}, {net}: logits that differ, decisions that differ", flush=True)
        preset = replace(PIXEL_PRESETS[args.stage], exact=net == "exact")
        found[net] = compared(preset, args, more)
    write_record(args.json, {"stage": args.stage, **found})


if __name__ == "__main__":
    main()
