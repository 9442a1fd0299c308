"""Every kind of enlarging: against Pillow, its definition, and what any of them keeps."""

from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from cascade.bundle.manifest import Manifest
from cascade.codecs.image import from_network, to_network
from cascade.diffusion.conditioning import augment, cubic_kernel
from cascade.diffusion.enlarging import enlarge
from cascade.diffusion.options import resolve_options, with_own_picture
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.spec import DiffusionSpec, EnlargeKind
from cascade.diffusion.stage import DiffusionStage
from cascade.diffusion.tiles import Tiling, tiling_of
from cascade.errors import ManifestError
from cascade.events import StageFinished
from cascade.graph_spec import NET
from cascade.numerics.noise import AUGMENTATION, normals
from cascade.numerics.tile_joins import side
from cascade.request import GenerateRequest, Handoff
from cascade.types import Array, ImageU8
from tests.support.manifests import stages_of, with_stages
from tests.support.tiny_bundle import WIDTH, write_tiny_bundle

ENLARGING: tuple[EnlargeKind, ...] = tuple(k for k in get_args(EnlargeKind) if k != "none")
WHOLE = ("cubic", "bilinear_corners")
"""Kinds that take whole factors alone."""
KINDS = pytest.mark.parametrize("kind", ENLARGING)
SIZES = (
    (8, 8, 16, 16),
    (7, 5, 21, 15),
    (5, 9, 13, 11),
    (6, 4, 7, 9),
    (1, 1, 4, 4),
    (64, 3, 100, 4),
)
"""Width and height, before and after; some by no whole factor."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The manifest of the tiny bundle."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny").manifest


def drawn(width: int, height: int, seed: int = 0) -> ImageU8:
    """A picture of noise, extremes included."""
    values = np.random.default_rng(seed).integers(-60, 316, (height, width, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


def sizes_of(kind: EnlargeKind) -> list[tuple[int, int, int, int]]:
    """The sizes that a kind takes."""
    return [s for s in SIZES if kind not in WHOLE or not (s[2] % s[0] or s[3] % s[1])]


def pil(picture: ImageU8, size: tuple[int, int], method: Image.Resampling) -> ImageU8:
    """Pillow's own resize."""
    return np.asarray(Image.fromarray(picture).resize(size, method))


@pytest.mark.parametrize("size", SIZES)
def test_bicubic_pil_is_pillow_s_to_the_byte(size: tuple[int, int, int, int]) -> None:
    """At any factor, whole or not, and at the edges."""
    picture, made = drawn(*size[:2]), size[2:]
    found = from_network(enlarge(picture, made, "bicubic_pil"))
    np.testing.assert_array_equal(found, pil(picture, made, Image.Resampling.BICUBIC))


@pytest.mark.parametrize("size", SIZES)
def test_bilinear_is_pillow_s_within_its_rounding(size: tuple[int, int, int, int]) -> None:
    """Pillow rounds to 8 bits twice: after the rows, and after the columns."""
    picture, made = drawn(*size[:2]), size[2:]
    expected = pil(picture, made, Image.Resampling.BILINEAR).astype(np.float64)
    found = (enlarge(picture, made, "bilinear").astype(np.float64) + 1) * 127.5
    assert np.abs(np.moveaxis(found[0], 0, 2) - expected).max() < 1.01


@pytest.mark.parametrize("size", [s for s in SIZES if not (s[2] % s[0] or s[3] % s[1])])
def test_nearest_is_pillow_s_at_whole_factors(size: tuple[int, int, int, int]) -> None:
    """Every pixel repeated, to the byte."""
    picture, made = drawn(*size[:2]), size[2:]
    found = from_network(enlarge(picture, made, "nearest"))
    np.testing.assert_array_equal(found, pil(picture, made, Image.Resampling.NEAREST))


def bilinear_matrix(small: int, large: int) -> Array:
    """`[large, small]`: hat functions around the pixel centres, the edges continued."""
    places = np.clip((np.arange(large) + 0.5) * small / large - 0.5, 0, small - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(small)))


@pytest.mark.parametrize("size", SIZES)
def test_bilinear_is_its_definition(size: tuple[int, int, int, int]) -> None:
    """A product with both matrices in double precision, but for the rounding of the sums."""
    picture = drawn(*size[:2])
    down, along = bilinear_matrix(size[1], size[3]), bilinear_matrix(size[0], size[2])
    expected = down @ to_network(picture).astype(np.float64) @ along.T
    np.testing.assert_allclose(enlarge(picture, size[2:], "bilinear"), expected, atol=5e-7)


def test_bicubic_pil_is_cubic_inside() -> None:
    """The kernel is the same: away from the edges only the two roundings to 8 bits differ."""
    picture = (128 + 60 * np.sin(np.arange(256 * 3) / 7)).reshape(16, 16, 3).astype(np.uint8)
    found, cubic = (enlarge(picture, (64, 64), kind) for kind in ("bicubic_pil", "cubic"))
    assert np.abs(found - cubic)[..., 8:-8, 8:-8].max() < 1.6 / 127.5
    assert cubic_kernel(np.array([0.5]))[0] == 9 / 16


def test_none_shows_the_picture_itself() -> None:
    """At its own size, whatever the size of the result."""
    picture = drawn(4, 3)
    np.testing.assert_array_equal(enlarge(picture, (8, 6), "none"), to_network(picture))


