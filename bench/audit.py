"""Whether a benchmark's pictures are the right ones, and whether a cache answered anything.

The truth is the unshaped local run: every component in this process, one request after the other.
The audit of repeats asks for one picture again and again between others that are all new (as
MLPerf's TEST04 does): a system that answers it more than a tenth faster caches, and must say so.
Knows hashes and seconds.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bench.attempt import Attempt
from bench.load import pixel_hash
from bench.workload import WorkItem, Workload
from cascade.bundle.bundle import Bundle
from cascade.types import ImageU8
from runtime_client.client import Client
from runtime_client.config import ClientConfig

FASTEST_REPEAT = 0.9
"""Of the time of a new request; a repeat below it is answered from a cache."""
MOST_LOOKED_AT = 4
"""Pictures that differ are kept so that the difference can be told; each takes megabytes."""


@dataclass(slots=True)
class PictureCheck:
    """Every picture of a run against the local run's.

    Attributes:
        workload: what is asked for.
        truth: hashes by number of the item and stage.
    """

    workload: Workload
    truth: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    equal: int = 0
    different: int = 0
    unchecked: int = 0
    kept: list[tuple[int, str, ImageU8]] = field(default_factory=list)

    def note(self, attempt: Attempt, pictures: Mapping[str, ImageU8]) -> None:
        """Compare what one attempt made."""
        known = self.truth.get(attempt.number, {})
        for stage, found in attempt.hashes.items():
            if stage not in known:
                self.unchecked += 1
            elif known[stage] == found:
                self.equal += 1
            else:
                self.different += 1
                if len(self.kept) < MOST_LOOKED_AT:
                    self.kept.append((attempt.number, stage, pictures[stage]))

    def report(self, local: "LocalPictures | None") -> dict[str, Any]:
        """Counts of pictures of all stages, and how far those apart are that differ."""
        found: dict[str, Any] = {
            "equal": self.equal,
            "different": self.different,
            "unchecked": self.unchecked,
        }
        if self.kept and local is not None:
            true = local.pictures([self.workload.item(number) for number, _, _ in self.kept])
            apart = [
                np.abs(images[stage].astype(np.int16) - image)
                for images, (_, stage, image) in zip(true, self.kept, strict=True)
            ]
            found["largest_difference"] = max(int(a.max()) for a in apart)
            found["share_that_differs"] = max(float((a > 0).mean()) for a in apart)
        return found


class LocalPictures:
    """The truth: every component in this process."""

    def __init__(self, bundle: Bundle, config: ClientConfig) -> None:
        """Nothing is loaded yet.

        Args:
            bundle: of the run.
            config: of its client; engine and precision count.
        """
        count = len(bundle.manifest.components)
        plain = replace(
            config, server=None, cut=count, tls=False, ca_file=None, client_cert=None,
            client_key=None, token="", token_file=None, token_over_plaintext=False,
        )  # fmt: skip
        self._bundle, self._config = bundle, plain
        self._known: dict[WorkItem, dict[str, str]] = {}

    def pictures(self, items: Sequence[WorkItem]) -> Iterator[Mapping[str, ImageU8]]:
        """Every stage's picture of each item, `[height, width, 3]` uint8."""
        # Opened for this alone: its engines must not be there while something is measured.
        with Client(self._bundle, self._config) as client:
            for item in items:
                yield client.generate(item.prompt, seed=item.seed).images

    def hashes(self, workload: Workload, numbers: Sequence[int]) -> dict[int, dict[str, str]]:
        """Hashes by number and stage; each item is made once."""
        wanted = {number: workload.item(number) for number in numbers}
        missing = [item for item in dict.fromkeys(wanted.values()) if item not in self._known]
        if missing:
            for item, images in zip(missing, self.pictures(missing), strict=True):
                self._known[item] = {stage: pixel_hash(image) for stage, image in images.items()}
        return {number: self._known[item] for number, item in wanted.items()}


def repeat_audit(
    new_s: Sequence[float], repeated_s: Sequence[float], caching: Sequence[str]
) -> dict[str, Any]:
    """The verdict on repeats.

    Args:
        new_s: seconds of requests that were all different.
        repeated_s: of one that was asked for again and again, taken in turns with them.
        caching: what the system says that it keeps.
    """
    if not new_s or not repeated_s:
        return {"passed": None, "ratio": None, "caching": list(caching), "count": 0}
    new, repeated = statistics.median(new_s), statistics.median(repeated_s)
    ratio = repeated / new
    return {
        "passed": ratio >= FASTEST_REPEAT or bool(caching),
        "ratio": ratio,
        "limit": FASTEST_REPEAT,
        "new_median_s": new,
        "repeated_median_s": repeated,
        "count": min(len(new_s), len(repeated_s)),
        "caching": list(caching),
    }
