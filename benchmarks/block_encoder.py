"""What do blocks of 8 and 4 bits make of a text encoder, beside fp16 and int8?

    python -m benchmarks.block_encoder [--megabytes 400] [--json FILE]

The encoder of emoji-1, or with `--megabytes` a T5 encoder of that size with random weights, is
exported in float32 and in both precisions, with its weights inside. Beside them: `fp16`, every
weight rounded to 16 bits and widened by the graph; `int8`, ONNX Runtime's own dynamic
quantisation, a scale per column. Each file is opened in ONNX Runtime in a process of its own:
memory that it adds, peak while it is opened, and CPU milliseconds of a run of 12 tokens, which a
busy machine changes little. Error: worst PSNR of a prompt's embeddings against float32, as the
exporter judges them.
"""

import argparse
import copy
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lib.record import write_record
from cascade.engines.ort import OrtEngine
from cascade.precision import Precision
from cascade.system.free_memory import give_back_free_memory

TOKENS = 12
RUNS = 41
PRECISIONS = ("fp16", "int8", "int8-block", "int4-block")
SMALL = 256
"""Weights of fewer numbers stay as they are."""


def memory() -> dict[str, float]:
    """Resident memory of this process and its peak so far, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kib = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    return {"resident": int(kib["VmRSS"]) / 976.5625, "peak": int(kib["VmHWM"]) / 976.5625}


def opened(file: Path) -> dict[str, float]:
    """What one file takes in this process."""
    before = memory()["resident"]
    # All by ONNX Runtime; a client takes large weights out of the graph first (decision 50).
    engine = OrtEngine(file.read_bytes(), threads=2)
    peak = memory()["peak"]
    inputs = {
        "token_ids": np.arange(100, 100 + TOKENS)[None],
        "token_mask": np.ones((1, TOKENS), np.float32),
    }
    taken = []
    for _ in range(RUNS):
        begun = time.process_time()
        engine.run(inputs)
        taken.append(time.process_time() - begun)
    give_back_free_memory()
    return {
        "file_mb": file.stat().st_size / 1e6,
        "memory_mb": memory()["resident"] - before,
        "peak_mb": peak - before,
        "cpu_ms": 1e3 * statistics.median(taken),
    }


def described(megabytes: float) -> Any:
    """The reference cascade's encoder, or one of about some megabytes with random weights."""
    from benchmarks.large_component import encoder  # noqa: PLC0415  see `export`
    from export.adapters.reference_cascade import reference_encoder  # noqa: PLC0415
    from export.description import TextEncoderDescription  # noqa: PLC0415

    if not megabytes:
        return reference_encoder()
    network = encoder(megabytes)
    width = network.encoder.config.d_model
    cases = tuple(
        {"token_ids": np.arange(100, 100 + n)[None], "token_mask": np.ones((1, n), np.float32)}
        for n in (4, TOKENS, 40)
    )
    return TextEncoderDescription(
        network=network, tokenizer=b"", max_tokens=77, context_width=width,
        provenance="random", samples=cases,
    )  # fmt: skip


def half_graph(model: Any) -> bytes:
    """The graph with every large weight in 16 bits, and a node that widens it."""
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415  see `export`

    graph, nodes = copy.deepcopy(model).graph, []
    weights = list(graph.initializer)
    del graph.initializer[:]
    for tensor in weights:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.size >= SMALL:
            stored = f"{tensor.name}_half"
            nodes.append(helper.make_node("Cast", [stored], [tensor.name], to=TensorProto.FLOAT))
            tensor = numpy_helper.from_array(value.astype(np.float16), stored)  # noqa: PLW2901
        graph.initializer.append(tensor)
    body = list(graph.node)
    del graph.node[:]
    graph.node.extend(nodes + body)
    opsets = list(model.opset_import)
    return helper.make_model(
        graph, opset_imports=opsets, ir_version=model.ir_version
    ).SerializeToString()


def dynamic_graph(model: Any, folder: Path) -> bytes:
    """The graph as ONNX Runtime quantises it: 8-bit weights, inputs rounded in every run."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415

    source, made = folder / "source.onnx", folder / "dynamic.onnx"
    source.write_bytes(model.SerializeToString())
    # Its advice to preprocess the graph is for graphs with convolutions.
    logging.disable(logging.WARNING)
    quantize_dynamic(source, made, per_channel=True, weight_type=QuantType.QInt8)
    logging.disable(logging.NOTSET)
    source.unlink()
    return made.read_bytes()


def export(
    folder: Path, megabytes: float = 0, precisions: Iterable[str] = PRECISIONS
) -> dict[str, float]:
    """Write a file for float32 and each of some precisions; the error of each, decibels."""
    # Torch, which the processes that are measured must not load.
    from export.blocks.graph import FORMS, make_block_graph  # noqa: PLC0415
    from export.components.blocks import worst_context_db  # noqa: PLC0415
    from export.components.component import make_graph  # noqa: PLC0415
    from export.components.text_encoder import network_source  # noqa: PLC0415

    encoder = described(megabytes)
    cases = encoder.samples
    graph = make_graph(network_source(encoder, cases), print)
    (folder / "fp32.onnx").write_bytes(graph.stored)
    exact, found = OrtEngine(graph.stored), {"fp32": float("inf")}
    for precision in precisions:
        if precision == "fp16":
            data = half_graph(graph.optimized)
        elif precision == "int8":
            data = dynamic_graph(graph.optimized, folder)
        else:
            made = make_block_graph(graph.optimized, FORMS[Precision(precision)])
            assert made is not None
            data = made.data
        (folder / f"{precision}.onnx").write_bytes(data)
        found[precision] = worst_context_db(exact, OrtEngine(data), cases)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument(
        "--megabytes", type=float, default=0, help="of an encoder with random weights (emoji-1's)"
    )
    parser.add_argument("--file", type=Path, help="open this one, in this process")
    args = parser.parse_args()
    if args.file:
        print(json.dumps(opened(args.file)))
        return
    rows = {}
    with tempfile.TemporaryDirectory(prefix="block-encoder-") as folder:
        for name, error in export(Path(folder), args.megabytes).items():
            command = [sys.executable, "-m", "benchmarks.block_encoder"]
            command += ["--file", f"{folder}/{name}.onnx"]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows[name] = {**json.loads(said), "context_db": min(error, 200.0)}
    for name, row in rows.items():
        print(f"{name:11} " + "  ".join(f"{what} {value:.1f}" for what, value in row.items()))
    write_record(args.json, {"precisions": rows})


if __name__ == "__main__":
    main()
