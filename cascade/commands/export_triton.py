"""`cascade export-triton`: a bundle as a model repository for NVIDIA Triton.

Knows flags; what is written, `cascade.bundle.triton_repository` knows.
"""

# ruff: noqa: E501  one option per line, however long its help

import argparse
from pathlib import Path
from typing import Any

from cascade.bundle.bundle import open_bundle
from cascade.bundle.default_bundle import add_bundle_argument, bundle_or_default
from cascade.bundle.triton_repository import DEVICES, RepositoryOptions, write_repository
from cascade.engines.triton_config import Serving
from cascade.precision import Precision
from cascade.tuning.options import parse_engine_options
from cascade.tuning.plan import requested_precisions

BACKENDS = {"onnxruntime": "", "onnxruntime-tensorrt": "FP32", "onnxruntime-tensorrt-fp16": "FP16"}
"""To the precision mode of ONNX Runtime's TensorRT provider."""


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    words = "write a bundle's graphs as a model repository for NVIDIA Triton"
    parser = subparsers.add_parser("export-triton", help=words, description=words)
    add = parser.add_argument
    add_bundle_argument(parser)
    # fmt: off
    add("-o", "--out", type=Path, required=True, metavar="REPO", help="folder to write; new or empty")
    add("--component", nargs="+", metavar="NAME", help="only these components (default: all that are here)")
    add("--precision", default=Precision.FP32.value, metavar="P", help=f"which files: {', '.join(Precision)}, or STAGE=P,... (default: fp32)")
    add("--backend", choices=tuple(BACKENDS), default="onnxruntime", help="what runs the graphs in Triton; the TensorRT ones compile on the server's card (default: onnxruntime)")
    add("--device", choices=DEVICES, default="auto", help="where (default: auto)")
    add("--instances", type=int, default=1, metavar="N", help="copies of each model that run at once (default: 1)")
    add("--max-batch", type=int, default=8, metavar="N", help="most rows of one run (default: 8)")
    add("--queue-delay-us", type=int, default=0, metavar="N", help="microseconds that a request waits for others to share its run (default: 0)")
    add("--tokens", type=int, default=0, metavar="N", help="pad texts to this length, so that prompts of any length share runs; 0 leaves them as long as their bucket (default: 0)")
    # fmt: on
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the repository and say what is in it."""
    bundle = open_bundle(bundle_or_default(args.bundle), runs=())
    manifest = bundle.manifest
    positions = [manifest.position(name) for name in args.component or ()] or bundle.here()
    bundle.require(positions)
    asked = parse_engine_options("auto", args.precision)
    options = RepositoryOptions(
        precisions=requested_precisions(manifest, asked),
        max_batch=args.max_batch,
        tokens=args.tokens,
        serving=serving_of(args),
    )
    for config in write_repository(bundle, sorted(set(positions)), options, args.out):
        inputs = ", ".join(f"{t.name} {list(t.dims)}" for t in config.inputs)
        print(f"{config.name:16} {inputs}")
    print(f"tritonserver --model-repository={args.out}")
    return 0


def serving_of(args: argparse.Namespace) -> Serving:
    """How Triton is to run every model."""
    tensorrt = BACKENDS[args.backend]
    return Serving(
        device="gpu" if tensorrt and args.device == "auto" else args.device,
        instances=args.instances,
        queue_delay_us=args.queue_delay_us,
        tensorrt=tensorrt,
    )
