"""A large component in small: exported, opened twice, and compared with its weights inside."""

import pytest

pytest.importorskip("torch")

from benchmarks.large_component import measure, report


@pytest.mark.torch
def test_the_measurement_runs_with_20_megabytes(capsys: pytest.CaptureFixture[str]) -> None:
    """The same code as `make large`; what it finds of this size says nothing of a large one."""
    found = measure(20, [1], blocks=True)
    assert 15 < found["export"]["megabytes"] < 25
    more = {"int8-block", "int4-block", "ort x1", "openvino x1"}
    assert found.keys() == {"export", "beside", "inside", "device", *more}
    assert found["device"]["device_mb"] < 0.1 < 20 < found["device"]["bundle_mb"]
    report(found)
    said = capsys.readouterr().out
    assert "a second session:" in said
    assert "at cut 0 0.0" in said
