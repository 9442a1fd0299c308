"""The flags that say where components run: `--cut`, or `--here`, `--there` and `--placement`.

Knows argparse; what a placement means is known elsewhere.
"""

# ruff: noqa: E501  one option per line, however long its help

import argparse
from collections.abc import Mapping

from cascade.errors import InvalidRequest
from runtime_client.config import DEFAULT_CUT
from runtime_client.placement import parse_here_there, parse_placement


def add_placement_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    add = parser.add_argument
    # fmt: off
    add("--cut", type=int, metavar="N", help=f"components that run here, 0 to all of them (default: {DEFAULT_CUT})")
    add("--here", metavar="NAMES", help="components that run here, NAME,...; the others run there, unless --there is given too (default: as --cut)")
    add("--there", metavar="NAMES", help="components that run on --server, or NAME=ADDRESS on another server; the others run here, unless --here is given too (default: as --cut)")
    add("--placement", metavar="MAP", help="the same as NAME=PLACE,... where a place is here, there or an address, and * is every other component (default: as --cut)")
    # fmt: on


def placed_by(args: argparse.Namespace) -> Mapping[str, str] | None:
    """The placement that the flags give; None where a cut says it.

    Raises:
        InvalidRequest: it is none, or is said in two ways.
    """
    ways = [
        name
        for name, given in (
            ("cut", args.cut is not None),
            ("placement", args.placement is not None),
            ("here", args.here is not None or args.there is not None),
        )
        if given
    ]
    if len(ways) > 1:
        raise InvalidRequest(
            f"{ways[1]}: --{ways[0]} says already where components run; leave one of them out",
            field=ways[1],
        )
    if args.placement is not None:
        return parse_placement(args.placement)
    return parse_here_there(args.here, args.there)


def cut_by(args: argparse.Namespace) -> int:
    """The cut that the flags give, or its default."""
    return DEFAULT_CUT if args.cut is None else args.cut
