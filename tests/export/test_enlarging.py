"""Every kind of enlarging against torch's `interpolate`."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from cascade.codecs.image import to_network
from cascade.diffusion.enlarging import enlarge
from cascade.diffusion.spec import EnlargeKind
from cascade.types import Array, ImageU8


def drawn(width: int, height: int) -> ImageU8:
    """A picture of noise."""
    return np.random.default_rng(2).integers(0, 256, (height, width, 3)).astype(np.uint8)


def theirs(picture: ImageU8, size: tuple[int, int], **mode: object) -> Array:
    """Torch's picture, `[1, 3, H, W]` float32; a size is width and height."""
    low = torch.from_numpy(to_network(picture))
    found: Array = interpolate(low, size=size[::-1], **mode).numpy()  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("size", [(14, 10), (28, 20), (9, 12), (7, 5)])
@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("nearest", {"mode": "nearest"}),
        ("bilinear", {"mode": "bilinear"}),
        ("bilinear", {"mode": "bilinear", "antialias": True}),
        ("bilinear_corners", {"mode": "bilinear", "align_corners": True}),
    ],
)
def test_a_kind_is_torch_s(
    kind: EnlargeKind, mode: dict[str, object], size: tuple[int, int]
) -> None:
    """At whole factors and, where the kind takes them, at others: within float32's rounding."""
    # Aligned corners need a whole factor, the same both ways.
    picture = drawn(3, 4) if (kind, size) == ("bilinear_corners", (9, 12)) else drawn(7, 5)
    found = enlarge(picture, size, kind)
    np.testing.assert_allclose(found, theirs(picture, size, **mode), atol=2e-6)


@pytest.mark.parametrize("size", [(14, 10), (28, 20), (9, 13)])
def test_bicubic_pil_is_torch_s_on_bytes(size: tuple[int, int]) -> None:
    """With antialias torch has Pillow's kernel and edges; on bytes it rounds as Pillow does."""
    picture = drawn(7, 5)
    low = torch.from_numpy(picture.transpose(2, 0, 1)[None].copy())
    bytes_ = interpolate(low, size=size[::-1], mode="bicubic", antialias=True).numpy()
    found = np.rint((enlarge(picture, size, "bicubic_pil") + 1) * 127.5)
    assert np.abs(found - bytes_).max() <= 1


@pytest.mark.parametrize("factor", [2, 4])
def test_cubic_is_torch_s_antialiased_inside(factor: int) -> None:
    """The same kernel, a = -1/2; at the edges torch leaves taps out that are repeated here."""
    picture = drawn(9, 8)
    size = (9 * factor, 8 * factor)
    expected = theirs(picture, size, mode="bicubic", antialias=True)
    inside = (..., slice(2 * factor, -2 * factor), slice(2 * factor, -2 * factor))
    np.testing.assert_allclose(enlarge(picture, size, "cubic")[inside], expected[inside], atol=2e-6)
