"""Are other people's models, in many configurations, equal to their own libraries, or refused?

    python -m benchmarks.foreign_grid guided-diffusion --library CLONE [--answers FILE] [--out FILE]

Every configuration is written as its adapter reads it, described, and run by the product's own
stages over its network, on the same noise as the library itself. Prints a table; with --answers
keeps the library's pictures of every tenth configuration for CI, which has no library. Beside
--only they are added to those that the file holds.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from benchmarks.lib.library_comparison import LibraryCase, Pictures
from cascade.errors import CascadeError
from tests.support.described import psnr_of
from tests.support.known_answers import thinned

WANTED_DB = {"guided-diffusion": 60.0, "imagen-pytorch": 55.0, "sr3": 60.0, "diffusers-sd": 50.0}
OUTCOMES = ("equal", "refused", "WRONG", "CRASH")
EVERY = 10
"""Of the equal configurations, one is kept for CI."""

LIBRARIES = {
    "guided-diffusion": "guided_library",
    "imagen-pytorch": "imagen_library",
    "sr3": "sr3_library",
    "diffusers-sd": "sd_library",
}
"""Modules of `benchmarks.lib` with the `comparisons` of each adapter."""


@dataclass(frozen=True, slots=True)
class GridRow:
    """What became of one configuration."""

    name: str
    outcome: str
    """Of `OUTCOMES`."""
    detail: str
    """Decibels, or the file and field."""


def judged(case: LibraryCase, wanted_db: float) -> tuple[GridRow, Pictures]:
    """One configuration, and the library's pictures where they are equal."""
    try:
        found = case.ours()
    except CascadeError as refused:
        field = str(refused.field or "")
        named = bool(case.refused) and field.endswith(case.refused) and case.refused in str(refused)
        return GridRow(
            case.name, "refused" if named else "WRONG", Path(field).name or str(refused)
        ), {}
    except Exception as crash:  # noqa: BLE001  what this looks for
        return GridRow(case.name, "CRASH", f"{type(crash).__name__}: {crash}"[:100]), {}
    if case.refused:
        return GridRow(case.name, "WRONG", f"expected to be refused by {case.refused}"), {}
    try:
        wanted = case.theirs(found)
    except Exception as crash:  # noqa: BLE001  whatever a library raises
        return GridRow(case.name, "WRONG", f"exported, and the library fails: {crash}"[:100]), {}
    worst = psnr_of([(found[stage], wanted[stage]) for stage in found])
    # A flat picture would be equal to anything.
    spread = min(float(picture.std()) for picture in wanted.values())
    fits = worst >= wanted_db and spread > 1
    return GridRow(case.name, "equal" if fits else "WRONG", f"{worst:.1f} dB"), wanted


def main() -> int:
    """Run one adapter's grid."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("adapter", choices=tuple(LIBRARIES))
    parser.add_argument("--library", type=Path, help="where Python finds the library")
    parser.add_argument("--only", default="", help="configurations whose name holds this (all)")
    parser.add_argument("--answers", type=Path, help="file to keep some pictures in, .npz")
    parser.add_argument("--out", type=Path, help="file for the table, .json")
    args = parser.parse_args()
    if args.library is not None:
        sys.path.append(str(args.library))
    torch.set_num_threads(1)
    rows, kept = [], {}
    with tempfile.TemporaryDirectory() as folder:
        module = import_module(f"benchmarks.lib.{LIBRARIES[args.adapter]}")
        for case in module.comparisons(Path(folder)):
            if args.only not in case.name:
                continue
            row, pictures = judged(case, WANTED_DB[args.adapter])
            print(f"{row.outcome:8} {row.name:24} {row.detail}", flush=True)
            equal = sum(other.outcome == "equal" for other in rows)
            if row.outcome == "equal" and equal % EVERY == 0:
                kept |= {f"{case.name}/{stage}": thinned(p) for stage, p in pictures.items()}
            rows.append(row)
    counts = {
        o: sum(row.outcome == o for row in rows) for o in ("equal", "refused", "WRONG", "CRASH")
    }
    print(f"{args.adapter}: {len(rows)} configurations, {counts}")
    if args.answers is not None:
        if args.only:
            with np.load(args.answers, allow_pickle=False) as file:
                kept = {**file, **kept}
        np.savez_compressed(args.answers, **kept)
    if args.out is not None:
        args.out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 0 if counts["WRONG"] == counts["CRASH"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
