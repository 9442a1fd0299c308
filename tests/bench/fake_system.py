"""A system under test whose pictures and times a test decides, and a clock that only it moves."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bench.systems.system import OnPicture, PictureOutcome
from bench.workload import WorkItem, Workload

WORKLOAD = Workload(
    prompts=("a", "b", "c"), seeds=(None, None, None), first_seed=0, source="test", sha256="0"
)


class FakeTime:
    """Seconds that pass when somebody waits; threads may ask."""

    def __init__(self) -> None:
        self.at = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        """The time."""
        return self.at

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self.at += seconds


class FakeSystem:
    """Answers at once unless told otherwise."""

    caching: tuple[str, ...] = ()

    def __init__(self, work: Callable[[WorkItem], None] = lambda _: None) -> None:
        self._work = work
        self.seen: list[WorkItem] = []

    def describe(self) -> Mapping[str, Any]:
        """What it is."""
        return {"kind": "fake"}

    def run(self, item: WorkItem, on_picture: OnPicture) -> PictureOutcome:
        """Two pictures that depend on the item, the work between them."""
        self.seen.append(item)
        image = np.full((2, 2, 3), item.seed % 256, np.uint8)
        on_picture("small", image)
        self._work(item)
        on_picture("large", image)
        return PictureOutcome(hops={"work": 0.0}, bytes_up=10, bytes_down=20)

    def processes(self) -> Mapping[str, int]:
        """None."""
        return {}

    def close(self) -> None:
        """Nothing to do."""
