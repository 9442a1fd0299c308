"""What is kept of measurements: medians, bounds, and files that are whole or as good as none."""

import json
from pathlib import Path

import pytest

from runtime_client.planning.learned import (
    MAX_BYTES,
    MOST_FILES,
    STALE_S,
    Learned,
    file_name,
    read_learned,
    write_learned,
)


def learned_of(*values: float) -> Learned:
    """One number, measured a second apart."""
    learned = Learned(owner="somewhere")
    for at, value in enumerate(values):
        learned.note("rtt", value, 100.0 + at)
    return learned


@pytest.mark.parametrize(
    ("values", "median", "in_doubt"),
    [
        ((), None, True),
        ((1.0,), 1.0, False),
        ((1.0, 1.2), 1.1, False),
        ((1.0, 1.0, 9.0), 1.0, True),
        ((1.0, 1.0, 9.0, 9.0), 9.0, False),
        ((9.0, 9.0, 1.0, 9.0), 9.0, False),
    ],
)
def test_a_number_is_the_median_of_the_last_three(
    values: tuple[float, ...], median: float | None, *, in_doubt: bool
) -> None:
    """One that is far off changes nothing and leaves a doubt; the second one like it counts."""
    learned = learned_of(*values)
    assert learned.value("rtt") == (None if median is None else pytest.approx(median))
    assert learned.in_doubt("rtt") == in_doubt


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_positive_number_is_left_out(value: float) -> None:
    """A clock that went backwards measures nothing."""
    assert learned_of(value).numbers == {}


def test_ages_are_counted_from_the_last_measurement() -> None:
    """What was never measured is endlessly old; a clock that was set back makes nothing younger."""
    learned = learned_of(1.0, 1.0)
    assert learned.age_s("rtt", 111.0) == 10.0
    assert learned.age_s("rtt", 50.0) == 0.0
    assert learned.age_s("up", 111.0) == float("inf")


def test_a_measurement_after_a_long_time_stands_alone() -> None:
    """What a busy machine took an hour ago is no reason to doubt what an idle one takes now."""
    learned = learned_of(9.0, 9.0, 9.0)
    assert not learned.is_stale("rtt", 102.0 + STALE_S)
    assert learned.is_stale("rtt", 103.0 + STALE_S)
    assert learned.is_stale("up", 0.0)
    learned.note("rtt", 1.0, 103.0 + STALE_S)
    assert learned.value("rtt") == 1.0
    assert not learned.in_doubt("rtt")


def test_names_are_bounded() -> None:
    """A record takes no more names once it is full."""
    learned = Learned()
    for at in range(2000):
        learned.note(f"there.{at}", 1.0, 1.0)
    learned.note("there.0", 3.0, 2.0)
    assert len(learned.numbers) == 512
    assert learned.value("there.0") == 2.0


def test_what_is_kept_comes_back(tmp_path: Path) -> None:
    """To the number; another owner has a file of its own."""
    learned = learned_of(1.0, 2.0, 4.0)
    write_learned(tmp_path / "placement", learned)
    assert read_learned(tmp_path / "placement", "somewhere") == learned
    assert read_learned(tmp_path / "placement", "elsewhere") == Learned(owner="elsewhere")
    assert [path.suffix for path in (tmp_path / "placement").iterdir()] == [".json"]


@pytest.mark.parametrize(
    "change",
    [
        lambda _text: "",
        lambda text: text[:-20],
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: text.replace("somewhere", "elsewhere"),
        lambda text: text.replace("4.0", "-4.0"),
        lambda text: text.replace("4.0", '"4.0"'),
        lambda text: text.replace('"numbers"', '"figures"'),
        lambda text: text.replace("4.0", "4.0, 1.0, 1.0"),
        lambda text: text.replace("4.0", "NaN"),
        lambda _text: "[" * 100_000,
        lambda text: text + " " * MAX_BYTES,
    ],
    ids=["void", "torn", "newer", "copied", "minus", "text", "other", "many", "nan", "deep", "big"],
)  # fmt: skip
def test_a_damaged_file_begins_anew(tmp_path: Path, change: object) -> None:
    """Whatever is in it, nothing fails, and it is written over."""
    write_learned(tmp_path, learned_of(1.0, 2.0, 4.0))
    path = tmp_path / file_name("somewhere")
    path.write_text(change(path.read_text()))  # type: ignore[operator]
    assert read_learned(tmp_path, "somewhere") == Learned(owner="somewhere")
    write_learned(tmp_path, learned_of(3.0))
    assert read_learned(tmp_path, "somewhere").value("rtt") == 3.0


def test_a_user_without_a_home_keeps_nothing(tmp_path: Path) -> None:
    """Nor does one whose folder cannot be made."""
    write_learned(None, learned_of(1.0))
    assert read_learned(None, "somewhere").numbers == {}
    (tmp_path / "file").write_text("no folder")
    write_learned(tmp_path / "file" / "placement", learned_of(1.0))
    assert read_learned(tmp_path / "file" / "placement", "somewhere").numbers == {}


def test_the_oldest_records_go(tmp_path: Path) -> None:
    """No more files than the bound, the one just written among them."""
    for at in range(MOST_FILES + 3):
        write_learned(tmp_path, Learned(owner=f"server {at}"))
    assert len(list(tmp_path.iterdir())) == MOST_FILES
    last = tmp_path / file_name(f"server {MOST_FILES + 2}")
    assert json.loads(last.read_text())["owner"] == f"server {MOST_FILES + 2}"
