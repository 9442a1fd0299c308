"""Pictures of openai/guided-diffusion itself on this project's noise, for comparisons alone.

Needs a clone of that repository where Python finds it; nothing of it is part of this project.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.lib.library_comparison import LibraryCase, Pictures
from cascade.codecs.image import from_network, to_network
from cascade.numerics.noise import START, normals
from cascade.types import ImageU8
from export.adapters.guided_arguments import BASE, UPSCALER, is_upscaler, read_arguments
from stages.safetensors_file import load_safetensors
from tests.support.described import SEED
from tests.support.guided_grid import (
    LABEL,
    GuidedCase,
    guided_cases,
    our_pictures,
    start_of,
    write_case,
)

OF_RUN = ("use_ddim", "clip_denoised")


@contextmanager
def our_draws(seed: int, stage: int) -> Iterator[None]:
    """Let the library draw this project's noise, one draw a step."""
    steps = iter(range(10_000))

    def draw(like: torch.Tensor) -> torch.Tensor:
        drawn = normals(tuple(like.shape), seed=seed, image=0, stage=stage, step=next(steps))
        return torch.from_numpy(drawn)

    with mock.patch.object(torch, "randn_like", draw):
        yield


def library_picture(
    folder: Path, position: int, *, label: int | None, low: ImageU8 | None, seed: int
) -> ImageU8:
    """The picture `[H, W, 3]` uint8 that the library makes of a folder, rounded as ours are.

    Args:
        folder: flags and weights.
        position: of the stage in its cascade.
        label: the class, of a network that reads one.
        low: the smaller picture `[h, w, 3]` uint8, of an upscaler.
        seed: of the noise.
    """
    upscaler = is_upscaler(folder)
    model, diffusion, values, classes = library_model(folder, upscaler=upscaler)
    size = values["large_size" if upscaler else "image_size"]
    shape = (1, 3, size, size)
    given: dict[str, Any] = {}
    if classes:
        given["y"] = torch.tensor([label])
    if low is not None:
        given["low_res"] = torch.from_numpy(to_network(low))
    loop = diffusion.ddim_sample_loop if values.get("use_ddim") else diffusion.p_sample_loop
    start = normals(shape, seed=seed, image=0, stage=position, step=START)
    with our_draws(seed, position):
        found = loop(
            model,
            shape,
            noise=torch.from_numpy(start),
            clip_denoised=values["clip_denoised"],
            model_kwargs=given,
        )
    return from_network(np.asarray(found))


def library_model(folder: Path, *, upscaler: bool) -> tuple[Any, Any, Mapping[str, Any], int]:
    """The library's network and process of a folder, its flags, and how many classes it has."""
    script = import_module("guided_diffusion.script_util")
    known = UPSCALER if upscaler else BASE
    defaults = (
        script.sr_model_and_diffusion_defaults()
        if upscaler
        else script.model_and_diffusion_defaults()
    )
    values: dict[str, Any] = {**defaults, "use_ddim": False, "clip_denoised": True}
    words = (folder / "arguments.txt").read_text().replace("= ", " '' ").split()
    for name, text in zip(words[::2], words[1::2], strict=True):
        values[name[2:]] = as_default(script, values[name[2:]], text.strip("'"))
    assert set(values) >= set(known) - {"channel_mult"}
    tensors = load_safetensors(folder / "model.safetensors")
    classes = len(tensors.get("label_emb.weight", ()))
    script.NUM_CLASSES = classes
    make = script.sr_create_model_and_diffusion if upscaler else script.create_model_and_diffusion
    model, diffusion = make(**{n: v for n, v in values.items() if n not in OF_RUN})
    model.load_state_dict(tensors)
    return model.eval(), diffusion, values, classes


def as_default(script: Any, default: Any, text: str) -> Any:
    """A flag's value, of the kind of its default."""
    return script.str2bool(text) if isinstance(default, bool) else type(default)(text)


def comparisons(root: Path) -> Iterator[LibraryCase]:
    """Every configuration of the grid, written below `root`."""
    for case in guided_cases():
        folders = write_case(case, root)
        yield LibraryCase(
            name=case.name,
            refused=case.refused,
            ours=partial(our_pictures, case, folders),
            theirs=partial(library_pictures, case, folders),
        )


def library_pictures(case: GuidedCase, folders: tuple[Path, ...], ours: Pictures) -> Pictures:
    """What the library makes of a cascade, each stage of our picture before."""
    start = start_of(case)
    low, found = start.image, {}
    for position, folder in enumerate(folders, start=0 if start.context is None else 1):
        upscaler = is_upscaler(folder)
        size = read_arguments(folder, upscaler=upscaler).size
        name = f"sr{size}" if upscaler else "base"
        found[name] = library_picture(folder, position, label=LABEL, low=low, seed=SEED)
        low = ours[name]
    return found
