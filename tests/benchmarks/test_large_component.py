"""A large component in small: exported, opened twice, and compared with its weights inside."""

import pytest

pytest.importorskip("torch")

from benchmarks.large_component import measure, report


@pytest.mark.torch
def test_the_measurement_runs_with_20_megabytes(capsys: pytest.CaptureFixture[str]) -> None:
    """The same code as `make large`; what it finds of this size says nothing of a large one."""
    found = measure(20)
    assert 15 < found["export"]["megabytes"] < 25
    assert found.keys() == {"export", "beside", "inside"}
    report(found)
    assert "a second session:" in capsys.readouterr().out
