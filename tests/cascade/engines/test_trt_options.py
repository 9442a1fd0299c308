"""Build options: wrong ones are refused with field and remedy, and all of them are in the key."""

from dataclasses import replace
from typing import Any

import pytest

from cascade.engines.trt_options import (
    LOWEST_CAPABILITY,
    AxisRange,
    BuildOptions,
    Capability,
    parse_capability,
    profile_shapes,
)
from cascade.errors import EngineError
from cascade.precision import BLOCKS, Precision


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("max-batch", {"max_batch": 0}),
        ("max-batch", {"max_batch": 257}),
        ("max-tokens", {"max_tokens": 0}),
        ("size", {"size": 1000}),
        ("size", {"size": 8192}),
        ("workspace-mib", {"workspace_mib": 0}),
        ("compute-capability", {"capabilities": (Capability(8, 6), Capability(8, 6))}),
        ("precision", {"precision": Precision.FP8, "capabilities": (Capability(8, 6),)}),
        ("precision", {"precision": Precision.BF16, "capabilities": (Capability(7, 5),)}),
    ],
)
def test_wrong_options_name_their_field(field: str, values: dict[str, Any]) -> None:
    """The field is that of the command line, without its dashes."""
    with pytest.raises(EngineError, match=f"^{field}: ") as caught:
        BuildOptions(**values)
    assert caught.value.field == field


@pytest.mark.parametrize("text", ["8", "8.", "86", "sm_86", "8.6.1", "-8.6", ""])
def test_malformed_capabilities_are_refused(text: str) -> None:
    """With an example of a right one."""
    with pytest.raises(EngineError, match=r"not like 8\.6"):
        parse_capability(text)


def test_capabilities_are_ordered_as_numbers() -> None:
    """12.0 is later than 8.9, which text would get wrong."""
    assert parse_capability("12.0") > parse_capability("8.9") > parse_capability("8.6")
    assert parse_capability("12.0").member == "SM120"
    assert set(LOWEST_CAPABILITY) == set(Precision) - BLOCKS


@pytest.mark.parametrize(
    "change",
    [
        {"max_batch": 4},
        {"max_tokens": 32},
        {"size": 512},
        {"workspace_mib": 512},
        {"extra_axes": {"frames": AxisRange(smallest=1, opt=2, largest=3)}},
    ],
)
def test_every_number_reaches_the_key(change: dict[str, Any]) -> None:
    """Profile or flags differ, so the engine's key does."""
    usual = BuildOptions()
    other = replace(usual, **change)
    assert (other.profile, other.flags) != (usual.profile, usual.flags)


@pytest.mark.parametrize(("batch", "size"), [(1, 32), (1, 1024), (2, 64), (8, 256), (256, 4096)])
def test_ranges_are_in_order(batch: int, size: int) -> None:
    """Smallest, usual, largest, for every allowed limit."""
    for span in BuildOptions(max_batch=batch, size=size).axes.values():
        assert 1 <= span.smallest <= span.opt <= span.largest
    with pytest.raises(EngineError):
        AxisRange(smallest=3, opt=2, largest=4)


def test_shapes_follow_the_ranges() -> None:
    """Fixed axes stay, free ones take their range, unknown ones are errors."""
    axes = BuildOptions(max_batch=4, size=512).axes
    shapes = profile_shapes("x_t", ("batch", 3, "height", "width"), axes)
    assert shapes == ((1, 3, 8, 8), (2, 3, 512, 512), (4, 3, 512, 512))
    with pytest.raises(EngineError, match="no range for its free axis 'frames'"):
        profile_shapes("x_t", ("frames", 3), axes)
