"""Steps in a real Triton server: `make triton-test`; skipped where none is installed."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.bundle.triton_repository import RepositoryOptions, write_repository
from cascade.engine import Engine
from cascade.engines.factory import EngineChoice, open_engine
from cascade.engines.kinds import EngineKind
from cascade.engines.triton import TritonEngine
from cascade.engines.triton_config import Serving, read_config
from cascade.errors import Cancelled, EngineError
from cascade.precision import Precision
from cascade.stage_factory import open_stages
from cascade.tuning.dummy_inputs import dummy_inputs, free_axes
from cascade.tuning.options import parse_engine_options
from cascade.tuning.plan import choice_for, graph_for, plan_here
from runtime_client import Client
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.triton_server import TritonServer, triton_site, tritonserver

TOKENS = 16
MAX_BATCH = 4
ROUNDING = 1e-5
"""Of another order of sums: padded texts, joined rows."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle in miniature, whose last stages take some milliseconds a step."""
    triton_site()
    return write_tiny_bundle(tmp_path_factory.mktemp("triton") / "tiny", slow_layers=20)


@pytest.fixture(scope="module")
def server(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A server of every component, as `cascade export-triton` writes them."""
    folder = tmp_path_factory.mktemp("server")
    options = RepositoryOptions(
        max_batch=MAX_BATCH,
        tokens=TOKENS,
        serving=Serving(device="cpu", queue_delay_us=100_000),
    )
    written = write_repository(bundle, range(4), options, folder / "repository")
    with tritonserver(folder / "repository", folder) as running:
        assert running.ready() == {config.name for config in written}, running.log
        for config in written:
            assert read_config(running.get(f"models/{config.name}/config")) == config
        yield running


def engine(bundle: Bundle, server: TritonServer, position: int = 2) -> TritonEngine:
    """One component's engine there."""
    component = bundle.manifest.components[position]
    host, _, port = server.address.rpartition(":")
    graph = bundle.read_graph(component.graphs["net"], Precision.FP32)
    return TritonEngine(graph, address=(host, int(port)), model=component.name)


def local(bundle: Bundle, position: int) -> Engine:
    """The same in ONNX Runtime here."""
    component = bundle.manifest.components[position]
    choice = choice_for(component, EngineChoice(EngineKind.ORT, Precision.FP32, 1), "net")
    return open_engine(graph_for(bundle, component, choice), choice)


@pytest.mark.parametrize("position", range(4))
def test_a_step_equals_ours(bundle: Bundle, server: TritonServer, position: int) -> None:
    """One row, several, and more than a run takes; texts shorter than the fixed length too."""
    component = bundle.manifest.components[position]
    there, here = engine(bundle, server, position), local(bundle, position)
    for rows, tokens in ((1, 8), (3, TOKENS), (2 * MAX_BATCH + 1, 8)):
        inputs = dummy_inputs(component, free_axes(component, batch=rows, tokens=tokens))
        found, expected = there.run(inputs), here.run(inputs)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype)
            assert np.abs(found[name] - value).max() <= ROUNDING * np.abs(value).max()
    there.close()
    here.close()


def test_requests_share_runs(bundle: Bundle, server: TritonServer) -> None:
    """Six clients, texts of two lengths: fewer runs than rows, and each has its own result."""
    component = bundle.manifest.components[2]
    before = server.runs(component.name)

    def one(number: int) -> float:
        axes = free_axes(component, batch=1, tokens=8 if number % 2 else TOKENS)
        inputs = {name: value + number for name, value in dummy_inputs(component, axes).items()}
        inputs["context_mask"] = np.ones_like(inputs["context_mask"])
        there, here = engine(bundle, server), local(bundle, 2)
        ready.wait()
        found = there.run(inputs)["prediction"]
        difference = np.abs(found - here.run(inputs)["prediction"]).max()
        there.close()
        return float(difference)

    ready = threading.Barrier(6)
    with ThreadPoolExecutor(6) as pool:
        assert max(pool.map(one, range(6))) <= ROUNDING
    rows, runs = (now - then for now, then in zip(server.runs(component.name), before, strict=True))
    assert rows == 6
    assert runs < rows


def test_a_model_of_something_else(bundle: Bundle, server: TritonServer, tmp_path: Path) -> None:
    """Another bundle's graph would make other pictures; a name that is none; a text too long."""
    other = write_tiny_bundle(tmp_path / "other", slow_layers=3)
    with pytest.raises(EngineError, match="another bundle or precision"):
        engine(other, server)
    host, _, port = server.address.rpartition(":")
    with pytest.raises(EngineError, match="refused"):
        TritonEngine(b"", address=(host, int(port)), model="nope")
    component = bundle.manifest.components[1]
    there = engine(bundle, server, 1)
    longer = dummy_inputs(component, free_axes(component, batch=1, tokens=24))
    with pytest.raises(EngineError, match="larger --tokens"):
        there.run(longer)
    there.close()


def test_a_run_that_is_ended(bundle: Bundle, server: TritonServer) -> None:
    """Another thread's `terminate` ends the wait, and the engine goes on to serve."""
    component = bundle.manifest.components[3]
    there = engine(bundle, server, 3)
    axes = {**free_axes(component, batch=4, tokens=TOKENS), "height": 512, "width": 512}
    inputs = dummy_inputs(component, axes)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(there.run, inputs)
        while not running.done():
            there.terminate()
        with pytest.raises(Cancelled):
            running.result()
    small = dummy_inputs(component, free_axes(component, batch=1, tokens=8))
    assert there.run(small)["prediction"].shape[0] == 1
    there.close()
    with pytest.raises(EngineError, match="closed"):
        there.run(small)


def test_a_picture_of_every_component_there(bundle: Bundle, server: TritonServer) -> None:
    """`--engine triton:HOST:PORT`: the same picture to rounding, and what computed it."""
    word = f"triton:{server.address}"
    with Client(bundle, cut=4) as client:
        expected = client.generate("a cat").image
    with Client(bundle, cut=4, engine=word) as client:
        result = client.generate("a cat")
    assert {c.engine for c in result.computed.values()} == {"triton"}
    assert np.abs(result.image.astype(int) - expected.astype(int)).max() <= 1
    plan = plan_here(bundle.manifest, parse_engine_options(f"sr32={word}", "auto"))
    assert (plan.of("sr32").kind, plan.device("sr32")) == (EngineKind.TRITON, "Triton")
    for stage in open_stages(bundle, [3], plan):
        stage.close()


def test_a_server_that_is_gone(bundle: Bundle, tmp_path: Path) -> None:
    """Killed between two runs: a typed error that says what to do."""
    write_repository(bundle, [1], RepositoryOptions(), tmp_path / "repository")
    component = bundle.manifest.components[1]
    inputs = dummy_inputs(component, free_axes(component, batch=1, tokens=8))
    with tritonserver(tmp_path / "repository", tmp_path) as server:
        there = engine(bundle, server, 1)
        assert there.run(inputs)
        server.process.kill()
        server.process.wait()
        with pytest.raises(EngineError, match=r"does not answer.*another --engine"):
            there.run(inputs)
        there.close()


def test_a_misspelt_field_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    """Triton reads configurations strictly: that it takes ours says something."""
    repository = tmp_path / "repository"
    write_repository(bundle, [0, 1], RepositoryOptions(), repository)
    config = repository / "base" / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size", "max_batch_sice"))
    with tritonserver(repository, tmp_path) as server:
        assert server.ready() == {"text_encoder"}
        assert 'has no field named "max_batch_sice"' in server.log
