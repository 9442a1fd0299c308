"""Where the processor time of one thread goes while a picture is made."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class PictureParts:
    """Milliseconds of one picture by what they were spent on."""

    parts: dict[str, float] = field(default_factory=dict)

    def timed(self, part: str, work: Callable[[], Any]) -> Any:
        """The result of `work`, whose time is counted."""
        begun = time.thread_time()
        found = work()
        self.parts[part] = self.parts.get(part, 0.0) + 1e3 * (time.thread_time() - begun)
        return found

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self.parts.values())

    @property
    def host_share(self) -> float:
        """Of all, what is neither body nor heads."""
        return self.parts["host"] / self.total
