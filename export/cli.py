"""`cascade export`: trained checkpoints to a bundle. Heavy imports happen inside the command."""

import argparse
from pathlib import Path
from typing import Any

from cascade.errors import MissingExtra


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "export",
        help="write a bundle from trained checkpoints",
        description="Export every component to ONNX, prove parity with torch, write the bundle.",
    )
    parser.add_argument("--checkpoints", type=Path, default=Path("checkpoints"))
    parser.add_argument("--out", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument("--data", type=Path, default=Path("data/emoji.npz"), help="prepared data")
    parser.set_defaults(run=run_export)


def run_export(args: argparse.Namespace) -> int:
    """Write a bundle."""
    try:
        from export.bundle_writer import export_bundle
    except ImportError as exc:
        raise MissingExtra(f"export needs: pip install 'edge-cascade[export]' ({exc})") from exc
    export_bundle(args.checkpoints, args.out, data_file=args.data, report=print)
    return 0
