"""Components of a bundle opened as stages on this machine.

The one place that goes from the manifest's families to classes. Knows bundles and stages; how a
graph runs is the plan's business.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from cascade.bundle.bundle import Bundle
from cascade.bundle.manifest import Component, Manifest
from cascade.diffusion.spec import StoredContext
from cascade.diffusion.stage import DiffusionStage
from cascade.diffusion.unconditional import read_stored_context
from cascade.engine import Engine
from cascade.engines.factory import EngineChoice, open_engine
from cascade.events import Backend
from cascade.stage import EngineStage
from cascade.text.spec import TextEncoderSpec
from cascade.text.stage import TextEncoderStage
from cascade.text.tokenizer import PromptTokenizer
from cascade.tuning.plan import EnginePlan, graph_for

EngineFactory = Callable[[bytes, EngineChoice], Engine]
"""An ONNX graph's bytes, and how to run it, to an engine."""


def open_stage(
    bundle: Bundle, position: int, plan: EnginePlan, make_engine: EngineFactory | None = None
) -> EngineStage:
    """One component as a stage here.

    Args:
        bundle: an opened bundle.
        position: which component, 0 is the text encoder.
        plan: how its graph is run, and which of its files.
        make_engine: runs the graph; called with bytes whose hash was checked. The engine that the
            plan names when None.

    Raises:
        ManifestError: a file is not what the manifest says.
        EngineError: the engine cannot load the graph.
    """
    component: Component = bundle.manifest.components[position]
    choice = plan.of(component.name)
    graph = graph_for(bundle, component, choice)
    if make_engine is None:
        engine = open_engine(graph, choice, cache=plan.cache)
    else:
        engine = make_engine(graph, choice)
    computed = Backend(choice.kind.value, choice.precision)
    if isinstance(component, TextEncoderSpec):
        tokenizer = PromptTokenizer(bundle.read(component.tokenizer_file), component.max_tokens)
        return TextEncoderStage(component, tokenizer, engine, computed)
    null_context = None
    if isinstance(component.null_context, StoredContext):
        stored = component.null_context
        width = bundle.manifest.text_encoder.context_width
        null_context = read_stored_context(stored, bundle.read(stored.file), width)
    return DiffusionStage(component, position, engine, null_context=null_context, computed=computed)


def open_stages(
    bundle: Bundle,
    positions: Sequence[int],
    plan: EnginePlan,
    make_engine: EngineFactory | None = None,
    then: Callable[[EngineStage], object] | None = None,
) -> list[EngineStage]:
    """Several components as stages here, in order; opened side by side, for engines take long.

    Args:
        bundle: an opened bundle.
        positions: which components.
        plan: how their graphs are run.
        make_engine: see `open_stage`.
        then: is called with each stage on the thread that opened it, while others are still opened.

    Raises:
        CascadeError: see `open_stage`; those that could be opened are closed again.
    """

    def open_one(position: int) -> EngineStage:
        stage = open_stage(bundle, position, plan, make_engine)
        try:
            if then is not None:
                then(stage)
        except Exception:
            stage.close()
            raise
        return stage

    with ThreadPoolExecutor(max_workers=max(1, len(positions)), thread_name_prefix="open") as pool:
        # The last component has the largest pictures and takes longest: it begins first.
        begun = {position: pool.submit(open_one, position) for position in reversed(positions)}
    opening = [begun[position] for position in positions]
    try:
        return [future.result() for future in opening]
    except Exception:
        for future in opening:
            if future.exception() is None:
                future.result().close()
        raise


def last_position(manifest: Manifest, last_stage: str | None) -> int:
    """Position of the component that a request ends with; the cascade's last when None.

    Raises:
        ManifestError: the bundle has no such component.
    """
    if last_stage is None:
        return len(manifest.components) - 1
    return manifest.position(last_stage)
