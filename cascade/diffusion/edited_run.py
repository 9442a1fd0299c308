"""A run that is made of a caller's own picture: begun from it, or with its known pixels put back.

Knows the inputs of a sampler and one stage's plan; not the network.
"""

from collections.abc import Generator
from dataclasses import replace

import numpy as np

from cascade.codecs.image import to_network
from cascade.diffusion.denoiser import Denoiser
from cascade.diffusion.known_pixels import KnownPixels, noised
from cascade.diffusion.options import SamplingOptions
from cascade.diffusion.samplers.choice import SamplerInputs, sample
from cascade.diffusion.samplers.resampling import resampled
from cascade.diffusion.samplers.sampling import DenoiserAt, SamplerStep
from cascade.diffusion.spec import DiffusionSpec
from cascade.diffusion.tiles import on_canvas, tiling_of
from cascade.edit import StageEdit
from cascade.numerics.noise import AGAIN, KNOWN
from cascade.types import Batch, Flags, ImageU8


def edited(
    spec: DiffusionSpec, inputs: SamplerInputs, plan: SamplingOptions
) -> Generator[SamplerStep, None, None]:
    """The steps of a run that is made of an own picture.

    Args:
        spec: the stage's entry.
        inputs: of the whole run, from noise.
        plan: with an edit.
    """
    edit = plan.edit
    if edit is None or not plan.evaluations:
        return
    tiling = tiling_of(spec, *edit.size)
    pictures = on_canvas(to_network(edit.picture), tiling, "edge")
    if edit.redrawn is not None:
        # What lies beyond the picture is made with it, and cut off.
        made = np.pad(edit.redrawn, margins(edit.redrawn, tiling.canvas), constant_values=True)
        denoise = keeping(inputs, pictures, made)
        inputs = replace(inputs, denoise=denoise)
    start = inputs.start
    if edit.strength < 1:
        start = noised(inputs.schedule, pictures, inputs.times[plan.skipped], start)
    rest = inputs.after(plan.skipped, start)
    if edit.resample == 1:
        yield from sample(spec.sampler, rest)
    else:
        yield from resampled(spec.sampler, rest, edit.resample)


def keeping(inputs: SamplerInputs, pictures: Batch, made: Flags) -> DenoiserAt:
    """The denoisers of a run, each with the known pixels put back.

    Args:
        inputs: of the run.
        pictures: what is known, `[1, 3, H, W]` float32.
        made: `[H, W]`, true where nothing is known.
    """

    def at(step: int) -> Denoiser:
        # A step that is taken again has a number of its own, but the guidance of the first time.
        inner, noise = inputs.denoise(step % AGAIN), inputs.noise(KNOWN + step)
        return KnownPixels(inner, inputs.schedule, pictures, made, noise)

    return at


def margins(flags: Flags, canvas: tuple[int, int]) -> list[tuple[int, int]]:
    """What is missing below and to the right of flags `[H, W]`, up to a canvas."""
    return [(0, have - want) for have, want in zip(canvas, flags.shape, strict=True)]


def put_back(picture: ImageU8, edit: StageEdit | None) -> ImageU8:
    """A finished picture with the known pixels as they were, to the byte.

    Args:
        picture: `[height, width, 3]` uint8.
        edit: of its size, if there is one.
    """
    if edit is None or edit.redrawn is None:
        return picture
    return np.where(edit.redrawn[:, :, None], picture, edit.picture)