@KINDS
@pytest.mark.parametrize("level", [0, 1, 127, 255])
def test_a_colour_stays_a_colour(kind: EnlargeKind, level: int) -> None:
    """At every size that the kind takes."""
    for width, height, *made in sizes_of(kind):
        flat = np.full((height, width, 3), level, np.uint8)
        found = enlarge(flat, (made[0], made[1]), kind)
        assert found.shape == (1, 3, made[1], made[0])
        np.testing.assert_allclose(found, level / 127.5 - 1, atol=5e-7)


@KINDS
def test_no_direction_is_preferred(kind: EnlargeKind) -> None:
    """Mirrored or turned before or after is the same picture; `nearest` at whole factors alone."""
    for size in sizes_of(kind):
        if kind == "nearest" and (size[2] % size[0] or size[3] % size[1]):
            continue
        # Grey enough that Pillow has nothing to clip between the rows and the columns.
        picture, made = drawn(*size[:2]) // 4 + 96, (size[2], size[3])
        whole = enlarge(picture, made, kind)
        mirrored = enlarge(picture[:, ::-1], made, kind)[..., ::-1]
        turned = enlarge(picture.swapaxes(0, 1), made[::-1], kind).swapaxes(2, 3)
        # Pillow rounds the rows to 8 bits before it goes on to the columns.
        atol = 2.1 / 127.5 if kind == "bicubic_pil" else 5e-7
        np.testing.assert_allclose(mirrored, whole, atol=5e-7)
        np.testing.assert_allclose(turned, whole, atol=atol)


@KINDS
def test_the_same_size_is_the_same_picture(kind: EnlargeKind) -> None:
    """A factor of 1 changes nothing."""
    picture = drawn(6, 5)
    np.testing.assert_array_equal(enlarge(picture, (6, 5), kind), to_network(picture))


@pytest.mark.parametrize(("size", "tile", "grain"), [(70, 16, 16), (40, 12, 12), (64, 16, 4)])
def test_tiles_of_a_picture_that_is_not_enlarged_begin_on_its_pixels(
    size: int, tile: int, grain: int
) -> None:
    """Starts and lengths are multiples of the factor, and cover the picture."""
    found = side(size, tile, grain, 4)
    assert all(not value % 4 for value in (found.length, found.tile, *found.starts))
    assert found.length >= size
    assert all(b - a <= tile for a, b in zip(found.starts, found.starts[1:], strict=False))
    small = Tiling(found, found).shown(4)
    assert small.canvas == (found.length // 4, found.length // 4)


class Zeros:
    """Predicts zeros, and keeps the pictures that it was shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[Array, Array]] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Zeros like `x_t`."""
        self.shown.append((inputs["x_t"], inputs["low_res"]))
        return {"prediction": np.zeros_like(inputs["x_t"])}

    def terminate(self) -> None:
        """Nothing runs long enough to end."""

    def close(self) -> None:
        """Nothing to release."""


def unenlarged(manifest: Manifest) -> DiffusionSpec:
    """The tiny bundle's second stage, 8 -> 16, with a graph that is shown the 8x8 picture."""
    spec = stages_of(manifest)[1]
    sizes = {"x_t": 16, "low_res": 8}
    inputs = tuple(
        replace(i, shape=("batch", 3, sizes[i.name], sizes[i.name])) if i.name in sizes else i
        for i in spec.graph.inputs
    )
    graphs = {NET: replace(spec.graph, inputs=inputs)}
    return replace(spec, graphs=graphs, enlarge="none", steps=1)


def test_a_network_is_shown_the_small_picture(tiny: Manifest) -> None:
    """At its own size, with noise of that size; of larger pictures each tile has its part."""
    spec, engine = unenlarged(tiny), Zeros()
    level = 0.25
    plan = replace(resolve_options(spec, DiffusionOptions(augmentation=level)))
    for width, height in ((8, 8), (14, 9)):
        engine.shown.clear()
        own = plan if width == 8 else with_own_picture(spec, plan, (width, height))
        picture = drawn(width, height)
        handoff = Handoff(context=np.ones((2, WIDTH), np.float16), image=picture)
        request = GenerateRequest(seed=6, plans={spec.name: own})
        *_, last = DiffusionStage(spec, 2, engine).run(request, handoff)
        assert isinstance(last, StageFinished)
        assert last.handoff.image is not None
        assert last.handoff.image.shape == (2 * height, 2 * width, 3)
        noise = normals((1, 3, height, width), seed=6, image=0, stage=2, step=AUGMENTATION)
        low = augment(to_network(picture), level, noise)
        tiling = tiling_of(spec, 2 * width, 2 * height).shown(2)
        assert len(engine.shown) == tiling.count
        assert {(x.shape[2:], shown.shape[2:]) for x, shown in engine.shown} == {((16, 16), (8, 8))}
        np.testing.assert_array_equal(engine.shown[0][1][0], low[0, :, :8, :8])


def test_a_graph_takes_the_size_that_its_kind_shows(tiny: Manifest) -> None:
    """Shown the small picture, its input has that size, and no free one."""
    for spec in (
        replace(stages_of(tiny)[1], enlarge="none"),
        replace(unenlarged(tiny), enlarge="nearest"),
    ):
        with pytest.raises(ManifestError) as caught:
            with_stages(tiny, (stages_of(tiny)[0], spec, *stages_of(tiny)[2:]))
        assert caught.value.field == "manifest.components[2].enlarge"
    with_stages(tiny, (stages_of(tiny)[0], unenlarged(tiny), *stages_of(tiny)[2:]))
