"""Whether a command line will start a server for itself, and what that server imports.

Looked at before anything heavy is imported: the server's interpreter then loads beside this one's.
A guess: where it is wrong the process is ended unused, and nothing else changes.
"""

from collections.abc import Sequence

MODULES = (
    *("runtime_server.lifecycle.process", "cascade.stage_factory", "cascade.diffusion.stage"),
    *("cascade.commands.cli", "cascade.commands.parser", "runtime_server.cli"),
)
"""Of a server, without an engine: which one it takes is not known yet."""
UNSURE = frozenset(
    {
        *("-h", "--help", "--server", "--cut", "--here", "--there", "--placement", "--detach"),
        *("--from", "--first-stage", "--last-stage", "--picture", "--label"),
    }
)
"""Flags with which it may need none."""


def wants_server(words: Sequence[str]) -> bool:
    """Whether `cascade` with these words draws a picture at the default cut.

    Args:
        words: the command line without the program's name.
    """
    flags = {word.partition("=")[0] for word in words}
    return list(words[:1]) == ["generate"] and len(words) > 1 and UNSURE.isdisjoint(flags)
