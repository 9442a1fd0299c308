"""What is installed of this software and of the packages it needs, by their metadata.

Imports none of them: a package that cannot be imported must not end the command that says so.
"""

import platform
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from cascade import __version__
from cascade.diagnosis.findings import Finding, Topic
from cascade.diagnosis.requirements import Requirement, normalised, parse_requirement

DISTRIBUTION = "edge-cascade"
ENGINE_EXTRAS = ("cpu", "gpu", "openvino")
"""Each brings an engine, and one of them is enough."""
SHOWN_EXTRAS = (*ENGINE_EXTRAS, "server", "sign", "traces", "train", "export", "foreign")
"""Of those that users install; the others are for work on this software."""
RIVALS = ("onnxruntime", "onnxruntime-gpu")
"""Two distributions of one package: the second to be installed overwrites files of the first."""
Version = Callable[[str], str | None]
TOPIC = Topic("software")


@dataclass(frozen=True, kw_only=True, slots=True)
class Declared:
    """What this software needs, as its metadata says."""

    version: str
    """Of the metadata; empty where it is not installed as a package."""
    requirements: tuple[Requirement, ...]

    def of(self, extra: str) -> tuple[Requirement, ...]:
        """What one extra needs, the extras that it names included; "" for what is always needed."""
        found: list[Requirement] = []
        for requirement in self.requirements:
            if requirement.extra != extra:
                continue
            if requirement.name == DISTRIBUTION:
                found += [inner for name in requirement.extras for inner in self.of(name)]
            else:
                found.append(requirement)
        return tuple(found)


def installed_version(name: str) -> str | None:
    """The version of an installed distribution; None where there is none."""
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return None


def declared_here(root: Path = Path(__file__).parents[2]) -> Declared:
    """What the installed metadata says, or else the checkout's `pyproject.toml`.

    Args:
        root: folder beside whose code the file lies.
    """
    try:
        found = distribution(DISTRIBUTION)
    except PackageNotFoundError:
        return Declared(version="", requirements=declared_in(root / "pyproject.toml"))
    lines = found.requires or []
    return Declared(version=found.version, requirements=tuple(map(parse_requirement, lines)))


def declared_in(path: Path) -> tuple[Requirement, ...]:
    """The requirements of a `pyproject.toml`; none where there is no such file."""
    try:
        project = tomllib.loads(path.read_text("utf-8"))["project"]
    except (OSError, ValueError, KeyError):
        return ()
    lines = [parse_requirement(line) for line in project.get("dependencies", ())]
    for extra, texts in project.get("optional-dependencies", {}).items():
        lines += [parse_requirement(f"{text}; extra == '{extra}'") for text in texts]
    return tuple(lines)


def software_findings(
    declared: Declared | None = None, version: Version = installed_version
) -> Iterator[Finding]:
    """Version, packages, extras, and the versions that the tests ran with.

    Args:
        declared: what is needed; None looks.
        version: of an installed distribution, by its name.
    """
    declared = declared_here() if declared is None else declared
    yield of_itself(declared)
    needed = declared.of("")
    wrong = [finding for r in needed if (finding := of_package(r, version)) is not None]
    yield from wrong
    if needed and not wrong:
        versions = {r.name: str(version(r.name)) for r in needed}
        words = ", ".join(f"{name} {found}" for name, found in versions.items())
        yield TOPIC.ok("packages", words, versions=versions)
    yield from of_extras(declared, version)
    yield from of_rivals(version)
    yield from of_tested(version)


