"""A folder of somebody else's model, read with suspicion: local, JSON and safetensors, no code.

Every file that could run code when it is loaded is refused before a library of its makers sees the
folder: pickled weights, Python sources, configurations that ask for remote code. Knows files; not
models.
"""

import json
from pathlib import Path
from typing import Any

from cascade.errors import UnsupportedModel

PICKLED = frozenset({".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".msgpack", ".h5"})
MAX_JSON_BYTES = 64 << 20
"""A tokenizer of 250,000 pieces is 17 MB."""
REMOTE_CODE_KEYS = ("auto_map", "custom_pipelines", "trust_remote_code")


def model_folder(folder: Path, what: str) -> Path:
    """`folder`, which must lie on this machine and hold nothing that runs.

    Raises:
        UnsupportedModel: not a folder, or a file in it is code.
    """
    if not folder.is_dir():
        raise UnsupportedModel(
            f"{what}: {folder} is not a folder on this machine: download the model first, nothing "
            "is fetched here",
            field=what,
        )
    for path in sorted(folder.rglob("*.py")):
        raise UnsupportedModel(
            f"{path}: the folder brings its own code, which is never run: bring that model as "
            "torch modules of yours (--from torch MODULE:FACTORY)",
            field=str(path),
        )
    return folder


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        UnsupportedModel: missing, too large, not a JSON object, or it asks for remote code.
    """
    if not path.is_file():
        raise UnsupportedModel(f"{path}: this file is missing", field=str(path))
    if path.stat().st_size > MAX_JSON_BYTES:
        raise UnsupportedModel(f"{path}: larger than {MAX_JSON_BYTES} bytes", field=str(path))
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise UnsupportedModel(f"{path}: not JSON: {exc}", field=str(path)) from exc
    if not isinstance(value, dict):
        raise UnsupportedModel(f"{path}: expected an object", field=str(path))
    for key in REMOTE_CODE_KEYS:
        if value.get(key):
            raise UnsupportedModel(
                f"{path}: {key} asks for code that is not part of the library: it is never run",
                field=f"{path}:{key}",
            )
    return value


def weights_variant(folder: Path, stem: str) -> str | None:
    """Which safetensors files of a component to load: None the plain ones, else a variant's name.

    Args:
        folder: of the component.
        stem: of its weight files: `model`, `diffusion_pytorch_model`.

    Raises:
        UnsupportedModel: there are no safetensors.
    """
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    found = [n for n in names if n.startswith(stem) and n.endswith(".safetensors")]
    plain = [n for n in found if n == f"{stem}.safetensors" or n.startswith(f"{stem}-")]
    if plain:
        return None
    for name in found:
        # stem.VARIANT.safetensors, stem.VARIANT-00001-of-00002.safetensors
        return name.removeprefix(f"{stem}.").removesuffix(".safetensors").split("-")[0]
    for name in names:
        if Path(name).suffix in PICKLED:
            raise UnsupportedModel(
                f"{folder / name}: pickled weights can run code and are not read: load them where "
                "you trust them and save them again with safe_serialization=True",
                field=str(folder / name),
            )
    path = folder / f"{stem}.safetensors"
    raise UnsupportedModel(f"{path}: this file is missing", field=str(path))


def expect(path: Path, config: dict[str, Any], field: str, supported: tuple[Any, ...]) -> Any:
    """The value of a field, which must be one of the supported ones; absent counts as None.

    Raises:
        UnsupportedModel: naming the file, the field, what it holds and what is supported.
    """
    value = config.get(field)
    if value not in supported:
        raise UnsupportedModel(
            f"{path}: {field} is {value!r}; supported: {', '.join(map(repr, supported))}",
            field=f"{path}:{field}",
        )
    return value
