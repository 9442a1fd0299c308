"""The comparison of an older client with the present one says yes only where it should."""

import copy
from typing import Any

import pytest

from benchmarks.lib.client_scenarios import CUTS, PROMPTS
from benchmarks.old_client import compared

STAGES = ("base", "sr256", "sr1024")


def seen() -> dict[str, Any]:
    """What a client sees that works: every stage has the same hash everywhere."""
    local = {prompt: {stage: f"{prompt} {stage}" for stage in STAGES} for prompt in PROMPTS}
    first = local[PROMPTS[0]]
    return {
        "local": local,
        "pictures": {f"cut {cut}, {p}": dict(local[p]) for cut in CUTS for p in PROMPTS},
        "errors": {"another bundle": ["BundleMismatch", "bundle_id", "FAILED_PRECONDITION"]},
        "resume": {"resumed": True, "finished": len(STAGES) + 1, "pictures": dict(first)},
        "detached": {
            "pictures": dict(first),
            "cancelled": [True, False],
            "after": ["UnknownRequest", "request_id", "NOT_FOUND"],
        },
        "cancel": {"server": "idle"},
    }


def test_a_client_that_works_is_right_everywhere() -> None:
    """Eight pictures, the errors, and three ways to end."""
    checks = compared(seen(), seen())
    assert len(checks) == len(CUTS) * len(PROMPTS) + 4
    assert all(checks.values())


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("pictures", f"cut 1, {PROMPTS[1]}", "sr256"), "another"),
        (("errors", "another bundle"), ["nothing"]),
        (("resume", "resumed"), False),
        (("detached", "cancelled"), [False, False]),
        (("cancel", "server"), "busy"),
    ],
)
def test_one_wrong_answer_is_one_no(keys: tuple[str, ...], value: Any) -> None:
    """Whatever the older client saw otherwise, and nothing else."""
    old = copy.deepcopy(seen())
    *path, last = keys
    holder = old
    for key in path:
        holder = holder[key]
    holder[last] = value
    wrong = [name for name, is_right in compared(old, seen()).items() if not is_right]
    assert len(wrong) == 1


def test_a_client_that_rounds_differently_is_compared_with_its_own_code() -> None:
    """Of the stages that it ran itself; what the server made of them has another start."""
    old = seen()
    prompt = PROMPTS[0]
    old["local"][prompt]["base"] = "rounded"
    old["pictures"][f"cut 2, {prompt}"] = {"base": "rounded", "sr256": "x", "sr1024": "y"}
    old["pictures"][f"cut 3, {prompt}"] = {"base": "rounded", "sr256": "x", "sr1024": "y"}
    wrong = [name for name, is_right in compared(old, seen()).items() if not is_right]
    # At cut 3 it ran sr256 too, and its own code makes another one of it.
    assert wrong == [
        f"pictures: cut 3, {prompt}: its own 2 as its own code's, which rounds differently"
    ]
