"""A folder of one network: safetensors, and beside them what the network was made with.

Knows files, and how a checkpoint that could run code is refused; not networks.
"""

from pathlib import Path

from torch import Tensor

from cascade.errors import UnsupportedModel
from export.adapters.local_folder import PICKLED, model_folder
from stages.safetensors_file import load_safetensors

WEIGHTS = "model.safetensors"


def read_weights(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """The weights of a folder and where they lie.

    Raises:
        UnsupportedModel: they are missing, pickled, or no safetensors.
    """
    path = model_folder(folder, "from") / WEIGHTS
    if not path.is_file():
        for other in sorted(folder.iterdir()):
            if other.suffix in PICKLED:
                raise UnsupportedModel(
                    f"{other}: pickled weights can run code and are not read: where you trust "
                    f"them, write {WEIGHTS} with safetensors.torch.save_file(torch.load("
                    f"{other.name!r}, weights_only=True), {WEIGHTS!r})",
                    field=str(other),
                )
        raise UnsupportedModel(f"{path}: this file is missing", field=str(path))
    try:
        return path, load_safetensors(path)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise UnsupportedModel(f"{path}: no safetensors: {exc}", field=str(path)) from exc
