"""Flags of `cascade generate` of which one would be taken and not obeyed, beside another.

A flag that is silently ignored is worse than one that is refused. Knows the flags' names; what a
configuration refuses by itself is not repeated here.
"""

import argparse

from cascade.errors import InvalidRequest


def refuse_contradictions(args: argparse.Namespace) -> None:
    """Raise `InvalidRequest`, naming the flag, where two of them contradict each other."""
    if args.linger is not None and args.server is None:
        raise InvalidRequest(
            "linger: the private server ends with its client; name a --server or leave it out",
            field="linger",
        )
    if not args.detach:
        return
    if args.preview is not None:
        raise InvalidRequest(
            "preview: with --detach nobody watches; give it to `cascade fetch`", field="preview"
        )
    if args.fallback != "error":
        raise InvalidRequest(
            "fallback: with --detach the server alone makes the rest; leave it out",
            field="fallback",
        )


def refuse_idle_server(cut: int, count: int, server: str | None) -> None:
    """Raise `InvalidRequest` where a server is named that would be asked for nothing.

    Args:
        cut: components that run here.
        count: components of the bundle.
        server: the server that was named, if one was.
    """
    if server is not None and cut == count:
        raise InvalidRequest(
            f"server: with --cut {cut} all {count} components run here; leave --server out or take "
            "a smaller cut",
            field="server",
        )
