"""Every block of the pages that is marked `run`, run as a reader runs it; see `page_run`."""

from pathlib import Path

import pytest

from tests.documents.fences import pages
from tests.documents.page_run import Part, parts_of, run_part


def cases() -> list[object]:
    """Every run of every page; those that need torch are for the environment that has it."""
    found = [part for page in pages() for part in parts_of(page)]
    return [
        pytest.param(
            part,
            id=f"{part.page}-{part.number}",
            marks=[pytest.mark.torch] if {"torch", "diffusers", "tensorrt"} & part.words else [],
        )
        for part in found
    ]


@pytest.mark.parametrize("part", cases())
def test_a_page_does_what_it_shows(part: Part, tmp_path: Path) -> None:
    """Every block ends as it should and prints what the page shows."""
    if part.lacks:
        pytest.skip(f"needs {', '.join(part.lacks)}")
    run_part(part, tmp_path)
