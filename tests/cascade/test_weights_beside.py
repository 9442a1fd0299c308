"""A bundle with its weights beside the graphs makes the pictures that it makes with them inside."""

from typing import Any

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.codecs.strict_json import to_json
from cascade.engines.factory import EngineChoice, EngineKind
from cascade.engines.ort import OrtEngine
from cascade.errors import EngineError
from cascade.events import StageFinished
from cascade.generate import generate
from cascade.graph_spec import NET
from cascade.precision import Precision
from cascade.request import GenerateRequest
from cascade.stage_factory import open_stages
from cascade.tuning.plan import EnginePlan
from cascade.types import ImageU8
from cascade.weights import source
from cascade.weights.source import ExternalGraph
from tests.support.beside_bundle import move_beside
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle with its weights in the graphs."""
    return write_tiny_bundle(tmp_path_factory.mktemp("inside"), int8=True)


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same bundle with its weights in a file per component."""
    folder = tmp_path_factory.mktemp("beside")
    write_tiny_bundle(folder, int8=True)
    return move_beside(folder)


def pictures(bundle: Bundle, kind: EngineKind, precision: Precision) -> list[ImageU8]:
    """Every stage's picture of one request."""
    choices = {
        spec.name: EngineChoice(kind, precision if position else Precision.FP32, 1)
        for position, spec in enumerate(bundle.manifest.components)
    }
    stages = open_stages(bundle, range(len(choices)), EnginePlan(choices))
    try:
        events = list(generate(stages, GenerateRequest(prompt="a red apple", seed=3)))
    finally:
        for stage in stages:
            stage.close()
    made = [event.handoff.image for event in events if isinstance(event, StageFinished)]
    return [image for image in made if image is not None]


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
@pytest.mark.parametrize("kind", [EngineKind.ORT, EngineKind.OPENVINO])
def test_both_forms_make_the_same_pictures(
    kind: EngineKind, precision: Precision, inside: Bundle, beside: Bundle
) -> None:
    """On every engine and in every precision that there is a file for."""
    found = zip(pictures(inside, kind, precision), pictures(beside, kind, precision), strict=True)
    assert all(np.array_equal(one, other) for one, other in found)


def test_a_weight_lies_once_for_all_graphs_of_its_component(beside: Bundle) -> None:
    """The int8 graph names the file that the float32 graph names, and the same tensor in it."""
    component: Any = beside.manifest.components[1]
    graphs = [beside.read_graph(component.graphs[NET], p) for p in (Precision.FP32, Precision.INT8)]
    first, second = (graph for graph in graphs if isinstance(graph, ExternalGraph))
    assert first.buffer is second.buffer
    assert "colours" in set(first.names) & set(second.names)


def test_sessions_read_the_weights_where_they_lie(beside: Bundle) -> None:
    """What products and look-ups read is not copied: other bytes there are another answer."""
    component: Any = beside.manifest.components[0]
    graph = beside.read_graph(component.graphs[NET], Precision.FP32)
    assert isinstance(graph, ExternalGraph)
    engines = [OrtEngine(graph, threads=1), OrtEngine(graph, threads=1)]
    inputs = {"token_ids": np.array([[1, 2]]), "token_mask": np.ones((1, 2), np.float32)}
    before = [engine.run(inputs)["context"] for engine in engines]
    assert before[0].any()
    assert np.array_equal(before[0], before[1])
    begin, end = graph.buffer.tensors["table"].place
    graph.buffer._memory[begin:end] = bytes(end - begin)
    assert not any(engine.run(inputs)["context"].any() for engine in engines)
    for engine in engines:
        engine.close()
    engine = OrtEngine(graph, threads=1)
    assert np.array_equal(engine.run(inputs)["context"], before[0]), "read and checked again"


def test_an_engine_that_copies_refuses_what_protobuf_cannot_hold(
    beside: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has the size and names the engine that copies nothing."""
    component: Any = beside.manifest.components[0]
    graph = beside.read_graph(component.graphs[NET], Precision.FP32)
    monkeypatch.setattr(source, "MAX_MESSAGE_BYTES", 100)
    with pytest.raises(EngineError, match=r"its weights take 0.0 GB.*use --engine ort"):
        source.whole_graph(graph)


def test_a_manifest_without_them_says_nothing_of_them(inside: Bundle, beside: Bundle) -> None:
    """Bundles that are older than these fields keep their ids."""
    old, new = to_json(inside.manifest), to_json(beside.manifest)
    assert all("chunks" not in entry for entry in old["files"])
    assert "weights" not in old["components"][1]["graphs"][NET]
    assert new["components"][1]["graphs"][NET]["weights"] == "base.safetensors"
