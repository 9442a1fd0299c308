"""The known answers of docs/reference/numerics.md for other languages, read from the page."""

import hashlib
import re
import struct
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from cascade.numerics.noise import normal_table, normals

PAGE = (Path(__file__).resolve().parents[3] / "docs/reference/numerics.md").read_text("utf-8")
ENTRIES = re.findall(r"^\| (\d+) \| ([\d.e-]+) \| `([0-9a-f]{8})` \|$", PAGE, re.MULTILINE)
NORMALS = re.findall(
    r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| `([0-9a-f ]+)` \| `([0-9a-f]{64})` \|$",
    PAGE,
    re.MULTILINE,
)


def test_the_page_has_answers() -> None:
    """Both tables are found, the ends of the upper half among the entries."""
    assert {int(u) for u, _, _ in ENTRIES} >= {32768, 65535}
    assert len(NORMALS) == 3


@pytest.mark.parametrize(("u", "value", "bits"), ENTRIES)
def test_entries_of_the_table(u: str, value: str, bits: str) -> None:
    """As a decimal and as bits."""
    entry = normal_table()[int(u)]
    assert struct.pack(">f", entry).hex() == bits
    assert np.float32(value) == entry


@pytest.mark.parametrize(("seed", "image", "stage", "step", "bits", "sha256"), NORMALS)
def test_normals_of_an_address(
    seed: str, image: str, stage: str, step: str, bits: str, sha256: str
) -> None:
    """The first values and the hash of a small picture's noise."""
    values = normals(
        (1, 3, 64, 64), seed=int(seed), image=int(image), stage=int(stage), step=int(step)
    ).astype("<f4")
    assert [f"{word:08x}" for word in values.reshape(-1).view("<u4")[:9]] == bits.split()
    assert hashlib.sha256(values.tobytes()).hexdigest() == sha256


@pytest.mark.parametrize("relative", [2.0**-40, -(2.0**-40)])
def test_no_entry_is_near_a_boundary_of_rounding(relative: float) -> None:
    """A quantile that is wrong by as much as the page allows is rounded to the same entry."""
    quantile = NormalDist().inv_cdf
    exact = np.array([quantile((u + 0.5) / 65536) for u in range(32768, 65536)])
    moved = (exact * (1 + relative)).astype(np.float32)
    np.testing.assert_array_equal(moved, normal_table()[32768:])
