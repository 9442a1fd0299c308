"""Pictures of the common implementation of SR3 itself on this project's noise, for comparisons.

Needs a clone of Janspiry/Image-Super-Resolution-via-Iterative-Refinement where Python finds it.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

from benchmarks.lib.library_comparison import LibraryCase, Pictures
from cascade.codecs.image import from_network, to_network
from cascade.numerics.noise import START, normals
from stages.safetensors_file import load_safetensors
from tests.support.described import SEED, picture_of
from tests.support.sr3_grid import Sr3Case, our_sr3, sr3_cases, write_sr3

FOLDER = "model"


def library() -> Any:
    """`model.sr3_modules` without the training that its package imports besides."""
    if FOLDER not in sys.modules:
        package = ModuleType(FOLDER)
        package.__path__ = [str(Path(place) / FOLDER) for place in sys.path]
        sys.modules[FOLDER] = package
    return import_module("model.sr3_modules.unet"), import_module("model.sr3_modules.diffusion")


@contextmanager
def our_draws() -> Iterator[None]:
    """Let the library draw this project's noise: the start, then one a step."""
    steps = iter(range(10_000))

    def draw(shape: Any, step: int) -> torch.Tensor:
        drawn = normals(tuple(shape), seed=SEED, image=0, stage=0, step=step)
        return torch.from_numpy(drawn)

    with (
        mock.patch.object(torch, "randn", lambda shape, **_: draw(shape, START)),
        mock.patch.object(torch, "randn_like", lambda like, **_: draw(like.shape, next(steps))),
    ):
        yield


def library_pictures(case: Sr3Case, folder: Path, ours: Pictures) -> Pictures:
    """What the implementation makes of a folder."""
    del ours
    unets, diffusions = library()
    lines = (folder / "config.json").read_text().split("\n")
    model = json.loads("\n".join(line.split("//")[0] for line in lines))["model"]
    unet = dict(model["unet"])
    network = unets.UNet(
        **{n: unet[n] for n in ("in_channel", "out_channel", "norm_groups", "inner_channel",
                                "attn_res", "res_blocks", "dropout")},
        channel_mults=unet["channel_multiplier"],
        image_size=case.size,
    )  # fmt: skip
    process = diffusions.GaussianDiffusion(network, case.size, conditional=case.is_conditional)
    tensors = load_safetensors(folder / "model.safetensors")
    tensors.pop("betas", None)
    process.load_state_dict(tensors)
    process.eval().set_new_noise_schedule(model["beta_schedule"]["val"], "cpu")
    with our_draws(), mock.patch.object(diffusions, "tqdm", lambda steps, **_: steps):
        if case.is_conditional:
            small = Image.fromarray(picture_of(case.low))
            large = np.asarray(small.resize((case.size, case.size), Image.Resampling.BICUBIC))
            found = process.super_resolution(torch.from_numpy(to_network(large)))
        else:
            found = process.sample()
    return {f"sr{case.size}" if case.is_conditional else "base": from_network(found[None].numpy())}


def comparisons(root: Path) -> Iterator[LibraryCase]:
    """Every configuration of the grid, written below `root`."""
    for case in sr3_cases():
        folder = write_sr3(case, root)
        yield LibraryCase(
            name=case.name,
            refused=case.refused,
            ours=partial(our_sr3, case, folder),
            theirs=partial(library_pictures, case, folder),
        )
