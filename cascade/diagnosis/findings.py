"""What `cascade doctor` finds, as values: a level, one sentence, and a remedy that can be pasted.

Knows levels; not how anything is found out, printed or told to a shell.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """Works, slower or not everywhere."""
    ERROR = "error"
    """Does not work."""


TOPICS = ("software", "machine", "gpu", "cache", "bundle", "engines", "server")
"""In the order in which they are printed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at."""

    topic: str
    """One of `TOPICS`."""
    name: str
    """What was looked at: the same words in every version, for programs."""
    level: Level
    text: str
    """One sentence for people, without a full stop."""
    remedy: str = ""
    """A command line for a POSIX shell, or a comment where no command can help; empty where there
    is nothing to do."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The same for programs: plain JSON values."""
    transient: bool = False
    """Of an error: it is a server's or the network's, and may be gone at the next try."""


class Topic:
    """Makes the findings of one topic."""

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def ok(self, name: str, text: str, /, **facts: Any) -> Finding:
        """Nothing to do."""
        return Finding(topic=self._topic, name=name, level=Level.OK, text=text, facts=facts)

    def warning(self, name: str, text: str, remedy: str, /, **facts: Any) -> Finding:
        """Works, and could work better."""
        return Finding(
            topic=self._topic, name=name, level=Level.WARNING, text=text, remedy=remedy,
            facts=facts,
        )  # fmt: skip

    def error(self, name: str, text: str, remedy: str, /, **facts: Any) -> Finding:
        """Does not work here, whatever is tried again."""
        return Finding(
            topic=self._topic, name=name, level=Level.ERROR, text=text, remedy=remedy,
            facts=facts,
        )  # fmt: skip

    def failure(self, name: str, text: str, remedy: str, /, **facts: Any) -> Finding:
        """Does not work now, and may work later: a server, the network."""
        return Finding(
            topic=self._topic, name=name, level=Level.ERROR, text=text, remedy=remedy,
            facts=facts, transient=True,
        )  # fmt: skip


def count(findings: Iterable[Finding], level: Level) -> int:
    """How many findings have that level."""
    return sum(finding.level is level for finding in findings)
