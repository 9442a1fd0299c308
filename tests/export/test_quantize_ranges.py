"""Levels of an activation: from values of a known distribution to known levels."""

import numpy as np
import pytest

from export.quantize.calibration import observe
from export.quantize.layers import find_layers
from export.quantize.ranges import (
    LEVELS,
    SAMPLES,
    ActivationKind,
    Observed,
    Quantization,
    RangeMethod,
    choose_range,
    quantization,
    squared_error,
)
from tests.export.small_graphs import CHANNELS, random, two_readers


def observed(values: np.ndarray) -> Observed:
    """Those values, seen in pieces."""
    seen = Observed()
    for piece in np.array_split(values.astype(np.float32), 8):
        seen.add(piece, np.random.default_rng(0))
    return seen


def test_min_max_covers_what_was_seen() -> None:
    """-1 to 3 in 256 levels: a step of 4 / 255, zero at level 64."""
    found = choose_range(observed(np.linspace(-1, 3, 1000)), "uint8", "min_max")
    assert found.scale == pytest.approx(4 / 255)
    assert found.zero_point == 64


@pytest.mark.parametrize("kind", list(LEVELS))
def test_zero_is_exact_and_the_ends_are_near(kind: ActivationKind) -> None:
    """0 is a level of every kind; both ends are within half a step."""
    found = quantization(-0.3, 2.0, kind)
    ends = np.array([0.0, -0.3, 2.0], np.float32)
    rounded = found.round(ends)
    assert rounded[0] == 0
    assert np.abs(rounded - ends).max() <= 0.5001 * found.scale


def test_ranges_always_hold_zero() -> None:
    """Padding is zero, also where no value was."""
    assert quantization(1.0, 2.0, "uint8") == Quantization(float(np.float32(2 / 255)), 0, "uint8")
    assert quantization(-2.0, -1.0, "uint8").zero_point == 255
    assert quantization(0.0, 0.0, "uint8").scale == 1.0


def test_half_the_levels_are_twice_as_wide() -> None:
    """`uint7` has the range of `uint8` in 127 steps instead of 255."""
    wide, narrow = quantization(-1, 3, "uint7"), quantization(-1, 3, "uint8")
    assert wide.scale == pytest.approx(narrow.scale * 255 / 127)


def test_the_percentile_of_a_known_distribution() -> None:
    """0.01 % of an exponential distribution lies beyond log(10^4) = 9.21."""
    values = np.random.default_rng(0).exponential(size=32 * SAMPLES)
    values[0] = 500.0
    seen = Observed()
    for piece in np.array_split(values.astype(np.float32), 32):
        seen.add(piece, np.random.default_rng(1))
    found = choose_range(seen, "uint8", "percentile")
    assert found.scale * 255 == pytest.approx(np.log(1e4), rel=0.12)
    assert choose_range(seen, "uint8", "min_max").scale * 255 == pytest.approx(500, rel=1e-5)


@pytest.mark.parametrize("kind", list(LEVELS))
def test_the_search_is_no_worse_than_the_full_range(kind: ActivationKind) -> None:
    """With one far outlier the range with the least squared error leaves it out."""
    values = np.random.default_rng(0).standard_normal(8 * SAMPLES)
    values[5] = 12.0
    seen = observed(values)
    found = {m: choose_range(seen, kind, m) for m in ("min_max", "squared_error")}
    errors = {m: squared_error(seen.values, q) for m, q in found.items()}
    assert errors["squared_error"] <= errors["min_max"]
    assert found["squared_error"].scale < found["min_max"].scale


@pytest.mark.parametrize("method", ["min_max", "percentile", "squared_error"])
def test_uniform_noise_costs_a_twelfth_of_a_step_squared(method: RangeMethod) -> None:
    """The classical error of rounding."""
    values = np.random.default_rng(0).uniform(-1, 1, 8 * SAMPLES)
    found = choose_range(observed(values), "uint8", method)
    error = np.square(found.round(values.astype(np.float32)) - values).mean()
    assert error == pytest.approx(found.scale**2 / 12, rel=0.05)


def test_every_layers_tensors_are_seen() -> None:
    """Inputs, outputs and how many values there were, over all cases."""
    model = two_readers()
    cases = [{"x": random(2, CHANNELS, 5, 5, seed=s)} for s in range(3)]
    seen = observe(model, find_layers(model), cases)
    assert set(seen) == {"x", "a", "b", "sum", "y"}
    both = np.concatenate([case["x"] for case in cases])
    assert (seen["x"].low, seen["x"].high) == (both.min(), both.max())
    assert seen["y"].outputs == 3 * 2 * 4 * 25
    assert [info.name for info in model.graph.output] == ["y"]
