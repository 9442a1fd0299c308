"""A pipeline of diffusers from a folder: what many would run instead of a cascade of ours.

Imports diffusers and torch when it is opened, by name: the package itself needs neither. Reads
safetensors alone and downloads nothing. The run has the folder's own defaults.
"""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.systems.system import OnPicture, PictureOutcome
from bench.workload import WorkItem
from cascade.errors import InvalidRequest

PREFIX = "diffusers:"


class DiffusersSystem:
    """One pipeline, in this process."""

    caching: tuple[str, ...] = ()

    def __init__(self, text: str) -> None:
        """Load the pipeline.

        Args:
            text: `diffusers:DIR`, a folder that `save_pretrained` wrote.

        Raises:
            InvalidRequest: diffusers is not installed, or the folder holds no pipeline.
        """
        folder = Path(text.removeprefix(PREFIX))
        # A name of a model would be downloaded.
        if not (folder / "model_index.json").is_file():
            raise InvalidRequest(
                f"against: {folder} is no folder of a pipeline: expected a model_index.json in it",
                field="against",
            )
        try:
            self._torch: Any = importlib.import_module("torch")
            pipelines = importlib.import_module("diffusers").DiffusionPipeline
            self._pipeline: Any = pipelines.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False
            )
        except (ImportError, OSError, ValueError) as exc:
            raise InvalidRequest(f"against: {text}: {exc}", field="against") from exc
        self._pipeline.set_progress_bar_config(disable=True)
        self._text = text

    def describe(self) -> Mapping[str, object]:
        """The pipeline's class, and versions."""
        versions = {
            name: importlib.import_module(name).__version__ for name in ("diffusers", "torch")
        }
        pipeline = type(self._pipeline).__name__
        return {"kind": "diffusers", "against": self._text, "pipeline": pipeline, **versions}

    def run(self, item: WorkItem, on_picture: OnPicture) -> PictureOutcome:
        """One picture, of the request's seed."""
        generator = self._torch.Generator("cpu").manual_seed(item.seed)
        made = self._pipeline(prompt=item.prompt, generator=generator, output_type="pil")
        on_picture("picture 1", np.asarray(made.images[0].convert("RGB")))
        return PictureOutcome()

    def processes(self) -> Mapping[str, int]:
        """It shares this process, so that its use is not told apart."""
        return {}

    def close(self) -> None:
        """Nothing to end."""
