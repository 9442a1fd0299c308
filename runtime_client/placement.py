"""Where each component of a bundle runs: here, on the server that the client names, or on another.

A cut is one placement among many: so many components here, the rest there. Knows names, positions
and addresses; no connection.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from cascade.bundle.manifest import Manifest
from cascade.errors import InvalidRequest

HERE, THERE = "here", "there"
"""In this process; on the server of the configuration: a private one where none is named."""
REST = "*"
"""Every component that is not named."""
SHOWN = 64


@dataclass(frozen=True, slots=True)
class Hop:
    """Components in a row that run in one place."""

    place: str
    """`here`, `there` or an address."""
    positions: range

    @property
    def is_here(self) -> bool:
        """Whether they run in this process."""
        return self.place == HERE


@dataclass(frozen=True, slots=True)
class Placement:
    """A place for every component of one bundle."""

    places: tuple[str, ...]
    """By position: `here`, `there`, or the address of another server."""
    is_cut: bool = False
    """Whether a number says it, and not names."""

    def hops(self, positions: range) -> list[Hop]:
        """The components of a request, in order, those in a row and in one place together."""
        grouped = groupby(positions, lambda at: self.places[at])
        runs = ((place, list(group)) for place, group in grouped)
        return [Hop(place, range(run[0], run[-1] + 1)) for place, run in runs]

    def at(self, place: str) -> tuple[int, ...]:
        """Positions of the components in a place."""
        return tuple(at for at, found in enumerate(self.places) if found == place)

    def without(self, place: str, first: int) -> "Placement":
        """The same, with what a place was to run from a position on run here instead."""
        places = (
            HERE if found == place and at >= first else found
            for at, found in enumerate(self.places)
        )
        return Placement(tuple(places), self.is_cut)

    @property
    def cut(self) -> int | None:
        """How many components run here, where those are the first ones; else None."""
        here = len(self.at(HERE))
        return here if self.places[:here] == (HERE,) * here else None


def placement_of(
    manifest: Manifest, cut: int, placed: Mapping[str, str] | None, server: str | None
) -> Placement:
    """The placement that a configuration means for a bundle.

    Args:
        manifest: of the bundle.
        cut: how many components run here, where none is placed by name.
        placed: `here`, `there` or an address by component, and `*` for the rest; None for a cut.
        server: address of the server that `there` means; None for a private one.

    Raises:
        InvalidRequest: a name is no component, one is placed nowhere, or the cut is too large.
    """
    names = [component.name for component in manifest.components]
    if placed is None:
        check_cut(cut, len(names))
        places = tuple(HERE if at < cut else THERE for at in range(len(names)))
        return Placement(places, is_cut=True)
    for name in placed:
        if name not in (*names, REST):
            raise InvalidRequest(
                f"placement: no component {name[:SHOWN]!r}; this bundle has {', '.join(names)}",
                field="placement",
            )
    nowhere = [name for name in names if name not in placed and REST not in placed]
    if nowhere:
        raise InvalidRequest(
            f"placement: {nowhere[0]} is placed nowhere: add it to --here or --there",
            field="placement",
        )
    found = (placed[name] if name in placed else placed[REST] for name in names)
    return Placement(tuple(THERE if place == server else place for place in found))


def check_cut(cut: int, count: int) -> None:
    """Raise `InvalidRequest` for a cut beyond the last component."""
    if cut > count:
        raise InvalidRequest(
            f"cut: this bundle has {count} components, expected 0 to {count}, got {cut}",
            field="cut",
        )


def parse_placement(text: str) -> dict[str, str]:
    """`NAME=PLACE,...` as places by name; `*` is every other component.

    Raises:
        InvalidRequest: it is no such list.
    """
    placed: dict[str, str] = {}
    for word in text.split(","):
        name, equals, place = word.partition("=")
        if not (name and equals and place):
            raise InvalidRequest(
                "placement: expected NAME=PLACE,... where a place is here, there or an address, "
                f"got {word[:SHOWN]!r}",
                field="placement",
            )
        put(placed, name, place)
    return placed


def parse_here_there(here: str | None, there: str | None) -> dict[str, str] | None:
    """The lists of `--here` and `--there` as places by name; None where neither is given.

    Args:
        here: `NAME,...`; what is in neither list runs there, where only this one is given.
        there: `NAME,...` or `NAME=ADDRESS,...`; the rest runs here, where only this one is given.

    Raises:
        InvalidRequest: a list is none, or names a component that was placed already.
    """
    placed: dict[str, str] = {}
    for option, text in ((HERE, here), (THERE, there)):
        for word in () if text is None else text.split(","):
            name, equals, address = word.partition("=")
            if not name or bool(equals) != bool(address) or (equals and option == HERE):
                form = "NAME,..." if option == HERE else "NAME,... or NAME=ADDRESS,..."
                raise InvalidRequest(f"{option}: expected {form}, got {text!r:.80}", field=option)
            put(placed, name, address or option)
    if here is None and there is None:
        return None
    if here is None or there is None:
        placed.setdefault(REST, THERE if there is None else HERE)
    return placed


def put(placed: dict[str, str], name: str, place: str) -> None:
    """Place a component, once.

    Raises:
        InvalidRequest: it was placed already.
    """
    if name in placed:
        raise InvalidRequest(
            f"placement: {name[:SHOWN]} is placed twice: name it once", field="placement"
        )
    placed[name] = place
