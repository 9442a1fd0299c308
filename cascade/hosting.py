"""Components of a bundle opened as stages on this machine.

The one place that goes from the manifest's families to classes. Knows bundles and stages; how a
graph runs is the engine factory's business.
"""

from collections.abc import Callable, Sequence

from cascade.bundle import Bundle
from cascade.diffusion_stage import DiffusionStage
from cascade.engines.engine import Engine
from cascade.manifest import Component, Manifest, TextEncoderSpec
from cascade.stage import Stage
from cascade.text_stage import TextEncoderStage
from cascade.tokenizer import PromptTokenizer

EngineFactory = Callable[[bytes], Engine]
"""An ONNX graph's bytes to an engine."""


def open_stage(bundle: Bundle, position: int, make_engine: EngineFactory) -> Stage:
    """One component as a stage here.

    Args:
        bundle: an opened bundle.
        position: which component, 0 is the text encoder.
        make_engine: runs the graph; called with bytes whose hash was checked.

    Raises:
        ManifestError: a file is not what the manifest says.
        EngineError: the engine cannot load the graph.
    """
    component: Component = bundle.manifest.components[position]
    engine = make_engine(bundle.read(component.graph.file))
    if isinstance(component, TextEncoderSpec):
        tokenizer = PromptTokenizer(bundle.read(component.tokenizer_file), component.max_tokens)
        return TextEncoderStage(component, tokenizer, engine)
    return DiffusionStage(component, position, engine)


def open_stages(
    bundle: Bundle, positions: Sequence[int], make_engine: EngineFactory
) -> list[Stage]:
    """Several components as stages here, in order."""
    return [open_stage(bundle, position, make_engine) for position in positions]


def last_position(manifest: Manifest, last_stage: str | None) -> int:
    """Position of the component that a request ends with; the cascade's last when None.

    Raises:
        ManifestError: the bundle has no such component.
    """
    if last_stage is None:
        return len(manifest.components) - 1
    return manifest.position(last_stage)
