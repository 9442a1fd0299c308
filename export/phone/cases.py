"""Inputs that a phone's file is compared on: what its component is really asked, and the edges.

The same numbers every time. Knows families and their inputs; no network.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from cascade.bundle.bundle import Bundle
from cascade.diffusion.dummy_run import waves
from cascade.diffusion.spec import DiffusionSpec
from cascade.graph_spec import TensorSpec
from cascade.pixels.spec import PixelSpec
from cascade.text.spec import TextEncoderSpec
from cascade.text.tokenizer import PromptTokenizer
from cascade.types import Array

TIMES = (0.02, 0.5, 0.98)
LARGE_MEAN = 30.0
"""Of one more case: norms that lose digits at a large mean lose them here."""
PROMPTS = ("a red apple, noto style", "a robot", "")
CONTEXT_STEPS = 16
"""Embeddings of exact cascades are multiples of 1 / this."""
Case = Mapping[str, Array]


def text_cases(
    bundle: Bundle, spec: TextEncoderSpec, role: str, axes: Mapping[str, int]
) -> list[Case]:
    """Prompts filled up to the length, and one text of the full length."""
    del role
    length = axes["tokens"]
    tokenizer = PromptTokenizer(bundle.read(spec.tokenizer_file), spec.max_tokens)
    rng = np.random.default_rng(0)
    texts = [tokenizer(prompt)[:length] for prompt in PROMPTS]
    texts.append(rng.integers(0, tokenizer.largest_number, length, endpoint=True))
    cases: list[Case] = []
    for ids in texts:
        filled, mask = np.zeros((1, length), np.int64), np.zeros((1, length), np.float32)
        filled[0, : len(ids)], mask[0, : len(ids)] = ids, 1
        cases.append({"token_ids": filled, "token_mask": mask})
    return cases


def stage_cases(
    bundle: Bundle, spec: DiffusionSpec, role: str, axes: Mapping[str, int]
) -> list[Case]:
    """What `diffusion_cases` makes of a stage's inputs."""
    del bundle
    return diffusion_cases(spec.graphs[role].inputs, axes)


def diffusion_cases(inputs: Sequence[TensorSpec], axes: Mapping[str, int]) -> list[Case]:
    """Pictures from nearly clean to nearly noise, without text too, and at a large mean."""
    cases = [diffusion_case(inputs, axes, time) for time in TIMES]
    unconditional = dict(cases[1])
    unconditional["context_mask"] = np.zeros_like(unconditional["context_mask"])
    bright = dict(cases[1])
    bright["x_t"] = bright["x_t"] + np.float32(LARGE_MEAN)
    return [*cases, unconditional, bright]


def diffusion_case(inputs: Sequence[TensorSpec], axes: Mapping[str, int], time: float) -> Case:
    """One row at a time: a smooth picture with noise, a text of some tokens."""
    rng = np.random.default_rng(round(1000 * time))
    case = {}
    for tensor in inputs:
        shape = tensor.shape_with(axes)
        if tensor.name == "x_t":
            noise = rng.standard_normal(shape)
            values = np.sqrt(1 - time**2) * waves(shape) + time * noise
        elif tensor.name == "low_res":
            values = waves(shape)
        elif tensor.name == "t":
            values = np.full(shape, time)
        elif tensor.name == "context_mask":
            values = (np.arange(shape[1]) < max(1, round(shape[1] * time))).astype(float)[None]
        elif tensor.name == "context":
            values = 0.4 * rng.standard_normal(shape)
        else:
            values = np.full(shape, 0.1 * time)  # a level of augmentation, a guidance weight
        case[tensor.name] = values.astype(tensor.dtype)
    return case


def pixel_cases(bundle: Bundle, spec: PixelSpec, role: str, axes: Mapping[str, int]) -> list[Case]:
    """Pictures partly known at several passes, and questions to the heads: integers all."""
    del bundle
    return [pixel_case(spec, role, axes, seed) for seed in range(4)]


def pixel_case(spec: PixelSpec, role: str, axes: Mapping[str, int], seed: int) -> Case:
    """One row of one graph."""
    rng = np.random.default_rng(seed)
    largest = {"canvas": 255, "low_res": 255, "targets": spec.makes.pixels - 1, "earlier": 255}
    case = {}
    for tensor in spec.graphs[role].inputs:
        shape = tensor.shape_with(axes)
        if tensor.name == "pass_index":
            values: Array = np.full(shape, seed % spec.scheme.passes)
        elif tensor.name == "features":
            values = rng.integers(-255, 255, shape, endpoint=True)
        elif tensor.name == "context":
            values = rng.integers(-127, 127, shape, endpoint=True) / CONTEXT_STEPS
        elif tensor.name == "context_mask":
            values = (np.arange(shape[1]) < 1 + 3 * seed)[None]
        elif tensor.name == "aug_level":
            values = np.full(shape, seed / 16)
        else:
            values = rng.integers(0, largest.get(tensor.name, 1), shape, endpoint=True)
        case[tensor.name] = values.astype(tensor.dtype)
    return case
