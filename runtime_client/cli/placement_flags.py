"""The flags that say where components run: `--cut`, or `--here`, `--there` and `--placement`.

Knows argparse; what a placement means is known elsewhere.
"""

# ruff: noqa: E501  one option per line, however long its help

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from cascade.assignments import AUTO
from cascade.errors import InvalidRequest
from cascade.quantities import parse_duration
from runtime_client.config import DEFAULT_CUT, ClientConfig
from runtime_client.placement import parse_here_there, parse_placement
from runtime_client.wish import Wish


def add_placement_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a placement that is given."""
    add = parser.add_argument
    # fmt: off
    add("--cut", type=int, metavar="N", help=f"components that run here, 0 to all of them (default: {DEFAULT_CUT})")
    add_place_flags(parser)
    # fmt: on


def add_chosen_placement_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a placement that is given or chosen."""
    add = parser.add_argument
    # fmt: off
    add("--cut", type=cut_or_auto, metavar="N", help=f"components that run here, 0 to all of them, or auto: the cut that suits the link, the server and this machine best (default: {DEFAULT_CUT})")
    add_place_flags(parser)
    # fmt: on
    add_wish_flags(parser)


def add_wish_flags(parser: argparse.ArgumentParser) -> None:
    """Add what a chosen placement is chosen by."""
    add = parser.add_argument
    # fmt: off
    add("--within", metavar="T", help="the picture within this time, such as 1s. With a --cut or --placement of auto: the fewest bytes within it; where nothing is in time, the fastest. With a --server and a --format of auto: without loss if such a picture is in time, else in the format that loses least, which is said (default: the least time, and no loss)")
    least = parser.add_mutually_exclusive_group()
    least.add_argument("--least-bytes", dest="least", action="store_const", const="bytes", help="with auto: the fewest bytes on the link, within --within if it is given (default: off)")
    least.add_argument("--least-energy", dest="least", action="store_const", const="energy", help="with auto: the least work here, in joules where this machine tells them, else in processor seconds (default: off)")
    add("--words-stay-here", action="store_true", help="with auto: the prompt is encoded here and not sent (default: off)")
    # fmt: on


def add_place_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that place components by name."""
    add = parser.add_argument
    # fmt: off
    add("--here", metavar="NAMES", help="components that run here, NAME,...; the others run there, unless --there is given too (default: as --cut)")
    add("--there", metavar="NAMES", help="components that run on --server, or NAME=ADDRESS on another server; the others run here, unless --here is given too (default: as --cut)")
    add("--placement", metavar="MAP", help="the same as NAME=PLACE,... where a place is here, there or an address, and * is every other component; of generate and plan also auto: as --cut auto, among all mixtures of here and there (default: as --cut)")
    # fmt: on


def cut_or_auto(text: str) -> int | Literal["auto"]:
    """A cut as it is typed."""
    if text == AUTO:
        return "auto"
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number or {AUTO}, got {text!r}") from None


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
    if args.placement == AUTO and "least" in args:
        return None
    if args.placement is not None:
        return parse_placement(args.placement)
    return parse_here_there(args.here, args.there)


def cut_by(args: argparse.Namespace) -> int:
    """The cut that the flags give, or its default."""
    return DEFAULT_CUT if args.cut is None else args.cut


def with_placement(config: ClientConfig, args: argparse.Namespace) -> ClientConfig:
    """A configuration with what the flags say of a placement that is given or chosen."""
    chosen: dict[str, Any] = {"cut": DEFAULT_CUT if args.cut is None else args.cut}
    if args.placement == AUTO:
        chosen["placement"] = AUTO
    return replace(config, **chosen, wish=wish_of(args))


def wish_of(args: argparse.Namespace) -> Wish:
    """What the flags want of a placement that is chosen."""
    within_s = None if args.within is None else parse_duration(args.within, "within")
    return Wish(within_s=within_s, least=args.least, words_stay_here=args.words_stay_here)
