"""What somebody asks for: an engine and a precision, for all components or for some by name.

Text in, values out: `auto`, `int8`, `base=fp32,sr256=int8`. Knows no bundle and no machine.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from cascade.addresses import split_address
from cascade.assignments import ALL, AUTO, parse_assignments
from cascade.engines.kinds import ENGINE_WORDS, EngineKind
from cascade.errors import InvalidRequest
from cascade.precision import Precision

TRITON = f"{EngineKind.TRITON.value}:"
"""Before the address of a server."""
TRITON_PORT = 8000
"""Of Triton's HTTP door, where an address names none."""
Value = TypeVar("Value", bound=StrEnum)
PerComponent = Mapping[str, Value | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOptions:
    """Requested engines and precisions; None means whatever is best."""

    kinds: Mapping[str, EngineKind | None] = field(default_factory=dict)
    precisions: Mapping[str, Precision | None] = field(default_factory=dict)
    threads: int = 0
    """Of one run on a CPU; 0 takes one per core."""
    addresses: Mapping[str, str] = field(default_factory=dict)
    """`host:port` of engines elsewhere, by component as `kinds` has it."""

    def address_for(self, component: str) -> str:
        """Where the engine asked for is; empty for one of this process."""
        name = component if component in self.kinds else ALL
        return self.addresses.get(name, "")

    def kind_for(self, component: str) -> EngineKind | None:
        """The engine asked for."""
        return self.kinds.get(component, self.kinds.get(ALL))

    def precision_for(self, component: str) -> Precision | None:
        """The precision asked for."""
        return self.precisions.get(component, self.precisions.get(ALL))

    def check_names(self, components: Collection[str]) -> None:
        """Raise `InvalidRequest` for a component that the bundle does not have."""
        for name, requested in (("engine", self.kinds), ("precision", self.precisions)):
            unknown = sorted(set(requested) - set(components) - {ALL})
            if unknown:
                raise InvalidRequest(
                    f"{name}: no component {unknown[0]!r}; this bundle has {', '.join(components)}",
                    field=name,
                )


def parse_engine_options(engine: str, precision: str, threads: int = 0) -> EngineOptions:
    """Options from the two texts of the command line.

    Raises:
        InvalidRequest: a text names no engine or no precision.
    """
    words = parse_engines(engine)
    elsewhere = {name: word for name, word in words.items() if word and word.startswith(TRITON)}
    return EngineOptions(
        kinds={n: None if word is None else kind_of(word) for n, word in words.items()},
        addresses={name: triton_address(word) for name, word in elsewhere.items()},
        precisions=parse_values(precision, Precision, "precision"),
        threads=threads,
    )


def parse_engines(text: str) -> dict[str, str | None]:
    """Engines as words by component; `auto` is None.

    Raises:
        InvalidRequest: a word names none.
    """
    try:
        words = parse_assignments(text, str)
        for word in words.values():
            if word is not None:
                kind_of(word)
    except ValueError as exc:
        raise InvalidRequest(
            f"engine: expected {AUTO}, {', '.join(ENGINE_WORDS)}, or COMPONENT=VALUE,... of "
            f"those, got {text[:80]!r}",
            field="engine",
        ) from exc
    return words


def kind_of(word: str) -> EngineKind:
    """The engine that a word names.

    Raises:
        ValueError: none; `triton` without an address is none.
    """
    if word.startswith(TRITON):
        return EngineKind.TRITON
    if word == EngineKind.TRITON:
        raise ValueError("triton needs an address")
    return EngineKind(word)


def triton_address(word: str) -> str:
    """`triton:HOST[:PORT]` as `host:port`.

    Raises:
        InvalidRequest: what follows is no address.
    """
    address = word.removeprefix(TRITON)
    if ":" not in address or address.endswith("]"):
        address = f"{address}:{TRITON_PORT}"
    split_address(address, "engine", "triton:HOST[:PORT]")
    return address


def parse_values(text: str, kind: type[Value], field_name: str) -> dict[str, Value | None]:
    """`VALUE`, or `COMPONENT=VALUE,...`, by component; `auto` is None.

    Raises:
        InvalidRequest: neither of the two forms, or a value that is none.
    """
    try:
        return parse_assignments(text, kind)
    except ValueError as exc:
        raise InvalidRequest(
            f"{field_name}: expected {AUTO}, {', '.join(kind)}, or COMPONENT=VALUE,... of "
            f"those, got {text[:80]!r}",
            field=field_name,
        ) from exc
