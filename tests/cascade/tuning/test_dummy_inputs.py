"""Dummy inputs: of the graph's shapes, the same every time, and like a denoising step's."""

from dataclasses import replace

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.diffusion.dummy_run import waves
from cascade.tuning.dummy_inputs import (
    default_batch,
    default_shapes,
    dummy_inputs,
    free_axes,
)
from tests.support.manifests import encoder_of, stages_of
from tests.support.tiny_bundle import SIZES, write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle."""
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


def test_pictures_are_smooth_and_noisy_ones_halfway_to_noise(bundle: Bundle) -> None:
    """A step at t = 0.5: unit variance in `x_t`, neighbours alike in `low_res`."""
    last = stages_of(bundle.manifest)[-1]
    inputs = dummy_inputs(last, free_axes(last, batch=4, tokens=3))
    assert inputs["x_t"].shape == inputs["low_res"].shape == (4, 3, SIZES[-1], SIZES[-1])
    assert abs(inputs["x_t"].std() - np.sqrt(0.75)) < 0.03
    assert np.abs(np.diff(inputs["low_res"], axis=-1)).max() < 2 * np.pi / (SIZES[-1] - 1)
    assert (inputs["t"] == 0.5).all()
    again = dummy_inputs(last, free_axes(last, batch=4, tokens=3))
    assert all(np.array_equal(again[name], value) for name, value in inputs.items())


def test_no_two_pictures_of_a_batch_are_equal() -> None:
    """Rows that swapped places would be seen."""
    pictures = waves((4, 3, 8, 8)).reshape(12, -1)
    assert len({picture.tobytes() for picture in pictures}) == 12


def test_guidance_doubles_rows_unless_it_is_taught(bundle: Bundle) -> None:
    """What one evaluation of a step is: two rows, or one for a student."""
    base = stages_of(bundle.manifest)[0]
    guided = replace(base, guidance=replace(base.guidance, weight=2.0, taught=()))
    assert default_batch(guided) == 2
    assert default_batch(replace(guided, guidance=replace(guided.guidance, weight=1.0))) == 1
    taught = replace(guided, guidance=replace(guided.guidance, taught=(1.0, 5.0)))
    assert default_batch(taught) == 1


def test_usual_shapes_leave_the_length_of_texts_open(bundle: Bundle) -> None:
    """Batch and size are those of the defaults."""
    last, base = stages_of(bundle.manifest)[-1], stages_of(bundle.manifest)[0]
    shapes = default_shapes(last)
    assert shapes["low_res"] == shapes["x_t"] == (default_batch(last), 3, SIZES[-1], SIZES[-1])
    assert shapes["context"][:2] == shapes["context_mask"] == (default_batch(last), None)
    assert default_shapes(base).keys() == {tensor.name for tensor in base.graph.inputs}
    assert default_shapes(encoder_of(bundle.manifest))["token_ids"] == (1, None)
