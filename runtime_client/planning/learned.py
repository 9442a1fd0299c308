"""What was measured of this machine and of the way to one server: numbers that follow what is seen.

Values and their JSON; a file is read whole or begun anew. Knows no request and no connection.
"""

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from cascade.codecs.strict_json import from_json, to_json
from cascade.errors import ManifestError
from cascade.system.bounded_files import read_bounded

FORMAT = 1
MAX_BYTES = 64 << 10
MOST_FILES = 64
"""Servers and networks that are remembered; the one unused for longest goes."""
MOST_NAMES = 64
"""Components of one record."""
RECENT = 3
"""Measurements that a number is the median of: one that is far off changes nothing, and of a change
the second one tells."""
STALE_S = 300.0
"""A number that was measured so long ago is of another time: of a busy machine, or another link.
The next measurement stands alone."""
DOUBT = 1.5
"""Two measurements in a row that differ by so many times leave a number in doubt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """A measured number and when it was measured last."""

    recent: tuple[float, ...]
    """The last measurements, the latest one last."""
    at_s: float
    """Unix time."""

    @property
    def value(self) -> float:
        """Their median."""
        return median(self.recent)

    @property
    def in_doubt(self) -> bool:
        """Whether the latest one contradicts the rest."""
        latest = self.recent[-1]
        return not self.value / DOUBT <= latest <= self.value * DOUBT


@dataclass(kw_only=True, slots=True)
class Learned:
    """Numbers by name, such as `rtt` or `there.sr256`, and whose they are."""

    format: int = FORMAT
    owner: str = ""
    """What they were measured of: the text that the file's name is a hash of."""
    numbers: dict[str, Number] = field(default_factory=dict)

    def value(self, name: str) -> float | None:
        """A number; None where it was never measured."""
        found = self.numbers.get(name)
        return None if found is None else found.value

    def age_s(self, name: str, now_s: float) -> float:
        """Seconds since a number was measured; endless where it never was."""
        found = self.numbers.get(name)
        return float("inf") if found is None else max(0.0, now_s - found.at_s)

    def is_stale(self, name: str, now_s: float) -> bool:
        """Whether a number was measured long ago, or never."""
        return self.age_s(name, now_s) > STALE_S

    def note(self, name: str, value: float, now_s: float) -> None:
        """Take in a measurement; one that is no positive number is left out."""
        if not 0 < value < float("inf"):
            return
        if name not in self.numbers and len(self.numbers) >= 8 * MOST_NAMES:
            return
        before = () if self.is_stale(name, now_s) else self.numbers[name].recent
        recent = (*before, value)[-RECENT:]
        self.numbers[name] = Number(recent=recent, at_s=now_s)

    def in_doubt(self, name: str) -> bool:
        """Whether a number was never measured, or its latest measurement contradicts the rest."""
        found = self.numbers.get(name)
        return found is None or found.in_doubt


def read_learned(folder: Path | None, owner: str) -> Learned:
    """What was kept under a name; empty where nothing was, or the file is damaged.

    A record only steers where components run, so one that cannot be read is as good as none.

    Args:
        folder: of the records; None where this user has none.
        owner: what was measured.
    """
    empty = Learned(owner=owner)
    if folder is None:
        return empty
    try:
        text = read_bounded(folder / file_name(owner), MAX_BYTES)
        found = from_json(Learned, json.loads(text), "learned")
    except (OSError, ValueError, RecursionError, ManifestError):
        return empty
    # The file's name is a hash of the owner: a file that was copied there is told by its content.
    fits = (found.format, found.owner) == (FORMAT, owner)
    return found if fits and all(is_sound(n) for n in found.numbers.values()) else empty


def write_learned(folder: Path | None, learned: Learned) -> None:
    """Keep what was learned; at every moment the file is the old one or the new one, whole.

    A folder that cannot be written keeps nothing: no picture fails for it.
    """
    if folder is None:
        return
    text = json.dumps(to_json(learned), indent=1, sort_keys=True) + "\n"
    temporary = folder / f".{secrets.token_hex(8)}"
    try:
        # For this user alone: the names are those of servers.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_text(text)
        temporary.replace(folder / file_name(learned.owner))
        forget_oldest(folder)
    except OSError:
        return
    finally:
        remove(temporary)


def forget_oldest(folder: Path) -> None:
    """Delete the records beyond the bound, those unused for longest first."""
    records = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in records[: max(0, len(records) - MOST_FILES)]:
        remove(path)


def remove(path: Path) -> None:
    """Delete a file that may be gone, or that may not be deleted."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def file_name(owner: str) -> str:
    """Of a record."""
    return f"{hashlib.sha256(owner.encode()).hexdigest()}.json"


def is_sound(number: Number) -> bool:
    """Whether a number that was read is one that `note` would have kept."""
    values = [*number.recent, number.at_s]
    return 0 < len(number.recent) <= RECENT and all(0 < v < float("inf") for v in values)
