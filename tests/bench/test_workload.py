"""Prompts and seeds from a file."""

from pathlib import Path

import pytest

from bench.workload import WorkItem, read_workload
from cascade.errors import InvalidRequest


def test_the_built_in_prompts_never_repeat_a_picture() -> None:
    """64 prompts, a new seed for each request, from the first seed on."""
    workload = read_workload(None, 5)
    assert len(workload.prompts) == 64
    assert workload.item(0) == WorkItem("a red apple, noto style", 5)
    assert workload.item(64) == WorkItem("a red apple, noto style", 69)
    assert len({workload.item(n) for n in range(300)}) == 300


def test_a_file_may_say_the_seeds(tmp_path: Path) -> None:
    """After a tab; comments and empty lines left out."""
    path = tmp_path / "prompts.txt"
    path.write_text("# mine\na cat\t7\n\na dog\n")
    workload = read_workload(path, 100)
    assert [workload.item(n) for n in range(3)] == [
        WorkItem("a cat", 7), WorkItem("a dog", 101), WorkItem("a cat", 7),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["a\t-1\n", "a\tx\n", f"a\t{2**64}\n", "# none\n", "a\x00b\n"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    """A wrong seed, no prompt, a control character."""
    path = tmp_path / "prompts.txt"
    path.write_text(text)
    with pytest.raises(InvalidRequest):
        read_workload(path)
