"""Which bundle is meant when none is named: a variable's, the checkout's, or an installed one.

One order for every subcommand: what stands on the command line, the variable `CASCADE_BUNDLE`, the
reference bundle of the checkout, the reference bundle installed as the package that `bundles/`
builds. Knows folders and packages; not what lies in a bundle.
"""

import argparse
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from cascade.bundle.bundle import MANIFEST_NAME
from cascade.errors import InvalidRequest

VARIABLE = "CASCADE_BUNDLE"
REFERENCE = Path("bundles/emoji-1")
"""Of a checkout; where `cascade export` writes unless told otherwise."""
PACKAGE, DISTRIBUTION = "edge_cascade_emoji_1", "edge-cascade-emoji-1"
"""The same bundle as a package: its folder, and the name that pip knows it by."""
DEFAULT_WORDS = f"{VARIABLE}, or else the reference bundle"
"""What stands for the default in help texts; the folder is looked for when a command runs."""


class Origin(StrEnum):
    """Why a folder is the one that is meant, in words."""

    NAMED = "named on the command line"
    VARIABLE = f"named by {VARIABLE}"
    HERE = "in the working folder"
    CHECKOUT = "in the checkout of this code"
    PACKAGE = f"installed as the package {DISTRIBUTION}"


@dataclass(frozen=True, slots=True)
class LocatedBundle:
    """The folder of a bundle, and why that one is meant. What lies in it is not looked at."""

    folder: Path
    origin: Origin


def add_bundle_argument(parser: argparse.ArgumentParser) -> None:
    """Add the folder of a bundle as an argument that may be left out."""
    parser.add_argument(
        "bundle", nargs="?", type=Path, metavar="BUNDLE",
        help=f"folder of the bundle (default: {DEFAULT_WORDS})",
    )  # fmt: skip


def bundle_or_default(named: Path | None) -> Path:
    """The folder named on the command line, or the default.

    Raises:
        InvalidRequest: see `default_bundle`.
    """
    return default_bundle(os.environ) if named is None else named


def default_bundle(environment: Mapping[str, str]) -> Path:
    """The folder of the bundle that is meant when none is named.

    Raises:
        InvalidRequest: see `located_bundle`.
    """
    return located_bundle(None, environment).folder


def located_bundle(named: Path | None, environment: Mapping[str, str]) -> LocatedBundle:
    """The folder of the bundle that is meant, and why.

    Args:
        named: on the command line; None for no folder.
        environment: variables by name.

    Raises:
        InvalidRequest: the variable names no folder, or there is no bundle to be found.
    """
    if named is not None:
        return LocatedBundle(named, Origin.NAMED)
    chosen = environment.get(VARIABLE, "")
    if chosen:
        folder = Path(chosen)
        if not folder.is_dir():
            raise InvalidRequest(f"{VARIABLE}: {chosen} is not a folder", field="bundle")
        return LocatedBundle(folder, Origin.VARIABLE)
    for place in places():
        if (place.folder / MANIFEST_NAME).is_file():
            return place
    raise InvalidRequest(
        f"bundle: none is named, and there is no reference bundle here: name the folder of one on "
        f"the command line or in {VARIABLE}, or install the reference bundle, the package "
        f"{DISTRIBUTION}, from a checkout: pip install CHECKOUT/bundles",
        field="bundle",
    )


def places() -> Iterator[LocatedBundle]:
    """Where the reference bundle may lie, the nearest first."""
    yield LocatedBundle(REFERENCE, Origin.HERE)
    yield LocatedBundle(Path(__file__).parents[2] / REFERENCE, Origin.CHECKOUT)
    # No code is loaded: the package holds the files of the bundle alone.
    spec = find_spec(PACKAGE)
    for place in () if spec is None else spec.submodule_search_locations or ():
        yield LocatedBundle(Path(place), Origin.PACKAGE)
