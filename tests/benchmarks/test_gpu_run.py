"""`make gpu` where there is no GPU: its plan, its budget, and the JSON that it always leaves."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import gpu_run
from benchmarks.gpu_run import BUDGET_S, PLAN, GpuPart, figures_of, marked_tests, run_all, verdicts

JUNIT = '<testsuites><testsuite tests="9" failures="1" errors="0" skipped="2"/></testsuites>'


class Doing(GpuPart):
    """A part that runs a command of the test's."""

    __slots__ = ()

    def command(self, out: Path, device: str, *, small: bool) -> list[str]:
        """By its name."""
        text = f"import pathlib; pathlib.Path({str(out)!r}).write_text('{{\"a\": 1}}')"
        return {
            "good": [sys.executable, "-c", text],
            "bad": [sys.executable, "-c", text + "; raise SystemExit('no card')"],
            "long": ["sleep", "600"],
        }[self.name]


class HourClock:
    """An hour passes with every question from the third on."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> float:
        """Seconds."""
        self.asked += 1
        return 3600.0 * max(0, self.asked - 2)


def test_the_limits_of_all_parts_fit_nine_minutes() -> None:
    """With half a minute for what is between them."""
    assert sum(part.limit_s for part in PLAN) <= BUDGET_S <= 9 * 60 - 30


def test_a_part_that_needs_what_is_not_here_says_so(tmp_path: Path) -> None:
    """And the others go on; the record is complete, for nothing was forgotten."""
    parts = [
        GpuPart(name="torch", limit_s=9, needs=("no_such_module",)),
        Doing(name="good", limit_s=60),
    ]
    record = run_all(tmp_path / "gpu.json", parts, "cpu", small=True)
    assert record["parts"]["torch"] == {
        "status": "not run", "reason": "not installed: no_such_module"
    }  # fmt: skip
    assert record["parts"]["good"]["status"] == "done"
    assert record["parts"]["good"]["figures"] == {"a": 1}
    assert record["complete"]
    assert json.loads((tmp_path / "gpu.json").read_text()) == record


def test_a_part_that_fails_or_hangs_leaves_what_it_had(tmp_path: Path) -> None:
    """Its figures, its last words, and the parts after it."""
    parts = [Doing(name="bad", limit_s=60), Doing(name="long", limit_s=LONG)]
    outcomes = run_all(tmp_path / "gpu.json", parts, "cpu", small=True)["parts"]
    assert (outcomes["bad"]["status"], outcomes["bad"]["figures"]) == ("failed", {"a": 1})
    assert "no card" in outcomes["bad"]["reason"]
    assert (outcomes["long"]["status"], outcomes["long"]["figures"]) == ("stopped", {})


LONG = 0.2


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part may get less than it would be worth on a GPU."""
    monkeypatch.setattr(gpu_run, "LEAST_S", 0.1)


def test_the_budget_ends_the_run_and_not_the_record(tmp_path: Path) -> None:
    """What there was no time for is named."""
    parts = [Doing(name="good", limit_s=60), Doing(name="long", limit_s=60)]
    record = run_all(tmp_path / "gpu.json", parts, "cpu", small=True, clock=HourClock())
    assert record["parts"]["long"] == {"status": "not run", "reason": "no time left"}
    fields = {"format", "complete", "surroundings", "parts", "seconds", "exact_equal",
              "times_torch_compile_bf16"}  # fmt: skip
    assert set(record) == fields


def test_the_marked_tests_are_counted(tmp_path: Path) -> None:
    """All files with the mark, and what became of their tests."""
    assert [path.name for path in marked_tests()] == ["test_ort_gpu.py", "test_trt.py"]
    out = tmp_path / "figures"
    out.write_text(JUNIT)
    found = figures_of(PLAN[0], out)
    assert found == {"tests": 9, "failures": 1, "errors": 0, "skipped": 2}


def test_a_verdict_is_of_what_was_measured() -> None:
    """One hash apart is not equal; ratios are of what was compiled."""
    exact = {"processor": {"sha256": "a"}, "cuda": {"equal": True}, "cuda TF32": {"equal": False}}
    engine = {"export_s": 1.0, "ort-cuda": {"median_s": 0.5}, "tensorrt": {"problem": "none"}}
    torch = {"torch.compile bf16": {"median_s": 1.0}}
    parts = {
        "exact": {"figures": exact},
        "engine": {"figures": engine},
        "torch": {"figures": torch},
    }
    assert verdicts(parts) == {"exact_equal": False, "times_torch_compile_bf16": {"ort-cuda": 2.0}}
    assert verdicts({}) == {"exact_equal": None, "times_torch_compile_bf16": {}}


@pytest.mark.parametrize("part", PLAN, ids=lambda part: part.name)
def test_a_part_is_a_command_of_this_python(part: GpuPart, tmp_path: Path) -> None:
    """With the device and the size handed on."""
    words = part.command(tmp_path, "cpu", small=True)
    assert words[:2] == [sys.executable, "-m"]
    if part.name != "tests":
        assert words[-3:] == ["--device", "cpu", "--small"]
