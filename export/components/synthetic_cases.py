"""A stage's signature, and inputs for parity where no data are given: noise at several times.

A network sees numbers of the size that it sees in a run: `x_t` of variance one, the true context of
some prompt, levels over its range; every row is another one.
"""

import numpy as np

from cascade.diffusion.schedule import make_schedule
from cascade.graph_spec import TensorSpec
from cascade.numerics.noise import normals
from cascade.types import Array, ContextF16
from export.description import EncoderDescription, StageDescription

PICTURE_CHANNELS = 3
TIMES = (0.02, 0.25, 0.5, 0.75, 1.0)


def stage_inputs(
    stage: StageDescription, encoder: EncoderDescription | None
) -> tuple[TensorSpec, ...]:
    """The inputs of a stage's graph.

    Args:
        stage: what to export.
        encoder: whose contexts it reads, if it reads any; padded ones all have the full length.
    """
    image = image_shape(stage)
    shapes: list[tuple[str, tuple[int | str, ...]]] = [("x_t", image), ("t", ("batch",))]
    if encoder is not None and stage.uses_context:
        length = encoder.context_length or "tokens"
        shapes.append(("context", ("batch", length, encoder.context_width)))
        if stage.uses_mask:
            shapes.append(("context_mask", ("batch", length)))
    if stage.input_resolution is not None:
        low = stage.input_resolution
        channels = stage.input_latent_channels or PICTURE_CHANNELS
        sides = (low, low) if stage.enlarge == "none" else image[2:]
        shapes.append(("low_res", ("batch", channels, *sides)))
        if stage.uses_level:
            shapes.append(("aug_level", ("batch",)))
    shapes += [(vector.name, ("batch", vector.width)) for vector in stage.vectors]
    if stage.guidance.taught:
        shapes.append(("guidance", ("batch",)))
    return tuple(TensorSpec(name=n, dtype="float32", shape=s) for n, s in shapes)


def stage_outputs(stage: StageDescription) -> tuple[TensorSpec, ...]:
    """The outputs of a stage's graph."""
    names = ("prediction", "variance") if stage.learned_variance else ("prediction",)
    return tuple(TensorSpec(name=n, dtype="float32", shape=image_shape(stage)) for n in names)


def image_shape(stage: StageDescription) -> tuple[int | str, ...]:
    """Axes of a batch of images, or of latents."""
    size, channels = stage.output_resolution, stage.latent_channels or PICTURE_CHANNELS
    sides = ("height", "width") if stage.any_size else (size, size)
    return ("batch", channels, *sides)


def synthetic_cases(stage: StageDescription, context: ContextF16 | None) -> list[dict[str, Array]]:
    """One case at each of `TIMES`; see `synthetic_case`."""
    return [synthetic_case(stage, context, number) for number in range(len(TIMES))]


def synthetic_case(
    stage: StageDescription, context: ContextF16 | None, number: int
) -> dict[str, Array]:
    """A batch of two rows at different times, the second one unconditional where a mask says so.

    Args:
        stage: what to make inputs for.
        context: embeddings of some prompt or class, `[tokens, width]`; None of a stage without.
        number: which of `TIMES`; the noise is its own.

    Returns:
        The graph's inputs by name, all float32 with two rows: images `[2, 3, H, W]` around
        [-1, 1], `t` and levels `[2]` in [0, 1].
    """
    schedule = make_schedule(stage.schedule)
    size, share = stage.output_resolution, number / (len(TIMES) - 1)
    shape = (2, stage.latent_channels or PICTURE_CHANNELS, size, size)
    t = np.array([TIMES[number], TIMES[-1 - number]], np.float32)
    alpha, sigma = schedule.alpha(np.float64(t)), schedule.sigma(np.float64(t))
    clean = np.clip(normals(shape, seed=number, image=1, stage=0, step=0) / 2, -1, 1)
    noise = normals(shape, seed=number, image=2, stage=0, step=0)
    case: dict[str, Array] = {
        "x_t": column(alpha) * clean + column(sigma) * noise,
        "t": t,
    }
    if context is not None:
        case["context"] = np.repeat(context[None], 2, axis=0)
    if context is not None and stage.uses_mask:
        case["context_mask"] = np.ones((2, len(context)), np.float32)
        case["context_mask"][1] = 0
    if stage.augmentation is not None and stage.input_resolution is not None:
        low, high = stage.augmentation.lowest, stage.augmentation.highest
        shown = stage.input_resolution if stage.enlarge == "none" else size
        channels = stage.input_latent_channels or PICTURE_CHANNELS
        smaller = normals((2, channels, shown, shown), seed=number, image=3, stage=0, step=0)
        case["low_res"] = np.clip(smaller, -2, 2)
        if stage.uses_level:
            case["aug_level"] = np.array([low + share * (high - low), low], np.float32)
    for vector in stage.vectors:
        case[vector.name] = normals((2, vector.width), seed=number, image=5, stage=0, step=0)
        if vector.unconditional == "zeros":
            case[vector.name][1] = 0
    if stage.guidance.taught:
        weakest, strongest = stage.guidance.taught
        case["guidance"] = np.full(2, weakest + share * (strongest - weakest), np.float32)
    return {name: np.asarray(value, np.float32) for name, value in case.items()}


def column(values: Array) -> Array:
    """`[B]` shaped to broadcast against `[B, 3, H, W]`."""
    return values[:, None, None, None]
