"""The flags of `cascade upscale`: a picture of one's own, larger, by the stages of a bundle.

Knows argparse; what is done with them is imported when the command runs.
"""

# ruff: noqa: E501  one option per line, however long its help

import argparse
from pathlib import Path

from cascade.assignments import AUTO
from cascade.commands.exit_codes import DONE
from cascade.engines.kinds import ENGINE_WORDS
from cascade.precision import Precision
from runtime_client.cli.connection_flags import add_connection_flags
from runtime_client.cli.edit_flags import add_vector_flag, size
from runtime_client.config import DEFAULT_CUT, PICTURE_FORMATS

OUTPUT_HELP = "the picture: .png, .webp, .jpg, .avif, or - for a PNG on standard output"


def register_upscale(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `upscale`."""
    parser = subparsers.add_parser("upscale", help="enlarge a picture of one's own")
    add = parser.add_argument
    # fmt: off
    add("picture", nargs="?", type=Path, metavar="PICTURE", help="PNG, WebP, JPEG, AVIF, GIF, BMP, TIFF or PPM of any size; turned by its Exif orientation, transparency is kept; needed unless --kept")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help=OUTPUT_HELP)
    add("--kept", metavar="REQUEST_ID", help="in the place of PICTURE: a finished request whose results --server still keeps, as --json and --detach print its id (default: none)")
    add("--kept-stage", metavar="NAME", help="with --kept: the stage whose picture is enlarged, by the stages after it (default: the one before --first-stage, or before the last)")
    add("--kept-size", type=size, metavar="WxH", help="with --kept: the size of that picture (default: the bundle's)")
    add("--prompt", metavar="TEXT", help="what the picture shows, for stages that take words (default: no words)")
    add("--first-stage", metavar="NAME", help="the first stage that enlarges it; every later one follows (default: the bundle's last stage alone)")
    add("--last-stage", metavar="NAME", help="stop after this stage (default: the bundle's last)")
    add("--seed", type=int, default=0, metavar="N", help="0 to 2^64-1; same seed, same picture (default: 0)")
    add("--image-index", type=int, default=0, metavar="N", help="which picture of that seed, 0 to 2^32-1 (default: 0)")
    add("--set", dest="choices", metavar="STAGE.OPTION=VALUE", nargs="+", action="extend", default=[], help="any option of any stage, such as sr1024.steps=4; a wrong name lists what there is (default: none)")
    add("--cut", type=int, metavar="N", help=f"components that run here, 0 to all of them (default: all of them; {DEFAULT_CUT} with --server)")
    add("--threads", type=int, default=0, metavar="N", help="threads of the engines here; 0 is one per core allowed (default: 0)")
    add("--engine", default=AUTO, metavar="E", help=f"what runs the stages: auto, {', '.join(ENGINE_WORDS)}, or STAGE=E,... (default: auto)")
    add("--precision", default=AUTO, metavar="P", help=f"what they compute in: auto, {', '.join(Precision)}, or STAGE=P,...; a server that differs is refused (default: auto)")
    add("--format", choices=PICTURE_FORMATS, default="auto", help="how servers send pictures: auto is without loss, as are raw, webp and png; webp90, jpeg and avif take fewer bytes and lose pixels (default: auto)")
    add("--json", action="store_true", help="print one JSON object instead of the table, of an error too (default: off)")
    add("-q", "--quiet", action="store_true", help="no progress and no table (default: off)")
    # fmt: on
    add_vector_flag(parser)
    add_connection_flags(parser, "host:port or unix:PATH (default: everything runs here)")
    parser.set_defaults(run=run_upscale, interrupted="no picture was written")


def run_upscale(args: argparse.Namespace) -> int:
    """Make the picture; returns the exit code."""
    # Imported here: `cascade upscale --help` needs no codec and no manifest.
    from runtime_client.cli.upscale_command import upscale  # noqa: PLC0415

    upscale(args)
    return DONE
