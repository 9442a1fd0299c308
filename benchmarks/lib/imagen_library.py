"""Pictures of imagen-pytorch itself on this project's noise, for comparisons alone.

Needs imagen-pytorch and einops, beartype and kornia, which it imports. torchvision and its text
encoder stay out: the one is used for nothing that is compared, the other asks a hub at import.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks.lib.library_comparison import LibraryCase, Pictures
from cascade.numerics.noise import AUGMENTATION, START, normals
from cascade.types import ImageU8
from stages.safetensors_file import load_safetensors
from tests.support.described import SEED
from tests.support.imagen_grid import (
    WIDTH,
    ImagenCase,
    imagen_cases,
    our_imagen,
    text_of,
    write_imagen,
)


def library() -> ModuleType:
    """`imagen_pytorch.imagen_pytorch` without what its package imports besides."""
    if "imagen_pytorch" not in sys.modules:
        spec = find_spec("imagen_pytorch")
        assert spec is not None, "install imagen-pytorch, without its dependencies"
        package = ModuleType("imagen_pytorch")
        package.__path__ = list(spec.submodule_search_locations or ())
        sys.modules["imagen_pytorch"] = package
        texts: Any = ModuleType("imagen_pytorch.t5")
        texts.DEFAULT_T5_NAME, texts.t5_encode_text = "none", print
        texts.get_encoded_dim = lambda _: WIDTH
        sys.modules["imagen_pytorch.t5"] = texts
        if find_spec("torchvision") is None:
            vision, transforms = ModuleType("torchvision"), ModuleType("torchvision.transforms")
            sys.modules |= {"torchvision": vision, "torchvision.transforms": transforms}
    return import_module("imagen_pytorch.imagen_pytorch")


@contextmanager
def our_draws(stage: int, *, augments: bool) -> Iterator[None]:
    """Let the library draw this project's noise: start, augmentation, one a step."""
    steps = iter(([AUGMENTATION] if augments else []) + list(range(10_000)))

    def draw(shape: Any, step: int) -> torch.Tensor:
        drawn = normals(tuple(shape), seed=SEED, image=0, stage=stage, step=step)
        return torch.from_numpy(drawn)

    with (
        mock.patch.object(torch, "randn", lambda shape, **_: draw(shape, START)),
        mock.patch.object(torch, "randn_like", lambda like, **_: draw(like.shape, next(steps))),
    ):
        yield


def library_pictures(case: ImagenCase, folder: Path, ours: Pictures) -> Pictures:
    """What the library makes of a cascade, each stage of our picture before, in 8 bits."""
    module = library()
    given = {**case.arguments}
    sample = dict(given.pop("sample", {}))
    unets = [module.Unet(**listed(unet)) for unet in given.pop("unets")]
    given.setdefault("text_embed_dim", WIDTH)
    model = module.Imagen(unets=tuple(unets), **listed(given))
    model.load_state_dict(load_safetensors(folder / "model.safetensors"))
    text = text_of(case)
    if text is not None:
        sample["text_embeds"] = torch.from_numpy(text.astype(np.float32))[None]
    found: Pictures = {}
    low: torch.Tensor | None = None
    for number, size in enumerate(given["image_sizes"], start=1):
        start = {} if low is None else {"start_at_unet_number": number, "start_image_or_video": low}
        with our_draws(number if text is not None else number - 1, augments=low is not None):
            picture = model.sample(
                **listed(sample), **start, stop_at_unet_number=number, use_tqdm=False
            )
        eight: ImageU8 = np.asarray(np.rint(picture[0].numpy() * 255), np.uint8).transpose(1, 2, 0)
        name = "base" if low is None else f"sr{size}"
        found[name] = np.ascontiguousarray(eight)
        low = torch.from_numpy(ours[name].transpose(2, 0, 1).astype(np.float32) / 255)[None]
    return found


def listed(given: dict[str, Any]) -> dict[str, Any]:
    """Lists as the tuples that the library wants."""
    return {n: tuple(v) if isinstance(v, list) else v for n, v in given.items()}


def comparisons(root: Path) -> Iterator[LibraryCase]:
    """Every configuration of the grid, written below `root`."""
    for case in imagen_cases():
        folder = write_imagen(case, root)
        yield LibraryCase(
            name=case.name,
            refused=case.refused,
            ours=partial(our_imagen, case, folder),
            theirs=partial(library_pictures, case, folder),
        )
