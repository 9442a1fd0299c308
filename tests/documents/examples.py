"""What is run instead of a command that takes hours, with smaller parameters, or why nothing is.

Blocks with the marker `<!-- checked by: tests/documents/examples.py -->` need an entry for each of
their commands. They are in docs/how-to/train-and-distill.md and
docs/how-to/export-reference-cascade.md. All other blocks are run as they stand, by `page_run`.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """How one command is run."""

    instead: str
    """With smaller parameters."""
    needs: tuple[str, ...] = ()
    """Packages of which one must be installed."""
    prepare: tuple[str, ...] = ()
    """Names of what must be there before; see `tests.documents.workspace`."""
    makes: tuple[str, ...] = ()
    """Files that are there afterwards."""
    says: str = ""
    """Part of what it prints."""


TORCH = ("torch",)
ONE_STEP = "--steps 1 --batch 1 --sheet-minutes 0"

RUN: Mapping[str, Example] = {
    "cascade train base --bf16 --batch 64 --minutes 230 --keep-minutes 10": Example(
        instead=f"cascade train base --bf16 --minutes 230 --keep-minutes 10 {ONE_STEP}",
        needs=TORCH,
        prepare=("data",),
        makes=("checkpoints/base/checkpoint.json",),
    ),
    "cascade train sr256 --bf16 --batch 16 --minutes 40": Example(
        instead=f"cascade train sr256 --bf16 --minutes 40 {ONE_STEP}",
        needs=TORCH,
        prepare=("data",),
        makes=("checkpoints/sr256/checkpoint.json",),
    ),
    "cascade train sr1024 --bf16 --minutes 58": Example(
        instead=f"cascade train sr1024 --bf16 --minutes 58 {ONE_STEP}",
        needs=TORCH,
        prepare=("data",),
        makes=("checkpoints/sr1024/checkpoint.json",),
    ),
    "cascade weights bundles/emoji-1 --checkpoints warm": Example(
        instead="cascade weights bundles/emoji-1 --checkpoints warm --stages sr1024",
        needs=TORCH,
        prepare=("reference bundle",),
        makes=("warm/sr1024/checkpoint.json",),
    ),
    "cascade train sr256 --start warm/sr256": Example(
        instead="cascade weights bundles/emoji-1 --checkpoints warm --stages sr256 && "
        f"cascade train sr256 --start warm/sr256 {ONE_STEP}",
        needs=TORCH,
        prepare=("reference bundle", "data"),
        makes=("checkpoints/sr256/checkpoint.json",),
    ),
    "cascade evaluate sr256": Example(
        instead="cascade evaluate sr256 --steps 1 --pictures 1",
        needs=TORCH,
        prepare=("data", "checkpoints"),
        says="lanczos_db",
    ),
    "cascade evaluate sr1024": Example(
        instead="cascade evaluate sr1024 --steps 1 --pictures 1",
        needs=TORCH,
        prepare=("data", "checkpoints"),
        says="lanczos_db",
    ),
    "cascade train sr256 --regression": Example(
        instead=f"cascade train sr256 --regression {ONE_STEP}",
        needs=TORCH,
        prepare=("data", "checkpoints"),
        makes=("checkpoints/sr256.regression/checkpoint.json",),
    ),
    "cascade train sr1024 --regression": Example(
        instead=f"cascade train sr1024 --regression {ONE_STEP}",
        needs=TORCH,
        prepare=("data", "checkpoints"),
        makes=("checkpoints/sr1024.regression/checkpoint.json",),
    ),
    "cascade distill guidance base --minutes 60": Example(
        instead=f"cascade distill guidance base --minutes 60 {ONE_STEP}",
        needs=TORCH,
        prepare=("data", "checkpoints"),
        makes=("checkpoints/base.guided/checkpoint.json",),
    ),
}

NOT_RUN: Mapping[str, str] = {
    "cascade export --networks base=base.guided --out bundles/guided": "a quarter of an hour; "
    "tests/export exports in miniature",
}
