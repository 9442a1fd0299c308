"""What somebody asks for: an engine and a precision, for all components or for some by name.

Text in, values out: `auto`, `int8`, `base=fp32,sr256=int8`. Knows no bundle and no machine.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from cascade.assignments import ALL, AUTO, parse_assignments
from cascade.engines.kinds import EngineKind
from cascade.errors import InvalidRequest
from cascade.precision import Precision

Value = TypeVar("Value", bound=StrEnum)
PerComponent = Mapping[str, Value | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOptions:
    """Requested engines and precisions; None means whatever is best."""

    kinds: Mapping[str, EngineKind | None] = field(default_factory=dict)
    precisions: Mapping[str, Precision | None] = field(default_factory=dict)
    threads: int = 0
    """Of one run on a CPU; 0 takes one per core."""

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
    return EngineOptions(
        kinds=parse_values(engine, EngineKind, "engine"),
        precisions=parse_values(precision, Precision, "precision"),
        threads=threads,
    )


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
