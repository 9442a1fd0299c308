"""An edit: a picture of the caller's own that the result is made of, and how much of it is kept.

Image-to-image noises the picture to a level and denoises it from there; inpainting keeps it but for
what a mask names. Bounds are checked here once, wherever the edit comes from, and the picture is
brought to the sizes of stages in whole numbers, so that every machine sees the same one. Knows no
stage.

References:
    Meng et al. 2022, "SDEdit" (arXiv 2108.01073): noise to a level, then down.
    Lugmayr et al. 2022, "RePaint" (arXiv 2201.09865): known pixels put back, steps taken again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cascade.errors import InvalidRequest
from cascade.types import Flags, ImageU8, PlaneU8

MAX_RESAMPLE = 20
"""Times that each step is taken: twice the ten of the paper, beyond which nothing is gained."""
DEFAULT_STRENGTH = 0.7
"""Of an edit without a mask; with one, what is kept guides the rest, and 1 is the default."""
REDRAWN = 128
"""A mask's pixels from this level on are made anew: white, and what is nearer to white."""
ROWS = 128
"""Rows of a picture worked on at a time: their sums take eight times the memory of pixels."""

Size = tuple[int, int]
"""Width and height, in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """What is to become of a picture of the caller's own."""

    picture: ImageU8 = field(repr=False)
    """`[height, width, 3]`, 0 to 255."""
    mask: PlaneU8 | None = field(default=None, repr=False)
    """`[height, width]`: from 128 on a pixel is made anew, below it is kept. None keeps nothing."""
    strength: float | None = None
    """Share of the first stage's steps, 0 to 1: 0 is the picture itself, 1 begins from noise alone.
    None is 1 with a mask, else 0.7."""
    resample: int = 1
    """With a mask, how often each step of the first stage is taken, 1 to 20 (RePaint)."""

    def __post_init__(self) -> None:
        """Check every bound that needs no bundle."""
        shape, kind = np.shape(self.picture), getattr(self.picture, "dtype", None)
        if len(shape) != 3 or shape[2] != 3 or kind != np.uint8 or not min(shape):
            raise wrong("picture", f"expected [height, width, 3] uint8, got {list(shape)} {kind}")
        if self.mask is not None:
            check_mask(self.mask, shape[:2])
        # The negation, for NaN is neither below nor above anything.
        if self.strength is not None and not 0 <= self.strength <= 1:
            raise wrong("strength", f"expected 0 to 1, got {self.strength}")
        if not 1 <= self.resample <= MAX_RESAMPLE:
            raise wrong("resample", f"expected 1 to {MAX_RESAMPLE}, got {self.resample}")
        if self.mask is None and self.resample != 1:
            raise wrong("resample", "it is for pixels that are kept; give a mask, or leave it out")

    @property
    def size(self) -> Size:
        """Of the picture."""
        return self.picture.shape[1], self.picture.shape[0]

    @property
    def share(self) -> float:
        """The strength, with its default filled in."""
        if self.strength is not None:
            return self.strength
        return DEFAULT_STRENGTH if self.mask is None else 1.0


@dataclass(frozen=True, slots=True)
class StageEdit:
    """An edit as one stage sees it: the picture at the size that the stage makes."""

    picture: ImageU8 = field(repr=False)
    """`[height, width, 3]`."""
    redrawn: Flags | None = field(default=None, repr=False)
    """`[height, width]`, true where the picture is not kept; None where nothing is."""
    strength: float = 1.0
    """Share of the steps that are taken; 1 begins from noise alone."""
    resample: int = 1
    """How often each is."""

    @property
    def size(self) -> Size:
        """Of the picture."""
        return self.picture.shape[1], self.picture.shape[0]

    @property
    def size_bytes(self) -> int:
        """Of picture and mask."""
        return self.picture.nbytes + (0 if self.redrawn is None else self.redrawn.nbytes)


def check_mask(mask: PlaneU8, shape: tuple[int, ...]) -> None:
    """Refuse a mask that does not lie on its picture, or names no pixel.

    Args:
        mask: `[height, width]` uint8.
        shape: height and width of the picture.

    Raises:
        InvalidRequest: naming the field.
    """
    if mask.dtype != np.uint8 or mask.shape != tuple(shape):
        raise wrong(
            "mask",
            f"expected {shape[1]}x{shape[0]} uint8 as the picture has, got "
            f"{'x'.join(map(str, mask.shape[::-1]))} {mask.dtype}",
        )
    if not (mask >= REDRAWN).any():
        raise wrong("mask", "it is black, and nothing would be made anew; make that part white")


def wrong(name: str, why: str) -> InvalidRequest:
    """The error that names a field of an edit."""
    return InvalidRequest(f"edit.{name}: {why}", field=f"edit.{name}")


