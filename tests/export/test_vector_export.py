"""Torch components that take vectors beside the words: exported, proven, and obeyed."""

from dataclasses import replace

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.commands.cli import main
from cascade.diffusion.spec import GuidanceSpec
from cascade.errors import InvalidRequest, UnsupportedModel
from cascade.types import ImageU8
from examples.my_vectors import describe
from runtime_client.client import Client
from tests.support.manifests import stages_of

SHADE = (1.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The example's bundle, written by the command."""
    out = tmp_path_factory.mktemp("own") / "places"
    source = "examples.my_vectors:describe"
    more = ["--precisions", "fp32", "int8"]
    assert main(["export", "--from", "torch", source, "--out", str(out), *more]) == 0
    return open_bundle(out)


def centre(image: ImageU8) -> tuple[float, float]:
    """Where the light of a picture `[H, W, 3]` is, across and down, -1 to 1."""
    light = image.sum(axis=2, dtype=np.float64)
    sides = np.linspace(-1, 1, len(light))
    return float((light.sum(0) * sides).sum() / light.sum()), float(
        (light.sum(1) * sides).sum() / light.sum()
    )


def test_the_circle_is_where_the_vector_says(places: Bundle) -> None:
    """Through the real split and all here: the same pixels, its default in the middle."""
    found = []
    for cut in (1, 2):
        with Client(places, cut=cut, threads=1) as client:
            middle = client.generate("a red circle", vectors={"shade": SHADE})
            moved = client.generate("a red circle", vectors={"shade": SHADE, "place": (0.4, -0.3)})
            dark = client.generate("a red circle", vectors={"shade": [-4.0] * 4})
        found.append((middle.image, moved.image, dark.image))
    np.testing.assert_array_equal(found[0], found[1])
    middle_image, moved_image, dark_image = found[0]
    assert centre(middle_image) == pytest.approx((0, 0), abs=0.03)
    assert centre(moved_image) == pytest.approx((0.4, -0.3), abs=0.06)
    assert dark_image.mean() < middle_image.mean()
    colours = middle_image[15:17, 15:17].mean(axis=(0, 1))
    assert colours[0] > 2 * max(colours[1:])


def test_what_a_request_does_not_bring_is_named(places: Bundle) -> None:
    """The embedding has no default."""
    with (
        Client(places, cut=2, threads=1) as client,
        pytest.raises(InvalidRequest, match=r"^vectors\.shade: base needs 4 numbers"),
    ):
        client.generate("a red circle")


def test_int8_is_calibrated_with_vectors(places: Bundle) -> None:
    """Made-up ones of a request, those of the words from the encoder: pictures survive it."""
    (stage,) = stages_of(places.manifest)
    (variant,) = stage.graph.variants
    assert variant.quality.value > 30


def test_a_description_without_words_is_guided_by_vectors_that_become_zeros() -> None:
    """And refused where none of them does."""
    (stage,) = describe().stages
    weight = GuidanceSpec(kind="constant", weight=2.0)
    guided = replace(stage, uses_context=False, vectors=stage.vectors[2:], guidance=weight)
    assert guided.guidance.weight == 2.0
    with pytest.raises(UnsupportedModel, match=r"base\.guidance"):
        replace(guided, vectors=stage.vectors[1:2])
