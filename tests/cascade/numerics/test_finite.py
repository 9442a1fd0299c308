"""NaN and infinity end a run by name, before an engine or a clip can make numbers of them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from cascade.diffusion.denoiser import EngineDenoiser
from cascade.diffusion.parametrization import Prediction
from cascade.diffusion.schedule import CosineSchedule
from cascade.diffusion.thresholding import StaticThreshold
from cascade.errors import StageError
from cascade.numerics.finite import is_finite
from cascade.types import Array

BAD = (np.nan, np.inf, -np.inf)
KINDS: tuple[Prediction, ...] = ("v", "epsilon", "x0")


@dataclass
class Engine:
    """Answers with one number everywhere but in a single place."""

    value: float = 0.5
    runs: int = 0

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """As an 8-bit graph does: whatever comes in, what goes out does not show it."""
        self.runs += 1
        prediction = np.full_like(inputs["x_t"], 0.5)
        prediction[0, 1, 2, 3] = self.value
        return {"prediction": prediction}

    def terminate(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is open."""


def noisy(value: float = 0.0) -> Array:
    """Noisy images, one pixel of them given."""
    images = np.linspace(-2, 2, 2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)
    images[1, 0, 0, 0] = value
    return images


TIMES = np.array([0.5, 0.5], np.float32)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("size", [1, 100, 1 << 18])
def test_one_bad_number_among_many_is_found(value: float, size: int) -> None:
    """Wherever it lies; what merely adds up to infinity is fine, and whole numbers always are."""
    for place in (0, size // 2, size - 1):
        values = np.full(size, 3e38, np.float32)
        assert is_finite(values)
        values[place] = value
        assert not is_finite(values)
    both = np.array([np.inf, -np.inf], np.float32)
    assert not is_finite(both)
    assert is_finite(np.full(3, 255, np.uint8))
    assert is_finite(np.full(70_000, 65_504, np.float16))


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("kind", KINDS)
def test_bad_images_reach_no_engine(kind: Prediction, value: float) -> None:
    """The noisy images are looked at before a run, whatever the network predicts."""
    engine = Engine()
    denoise = StaticThreshold(EngineDenoiser(engine, CosineSchedule(), kind, {}))
    with pytest.raises(StageError, match="x_t: holds NaN or infinity") as caught:
        denoise(noisy(value), TIMES)
    assert (caught.value.field, engine.runs) == ("x_t", 0)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_answer_is_not_clipped_into_a_picture(kind: Prediction, value: float) -> None:
    """The estimate is looked at before thresholding sees it."""
    denoise = StaticThreshold(EngineDenoiser(Engine(value), CosineSchedule(), kind, {}))
    with pytest.raises(StageError, match="prediction: holds NaN or infinity") as caught:
        denoise(noisy(), TIMES)
    assert caught.value.field == "prediction"


@pytest.mark.parametrize("kind", KINDS)
def test_ordinary_answers_pass(kind: Prediction) -> None:
    """Also large ones."""
    denoise = StaticThreshold(EngineDenoiser(Engine(1e30), CosineSchedule(), kind, {}))
    assert np.abs(denoise(noisy(), TIMES).x0).max() == 1
