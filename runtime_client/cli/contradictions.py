"""Flags of `cascade generate` of which one would be taken and not obeyed, beside another.

A flag that is silently ignored is worse than one that is refused. Knows the flags' names; what a
configuration refuses by itself is not repeated here.
"""

import argparse

from cascade.errors import InvalidRequest
from runtime_client.cli.placement_flags import placed_by
from runtime_client.config import ClientConfig
from runtime_client.placement import HERE, THERE, Placement

LARGEST_COUNT = 10_000
"""Pictures of a prompt in one run."""


def refuse_contradictions(args: argparse.Namespace) -> None:
    """Raise `InvalidRequest`, naming the flag, where two of them contradict each other."""
    placed = placed_by(args) or {}
    named = args.server is not None or set(placed.values()) - {HERE, THERE}
    if args.linger is not None and not named:
        raise InvalidRequest(
            "linger: the private server ends with its client; name a --server or leave it out",
            field="linger",
        )
    if args.prompts is not None and args.prompt is not None:
        raise InvalidRequest("prompts: there is a PROMPT too; add it to the file", field="prompts")
    if args.count is not None and not 1 <= args.count <= LARGEST_COUNT:
        raise InvalidRequest(
            f"count: expected 1 to {LARGEST_COUNT}, got {args.count}", field="count"
        )
    if not args.detach:
        return
    if args.count is not None or args.prompts is not None:
        raise InvalidRequest(
            "detach: it leaves one picture to the server; leave --count and --prompts out",
            field="detach",
        )
    if args.preview is not None:
        raise InvalidRequest(
            "preview: with --detach nobody watches; give it to `cascade fetch`", field="preview"
        )
    if args.fallback != "error":
        raise InvalidRequest(
            "fallback: with --detach the server alone makes the rest; leave it out",
            field="fallback",
        )


def refuse_idle_server(placement: Placement, config: ClientConfig) -> None:
    """Raise `InvalidRequest` where a server is named that would be asked for nothing.

    Args:
        placement: where components run.
        config: of the client; where it chooses placements, a server may be asked for nothing.
    """
    count = len(placement.places)
    if config.server is None or config.is_auto or THERE in placement.places:
        return
    if not placement.is_cut:
        raise InvalidRequest(
            "server: no component is placed on it; leave --server out or place one --there",
            field="server",
        )
    raise InvalidRequest(
        f"server: with --cut {count} all {count} components run here; leave --server out or take "
        "a smaller cut",
        field="server",
    )
