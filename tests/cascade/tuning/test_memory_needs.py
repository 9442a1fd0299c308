"""What components take in memory: counted before they are opened, refused where it is too much."""

from pathlib import Path

import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.engines.factory import EngineChoice, EngineKind
from cascade.errors import EngineError
from cascade.graph_spec import NET
from cascade.precision import Precision
from cascade.system.memory_limits import Memory
from cascade.tuning.memory_needs import check_fits, memory_need, memory_needs
from cascade.tuning.plan import EnginePlan
from cascade.weights import buffer
from cascade.weights.source import ExternalGraph
from tests.support.beside_bundle import move_beside
from tests.support.tiny_bundle import write_tiny_bundle

ORT, OPENVINO = (
    EngineChoice(kind, Precision.FP32) for kind in (EngineKind.ORT, EngineKind.OPENVINO)
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Stages of 8 to 32 pixels with int8 variants, float32 in their files."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"), int8=True)


def test_a_float32_file_takes_its_size(bundle: Bundle) -> None:
    """And OpenVINO twice as much; a run 64 float32 values per pixel and row."""
    base = bundle.manifest.components[1]
    size = bundle.entry("base.onnx").size_bytes
    need = memory_need(bundle, base, ORT)
    assert (need.weights, need.run) == (size, 64 * 4 * 8 * 8 * 2)
    assert memory_need(bundle, base, OPENVINO).weights == 2 * size


def test_every_precision_with_a_file_is_told(bundle: Bundle) -> None:
    """A variant takes its own weights and those that it borrows."""
    needs = memory_needs(bundle, bundle.manifest.components[1])
    sizes = [bundle.entry(name).size_bytes for name in ("base.onnx", "base.int8.onnx")]
    assert {need.precision: need.weights for need in needs} == {
        Precision.FP32: sizes[0],
        Precision.INT8: sum(sizes),
    }
    assert "a run about" in needs[0].text
    assert "a run" not in memory_needs(bundle, bundle.manifest.components[0])[0].text


def test_weights_beside_a_graph_are_those_that_it_names(tmp_path: Path) -> None:
    """Another precision's in the same file are not counted."""
    write_tiny_bundle(tmp_path, int8=True)
    bundle = move_beside(tmp_path)
    base = bundle.manifest.components[1]
    graph = bundle.read_graph(base.graphs[NET], Precision.FP32)
    assert not isinstance(graph, bytes)
    inside = bundle.entry("base.onnx").size_bytes
    wanted = inside + graph.lease().size_bytes
    assert memory_need(bundle, base, ORT).weights == wanted
    assert wanted < inside + bundle.entry("base.safetensors").size_bytes


def test_what_does_not_fit_is_refused_with_the_numbers(bundle: Bundle) -> None:
    """The component that takes most, what all take, and what there is."""
    plan = EnginePlan()
    wanted = sum(bundle.entry(f"{c.name}.onnx").size_bytes for c in bundle.manifest.components)
    check_fits(bundle, range(4), plan, Memory(available=wanted))
    little = Memory(available=wanted - 1, limit=50_000_000)
    with pytest.raises(EngineError, match=r"the weights of sr\d\d in fp32 take 0.0 MB") as refused:
        check_fits(bundle, range(4), plan, little)
    assert refused.value.field == "memory"
    assert "of a limit of 50 MB are available: run it elsewhere (--cut)" in str(refused.value)


def test_where_the_system_does_not_tell_nothing_is_refused(bundle: Bundle) -> None:
    """Not every system says what is available."""
    check_fits(bundle, range(4), EnginePlan(), Memory())


def test_weights_that_another_process_holds_take_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two replicas where one copy fits, both open; OpenVINO reads another form and has its own.

    One process stands for both here: what it holds is found in the same way.
    """
    monkeypatch.setattr(buffer, "LEAST_SHARED", 1)
    write_tiny_bundle(tmp_path)
    holder, bundle = move_beside(tmp_path), open_bundle(tmp_path)
    base = holder.manifest.components[1]
    graph = holder.read_graph(base.graphs[NET], Precision.FP32)
    assert isinstance(graph, ExternalGraph)
    lease = graph.lease()
    little = Memory(available=memory_need(bundle, base, ORT).weights - lease.size_bytes)
    check_fits(bundle, [1], EnginePlan(), little)
    with pytest.raises(EngineError, match="the weights of base"):
        check_fits(bundle, [1], EnginePlan({"base": OPENVINO}), little)
    lease.release()
