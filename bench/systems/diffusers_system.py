"""A pipeline of diffusers from a folder: what many would run instead of a cascade of ours.

Imports diffusers and torch when it is opened, by name: the package itself needs neither. Reads
safetensors alone and downloads nothing. Steps are those that the caller asks for: the pipelines'
own default is 100 for DeepFloyd's stages and 50 for most others, whatever their scheduler was
trained for.
"""

import importlib
import inspect
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bench.systems.system import OnPicture, PictureOutcome
from bench.workload import WorkItem
from cascade.errors import InvalidRequest, StageError

PREFIX = "diffusers:"
STEPS = "num_inference_steps"


class DiffusersSystem:
    """One pipeline, in this process, on the GPU where torch sees one."""

    caching: tuple[str, ...] = ()

    def __init__(self, text: str, steps: int) -> None:
        """Load the pipeline.

        Args:
            text: `diffusers:DIR`, a folder that `save_pretrained` wrote.
            steps: network evaluations per picture, at least 1.

        Raises:
            InvalidRequest: diffusers is not installed, the folder holds no pipeline, or one that
                takes no number of steps.
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
        if STEPS not in inspect.signature(self._pipeline.__call__).parameters:
            raise InvalidRequest(
                f"against: {type(self._pipeline).__name__} takes no {STEPS}: wrap it in a function "
                "and name that, torch:MODULE:FACTORY",
                field="against",
            )
        self._text, self._steps = text, steps
        self._pipeline.set_progress_bar_config(disable=True)
        self._device = "cuda" if self._torch.cuda.is_available() else "cpu"
        self._pipeline.to(self._device)
        self._hops: dict[str, float] = {}
        for name, module in self._pipeline.components.items():
            if isinstance(module, self._torch.nn.Module):
                self._time(name, module)

    def _time(self, name: str, module: Any) -> None:
        """Add the seconds of each call of a network to the hop of its name."""
        begun = 0.0

        def before(*_: object) -> None:
            nonlocal begun
            begun = self._now()

        def after(*_: object) -> None:
            self._hops[name] = self._hops.get(name, 0.0) + self._now() - begun

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)

    def _now(self) -> float:
        """Seconds, once the GPU has done what it was told."""
        if self._device == "cuda":
            self._torch.cuda.synchronize()
        return time.perf_counter()

    def describe(self) -> Mapping[str, object]:
        """The pipeline's class, its steps, and versions."""
        return {
            "kind": "diffusers",
            "against": self._text,
            "pipeline": type(self._pipeline).__name__,
            "scheduler": type(self._pipeline.components.get("scheduler")).__name__,
            "steps": self._steps,
            "device": self._device,
            "diffusers": importlib.import_module("diffusers").__version__,
            "torch": self._torch.__version__,
        }

    def run(self, item: WorkItem, on_picture: OnPicture) -> PictureOutcome:
        """One picture of the request's seed; a hop is the time inside one network.

        Raises:
            StageError: the pipeline could not make it.
        """
        self._hops = {}
        generator = self._torch.Generator("cpu").manual_seed(item.seed)
        asked = {"prompt": item.prompt, STEPS: self._steps, "generator": generator}
        try:
            made = self._pipeline(**asked, output_type="pil")
        except (RuntimeError, ValueError, TypeError) as exc:
            raise StageError(f"{self._text}: {exc}") from exc
        on_picture("picture 1", np.asarray(made.images[0].convert("RGB")))
        return PictureOutcome(hops=dict(self._hops))

    def processes(self) -> Mapping[str, int]:
        """It shares this process, so that its use is not told apart."""
        return {}

    def close(self) -> None:
        """Nothing to end."""