def fitted(edit: Edit, sizes: Sequence[Size]) -> Edit:
    """An edit of any picture, brought to the size of a stage.

    The middle of the picture is taken, as much as has the shape of the stages' pictures. Its size
    is that of the first stage; with a mask that of the last stage whose pictures are not larger,
    for what is kept is kept at that size.

    Args:
        edit: as the caller gave it.
        sizes: of what the stages make, the smallest first; at least one.
    """
    if edit.size in sizes and (edit.mask is not None or edit.size == sizes[0]):
        return edit
    rows, columns = middle(edit.size, sizes[0])
    picture, mask = edit.picture[rows, columns], edit.mask
    wide, tall = picture.shape[1], picture.shape[0]
    reached = [size for size in sizes if size[0] <= wide and size[1] <= tall]
    size = reached[-1] if reached and mask is not None else sizes[0]
    if mask is not None:
        redrawn = resized_flags(mask[rows, columns] >= REDRAWN, size)
        mask = redrawn.astype(np.uint8) * 255
    return replace(edit, picture=resized(picture, size), mask=mask)


def middle(size: Size, shape: Size) -> tuple[slice, slice]:
    """Rows and columns of the largest middle part of a picture that has a shape.

    Args:
        size: of the picture.
        shape: width and height whose ratio is wanted.
    """
    wide, tall = size
    if wide * shape[1] > tall * shape[0]:
        width, height = max(1, tall * shape[0] // shape[1]), tall
    else:
        width, height = wide, max(1, wide * shape[1] // shape[0])
    left, top = (wide - width) // 2, (tall - height) // 2
    return slice(top, top + height), slice(left, left + width)


def resized(picture: ImageU8, size: Size) -> ImageU8:
    """A picture whose every pixel is the mean of the area that it covers, rounded once.

    Args:
        picture: `[height, width, 3]` uint8.
        size: to bring it to; where it is larger, pixels are repeated.

    Returns:
        `[height, width, 3]` uint8, the same on every machine.
    """
    tall, wide = picture.shape[:2]
    if (wide, tall) == size:
        return picture
    sums = area_sums(picture, size)
    area = tall * wide
    means: ImageU8 = ((sums + area // 2) // area).astype(np.uint8)
    return means


def resized_flags(flags: Flags, size: Size) -> Flags:
    """Flags of a picture of another size: set where any pixel below is.

    Args:
        flags: `[height, width]` bool.
        size: to bring them to.
    """
    if (flags.shape[1], flags.shape[0]) == size:
        return flags
    return area_sums(flags.astype(np.uint8)[:, :, None], size)[:, :, 0] > 0


def area_sums(planes: NDArray[np.uint8], size: Size) -> NDArray[np.int64]:
    """Sums over the areas that the pixels of another size cover.

    Args:
        planes: `[height, width, channels]` uint8.
        size: width and height of the other size.

    Returns:
        `[size[1], size[0], channels]` int64: each a mean times the planes' height times width.
    """
    wide = np.empty((planes.shape[0], size[0], planes.shape[2]), np.int64)
    for begin in range(0, len(planes), ROWS):
        part = planes[begin : begin + ROWS].astype(np.int64)
        wide[begin : begin + ROWS] = line_sums(part.swapaxes(0, 1), size[0]).swapaxes(0, 1)
    return line_sums(wide, size[1])


def line_sums(lines: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """`area_sums` along the first axis: `[n, ...]` to `[count, ...]`, each a mean times `n`."""
    length = len(lines)
    if length % count == 0:
        whole_lines = lines.reshape(count, length // count, *lines.shape[1:])
        summed: NDArray[np.int64] = whole_lines.sum(axis=1) * count
        return summed
    # In units of 1/count of a line: every border between two areas is a whole number.
    borders = np.arange(count + 1) * length
    whole, rest = borders // count, borders % count
    before = np.zeros((length + 1, *lines.shape[1:]), np.int64)
    np.cumsum(lines, axis=0, out=before[1:])
    tails = lines[np.minimum(whole, length - 1)]
    shape = (-1, *[1] * (lines.ndim - 1))
    reached = before[whole] * count + tails * rest.reshape(shape)
    between: NDArray[np.int64] = reached[1:] - reached[:-1]
    return between


def at_sizes(edit: Edit, sizes: Sequence[Size]) -> list[StageEdit]:
    """An edit as stages see it, one after the other.

    Args:
        edit: its picture is of the size of the last of them.
        sizes: of what they make, the smallest first.

    Returns:
        One for each size. Each but the last is made of the one after it, so that a stage sees the
        same whatever part of them runs on its machine.
    """
    redrawn = None if edit.mask is None else edit.mask >= REDRAWN
    found = [StageEdit(edit.picture, redrawn)]
    for size in reversed(sizes[:-1]):
        after = found[0]
        below = None if after.redrawn is None else resized_flags(after.redrawn, size)
        found.insert(0, StageEdit(resized(after.picture, size), below))
    return found
