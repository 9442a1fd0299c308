"""Inputs for parity where no data are given: pictures of noise at several times, every row another.

A network sees numbers of the size that it sees in a run: `x_t` of variance one, the true context of
some prompt, levels over its range. Knows descriptions; not what the networks are.
"""

import numpy as np

from cascade.diffusion.schedule import make_schedule
from cascade.graph_spec import TensorSpec
from cascade.numerics.noise import normals
from cascade.types import Array, ContextF16
from export.adapters.description import StageDescription

TIMES = (0.02, 0.25, 0.5, 0.75, 1.0)


def stage_inputs(stage: StageDescription, width: int, tokens: int | None) -> tuple[TensorSpec, ...]:
    """The inputs of a stage's graph.

    Args:
        stage: what to export.
        width: of the context.
        tokens: how many tokens every context has; None where the number is free.
    """
    image = image_shape(stage)
    length = "tokens" if tokens is None else tokens
    shapes: list[tuple[str, tuple[int | str, ...]]] = [
        ("x_t", image),
        ("t", ("batch",)),
        ("context", ("batch", length, width)),
    ]
    if stage.uses_mask:
        shapes.append(("context_mask", ("batch", length)))
    if stage.input_resolution is not None:
        shapes += [("low_res", image), ("aug_level", ("batch",))]
    return tuple(TensorSpec(name=n, dtype="float32", shape=s) for n, s in shapes)


def stage_outputs(stage: StageDescription) -> tuple[TensorSpec, ...]:
    """The outputs of a stage's graph."""
    names = ("prediction", "variance") if stage.learned_variance else ("prediction",)
    return tuple(TensorSpec(name=n, dtype="float32", shape=image_shape(stage)) for n in names)


def image_shape(stage: StageDescription) -> tuple[int | str, ...]:
    """Axes of a batch of images."""
    size = stage.output_resolution
    return ("batch", 3, "height", "width") if stage.any_size else ("batch", 3, size, size)


def made_up_cases(stage: StageDescription, context: ContextF16) -> list[dict[str, Array]]:
    """Batches of two rows at different times, the second one unconditional where a mask says so.

    Args:
        stage: what to make inputs for.
        context: embeddings of some prompt, `[tokens, width]`.
    """
    schedule = make_schedule(stage.schedule)
    size = stage.output_resolution
    shape = (2, 3, size, size)
    cases = []
    for number, time in enumerate(TIMES):
        t = np.array([time, TIMES[-1 - number]], np.float32)
        alpha, sigma = schedule.alpha(np.float64(t)), schedule.sigma(np.float64(t))
        clean = np.clip(normals(shape, seed=number, image=1, stage=0, step=0) / 2, -1, 1)
        noise = normals(shape, seed=number, image=2, stage=0, step=0)
        case: dict[str, Array] = {
            "x_t": column(alpha) * clean + column(sigma) * noise,
            "t": t,
            "context": np.repeat(context[None], 2, axis=0),
        }
        if stage.uses_mask:
            case["context_mask"] = np.ones((2, len(context)), np.float32)
            case["context_mask"][1] = 0
        if stage.augmentation is not None:
            low, high = stage.augmentation.lowest, stage.augmentation.highest
            share = number / (len(TIMES) - 1)
            case["low_res"] = np.clip(normals(shape, seed=number, image=3, stage=0, step=0), -2, 2)
            case["aug_level"] = np.array([low + share * (high - low), low], np.float32)
        cases.append({name: np.asarray(value, np.float32) for name, value in case.items()})
    return cases


def column(values: Array) -> Array:
    """`[B]` shaped to broadcast against `[B, 3, H, W]`."""
    return values[:, None, None, None]
