"""A bundle's graphs as a model repository of NVIDIA Triton.

One folder for each component and role: `config.pbtxt` and `1/model.onnx`. Written whole or not at
all. Knows files; how a model is configured, `cascade.engines.triton_config` knows.
"""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cascade.bundle.bundle import Bundle
from cascade.engines.triton_config import ModelConfig, Serving, config_of, config_text, model_name
from cascade.errors import InvalidRequest
from cascade.numerics.length_buckets import LENGTHS
from cascade.precision import Precision
from cascade.weights.source import ExternalGraph, GraphSource, graph_data, source_sha256

VERSION = "1"
MODEL = "model.onnx"
CONFIG = "config.pbtxt"
MOST_ROWS, MOST_INSTANCES, MOST_DELAY_US = 1024, 64, 10_000_000
DEVICES = ("auto", "cpu", "gpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class RepositoryOptions:
    """What is asked for."""

    precisions: Mapping[str, Precision] = field(default_factory=dict)
    """By component; float32 of the others."""
    max_batch: int = 8
    """Rows of one run."""
    tokens: int = 0
    """That texts are padded to where a mask allows it, one of `LENGTHS`; 0 leaves them free."""
    serving: Serving = field(default_factory=Serving)

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            InvalidRequest: naming the field.
        """
        bounds = {
            "max-batch": (self.max_batch, 1, MOST_ROWS),
            "instances": (self.serving.instances, 1, MOST_INSTANCES),
            "queue-delay-us": (self.serving.queue_delay_us, 0, MOST_DELAY_US),
        }
        for name, (value, least, most) in bounds.items():
            if not least <= value <= most:
                raise InvalidRequest(f"{name}: expected {least} to {most}, got {value}", field=name)
        if self.tokens and self.tokens not in LENGTHS:
            lengths = ", ".join(map(str, LENGTHS))
            raise InvalidRequest(
                f"tokens: expected 0 or one of {lengths}, got {self.tokens}", field="tokens"
            )


def write_repository(
    bundle: Bundle, positions: Sequence[int], options: RepositoryOptions, out: Path
) -> list[ModelConfig]:
    """Write a repository.

    Args:
        bundle: an opened bundle.
        positions: of the components.
        options: how they are to be run.
        out: a folder that is not there yet, or empty.

    Returns:
        What was written, in the order of the components.

    Raises:
        InvalidRequest: the folder holds something.
        ManifestError: a file is not what the manifest says.
        EngineError: a graph has no batch axis.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InvalidRequest(
            f"out: {out} holds something: name a new or an empty folder", field="out"
        )
    bundle.verify_files(positions)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside the destination: the last step is a renaming.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".triton-") as folder:
        whole = Path(folder) / "repository"
        whole.mkdir()
        written = list(write_models(bundle, positions, options, whole))
        if out.exists():
            out.rmdir()
        whole.rename(out)
    return written


def write_models(
    bundle: Bundle, positions: Sequence[int], options: RepositoryOptions, folder: Path
) -> Iterator[ModelConfig]:
    """Every model of the components, one after the other."""
    for position in positions:
        component = bundle.manifest.components[position]
        precision = options.precisions.get(component.name, Precision.FP32)
        for role, graph in component.graphs.items():
            source = bundle.read_graph(graph, precision)
            config = config_of(
                model_name(component.name, role),
                graph,
                max_batch=options.max_batch,
                tokens=options.tokens,
                sha256=source_sha256(source),
            )
            write_model(bundle, source, config_text(config, options.serving), folder / config.name)
            yield config


def write_model(bundle: Bundle, source: GraphSource, text: str, folder: Path) -> None:
    """One model's folder."""
    version = folder / VERSION
    version.mkdir(parents=True)
    (folder / CONFIG).write_text(text)
    if not isinstance(source, ExternalGraph):
        (version / MODEL).write_bytes(graph_data(source))
        return
    # Weights beside a graph: Triton then wants a folder of that name with both in it.
    (version / MODEL).mkdir()
    (version / MODEL / MODEL).write_bytes(source.data)
    shutil.copyfile(bundle.folder / source.file, version / MODEL / source.file)
