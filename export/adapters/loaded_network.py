"""A network of another library from a folder's safetensors, with every weight of it, or an error.

Both libraries fill weights that a file lacks with random numbers and say so in a log at most. Knows
how the two load; not what the networks are.
"""

from pathlib import Path
from typing import Any

import torch

from cascade.errors import UnsupportedModel
from export.adapters.local_folder import weights_variant


def load_network(kind: Any, folder: Path, stem: str, **options: Any) -> Any:
    """A network in single precision, from its configuration and weights on this machine.

    Args:
        kind: a class of diffusers or transformers.
        folder: holds `config.json` and the weights.
        stem: of the weights' files: `model`, `diffusion_pytorch_model`.
        options: what else `from_pretrained` takes.

    Raises:
        UnsupportedModel: no network can be made of the folder, or weights are missing.
    """
    variant = weights_variant(folder, stem)
    try:
        network, found = kind.from_pretrained(
            str(folder),
            variant=variant,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **options,
        )
    except Exception as exc:
        raise UnsupportedModel(
            f"{folder}: no {kind.__name__} can be made of config.json and the weights beside it: "
            f"{str(exc)[:300]}",
            field=str(folder),
        ) from exc
    missing = sorted(found["missing_keys"])
    if missing:
        raise UnsupportedModel(
            f"{folder}: {missing[0]} and {len(missing) - 1} other weights are missing in "
            f"{stem}*.safetensors, and would be random: download the folder again",
            field=f"{folder}:{missing[0]}",
        )
    return network.to(torch.float32)
