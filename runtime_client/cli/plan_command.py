"""`cascade plan`: where the components of a request would run, and why, without running them.

Asks the server what it is; sends no prompt. Turns flags into a request and a wish; what a plan is
made of is known elsewhere.
"""

# ruff: noqa: E501  one option per line, however long its help

import argparse
import json
from dataclasses import replace

from cascade.assignments import AUTO
from cascade.bundle.default_bundle import bundle_or_default
from cascade.commands.exit_codes import DONE
from cascade.engines.kinds import ENGINE_WORDS
from cascade.errors import InvalidRequest
from cascade.precision import Precision
from cascade.quantities import parse_duration, parse_rate
from cascade.request import GenerateRequest
from runtime_client.cli.connection_flags import add_connection_flags, connection_config
from runtime_client.cli.placement_flags import add_wish_flags, wish_of
from runtime_client.client import Client
from runtime_client.config import DEFAULT_CUT
from runtime_client.planning.placement_plan import WhatIf

UNLIMITED_BYTES_S = 1e12
OF_PLACEMENTS = ("cuts_only", "what_if", "within", "least", "words_stay_here")
"""Flags that say nothing beside `--capacity`."""
FACTS = ("rtt", "up", "down", "queue")


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `plan`."""
    words = "say where each component would run best, and why, without running any"
    parser = subparsers.add_parser("plan", help=words, description=words)
    add = parser.add_argument
    # fmt: off
    add("prompt", nargs="?", metavar="PROMPT", help="what the picture shows; needed unless the cascade begins otherwise")
    add("--set", dest="choices", metavar="STAGE.OPTION=VALUE", nargs="+", action="extend", default=[], help="any option of any stage, such as base.steps=4 (default: the bundle's)")
    add("--last-stage", metavar="NAME", help="stop after this stage (default: the bundle's last)")
    add("--cuts-only", action="store_true", help="look at cuts alone, as --cut auto does, and not at every mixture of here and there (default: off)")
    add("--capacity", action="store_true", help="say what a replica can do instead: pictures per second, memory, bytes per picture; of the server, or without --server of this machine (default: off)")
    add("--cut", type=int, metavar="N", help=f"with --capacity: components that run on devices and not on the replica (default: {DEFAULT_CUT})")
    add("--what-if", metavar="FACTS", help="facts in the place of those that are known, such as rtt=80ms,up=1Mbit/s,down=10Mbit/s,queue=2s (default: none)")
    add("--threads", type=int, default=0, metavar="N", help="threads of the engines here; 0 is one per core allowed (default: 0)")
    add("--engine", default=AUTO, metavar="E", help=f"what would run the stages here: auto, {', '.join(ENGINE_WORDS)}, or STAGE=E,... (default: auto)")
    add("--precision", default=AUTO, metavar="P", help=f"what they would compute in: auto, {', '.join(Precision)}, or STAGE=P,... (default: auto)")
    add("--json", action="store_true", help="print one JSON object, of an error too (default: off)")
    # fmt: on
    add_wish_flags(parser)
    add_connection_flags(
        parser,
        "host:port or unix:PATH of the server to plan for; needed, unless --capacity is for this machine",
    )
    parser.set_defaults(run=run_plan)


def run_plan(args: argparse.Namespace) -> int:
    """Print the plan; returns the exit code."""
    # Imported here: `cascade plan --help` needs no option's type.
    from runtime_client.cli.capacity_table import FLEETS, render_capacity
    from runtime_client.cli.plan_table import render_plan
    from runtime_client.cli.set_options import parse_choice, with_choices

    check_flags(args)
    what_if = None if args.what_if is None else parse_what_if(args.what_if)
    config = replace(
        connection_config(args),
        cut="auto" if args.cuts_only else 0,
        placement=None if args.cuts_only or args.server is None else "auto",
        wish=wish_of(args),
        threads=args.threads,
        engine=args.engine,
        precision=args.precision,
        works_ahead=False,
    )
    choices = [parse_choice(text) for text in args.choices]
    with Client(bundle_or_default(args.bundle), config) as client:
        request = GenerateRequest(prompt=args.prompt, last_stage=args.last_stage)
        request = with_choices(client.bundle.manifest, request, choices)
        if args.capacity:
            cut = DEFAULT_CUT if args.cut is None else args.cut
            plan, render = client.capacity(request, cut).as_object(FLEETS), render_capacity
        else:
            plan, render = client.plan(request, what_if).as_object(), render_plan
    print(json.dumps(plan) if args.json else render(plan))
    return DONE


def check_flags(args: argparse.Namespace) -> None:
    """Refuse flags that say nothing together.

    Raises:
        InvalidRequest: naming the flag.
    """
    if not args.capacity:
        if args.cut is not None:
            raise InvalidRequest("cut: it belongs to --capacity", field="cut")
        if args.server is None:
            raise InvalidRequest("server: name the server to plan for", field="server")
        return
    for name in OF_PLACEMENTS:
        if getattr(args, name):
            flag = f"least-{args.least}" if name == "least" else name.replace("_", "-")
            raise InvalidRequest(
                f"{flag}: it chooses a placement, and --capacity plans for the one of --cut",
                field=flag,
            )


def parse_what_if(text: str) -> WhatIf:
    """`rtt=80ms,up=1Mbit/s,...` as facts.

    Raises:
        InvalidRequest: a name is none of `FACTS`, is there twice, or its value is none.
    """
    found: dict[str, str] = {}
    for word in text.split(","):
        name, equals, value = word.partition("=")
        if name not in FACTS or not equals or name in found:
            raise InvalidRequest(
                f"what-if: expected {'=..., '.join(FACTS)}=..., each once, got {word[:40]!r}",
                field="what-if",
            )
        found[name] = value
    return WhatIf(
        rtt_s=parse_duration(found["rtt"], "what-if") if "rtt" in found else None,
        up_bytes_s=rate_in_bytes(found["up"]) if "up" in found else None,
        down_bytes_s=rate_in_bytes(found["down"]) if "down" in found else None,
        queue_s=parse_duration(found["queue"], "what-if") if "queue" in found else None,
    )


def rate_in_bytes(text: str) -> float:
    """A rate in bytes per second; `unshaped` is as good as unlimited."""
    return parse_rate(text, "what-if") / 8 or UNLIMITED_BYTES_S
