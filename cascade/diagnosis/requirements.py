"""Requirements as pip writes them, and whether what is installed meets them.

As much of PEP 440 and 508 as the declarations of this project use: names, extras, lists of
comparisons, and the marker `extra`. Pure.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

REQUIREMENT = re.compile(
    r"\s*(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[(?P<extras>[^\]]*)\])?\s*(?P<range>[^;]*)"
    r"(;\s*(?P<marker>.*))?"
)
EXTRA = re.compile(r"""extra\s*==\s*['"](?P<name>[^'"]+)['"]""")
COMPARISON = re.compile(r"(?P<sign>>=|<=|==|!=|~=|<|>)\s*(?P<version>[0-9][^\s,]*)")
Release = tuple[int, ...]
COMPARE: Mapping[str, Callable[[Release, Release], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
    "~=": lambda found, wanted: found >= wanted and found[:-1] == wanted[:-1],
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirement:
    """One package that another needs."""

    name: str
    """As pip compares names: lower case, words joined by `-`."""
    extras: tuple[str, ...] = ()
    """Of that package."""
    range: str = ""
    """`>=2.0,<3`; empty takes any version."""
    extra: str = ""
    """Of the package that needs it; empty for what it always needs."""

    def allows(self, version: str) -> bool:
        """Whether a version lies in the range."""
        found = release(version)
        return all(
            COMPARE[part["sign"]](*padded(found, release(part["version"])))
            for part in COMPARISON.finditer(self.range)
        )

    def __str__(self) -> str:
        """As pip takes it."""
        return f"{self.name}{self.range}"


def parse_requirement(text: str) -> Requirement:
    """A requirement from a line of metadata or of `pyproject.toml`.

    Args:
        text: such as `numpy<3,>=2.0` or `onnxruntime<2,>=1.23; extra == "cpu"`.
    """
    found = REQUIREMENT.fullmatch(text)
    if found is None:
        return Requirement(name=normalised(text))
    marker = EXTRA.search(found["marker"] or "")
    parts = sorted(part.strip() for part in (found["range"] or "").split(",") if part.strip())
    return Requirement(
        name=normalised(found["name"]),
        extras=tuple(e.strip() for e in (found["extras"] or "").split(",") if e.strip()),
        # `>=` before `<`: as people write it.
        range=",".join(reversed(parts)),
        extra="" if marker is None else marker["name"],
    )


def normalised(name: str) -> str:
    """A distribution's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def release(version: str) -> Release:
    """The numbers of a version, `(2, 13, 0)` of `2.13.0+cpu` and `(1, 0)` of `1.0rc1`."""
    numbers = re.match(r"\d+(\.\d+)*", version.strip())
    return tuple(int(part) for part in numbers[0].split(".")) if numbers else (0,)


def padded(one: Release, other: Release) -> tuple[Release, Release]:
    """Both with as many numbers: 2.0 is 2.0.0."""
    length = max(len(one), len(other))
    return (*one, *[0] * (length - len(one))), (*other, *[0] * (length - len(other)))