def of_itself(declared: Declared) -> Finding:
    """The version of this software, and where it lies."""
    place = str(Path(__file__).parents[2])
    facts = {"version": __version__, "python": platform.python_version(), "place": place}
    words = f"{__version__}, Python {platform.python_version()}, {place}"
    if not declared.version:
        return TOPIC.warning(
            "edge-cascade", f"{words}: used from its sources and not installed",
            f"{pip()} install -e {shlex.quote(place + '[cpu,server]')}", **facts,
        )  # fmt: skip
    if declared.version != __version__:
        return TOPIC.warning(
            "edge-cascade", f"{words}: the code has another version than the metadata, "
            f"{declared.version}; it was updated and not installed again",
            f"{pip()} install -e {shlex.quote(place)}", **facts,
        )  # fmt: skip
    return TOPIC.ok("edge-cascade", words, **facts)


def of_package(requirement: Requirement, version: Version) -> Finding | None:
    """What is wrong with a package that is always needed; None for nothing."""
    found = version(requirement.name)
    if found is not None and requirement.allows(found):
        return None
    state = "it is not installed" if found is None else f"it is {found}"
    return TOPIC.error(
        requirement.name,
        f"{state}, {requirement.range or 'any version'} is needed",
        f"{pip()} install {shlex.quote(str(requirement))}",
        installed=found, needed=requirement.range,
    )  # fmt: skip


def of_extras(declared: Declared, version: Version) -> Iterator[Finding]:
    """Which extras are whole, and what lacks in those that are not."""
    whole: list[str] = []
    absent: list[str] = []
    for extra in SHOWN_EXTRAS:
        needed = declared.of(extra)
        if not needed:
            continue
        found = {r.name: version(r.name) for r in needed}
        outside = [r for r in needed if (v := found[r.name]) is not None and not r.allows(v)]
        if outside:
            words = ", ".join(f"{r.name} {found[r.name]} (needed: {r.range})" for r in outside)
            yield TOPIC.warning(
                f"extra {extra}", f"of another version than declared: {words}",
                f"{pip()} install {shlex.join(map(str, outside))}", installed=found,
            )  # fmt: skip
        (whole if None not in found.values() else absent).append(extra)
    words = f"installed: {', '.join(whole) or 'none'}; not installed: {', '.join(absent) or 'none'}"
    yield TOPIC.ok("extras", words, installed=whole, missing=absent)


def of_rivals(version: Version) -> Iterator[Finding]:
    """Two distributions that overwrite each other's files."""
    found = {name: number for name in RIVALS if (number := version(name)) is not None}
    if len(found) == len(RIVALS):
        yield TOPIC.warning(
            "onnxruntime",
            f"both {' and '.join(RIVALS)} are installed: they are one package, and the one that "
            "was installed last has overwritten the other",
            f"{pip()} uninstall -y {' '.join(RIVALS)} && {pip_extra('gpu')}", installed=found,
        )  # fmt: skip


def of_tested(
    version: Version, path: Path = Path(__file__).parents[2] / "constraints.txt"
) -> Iterator[Finding]:
    """How many installed packages have another version than the tests ran with."""
    pins = read_pins(path)
    found = {name: number for name in pins if (number := version(name)) is not None}
    if not found:
        return
    # The part after `+` tells builds of one version apart.
    other = {n: number for n, number in found.items() if number.partition("+")[0] != pins[n]}
    shown = ", ".join(f"{name} {number} (tested: {pins[name]})" for name, number in other.items())
    words = f"{len(found) - len(other)} of {len(found)} packages are as in {path.name}"
    facts = {"differ": {name: [number, pins[name]] for name, number in other.items()}}
    yield TOPIC.ok("tested versions", f"{words}{': ' if shown else ''}{shown}", **facts)


def read_pins(path: Path) -> Mapping[str, str]:
    """The versions that a list of constraints pins, by name; none where there is no such file."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.partition("==") for line in lines if not line.startswith("#"))
    return {normalised(name): number.strip() for name, sign, number in pairs if sign}


def pip() -> str:
    """The pip of this very Python, as a command."""
    return f"{shlex.quote(sys.executable)} -m pip"


def pip_extra(extra: str) -> str:
    """The command that adds an extra to what is installed."""
    return f"{pip()} install {shlex.quote(f'{DISTRIBUTION}[{extra}]')}"
