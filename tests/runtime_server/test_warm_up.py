"""Warming up: every hosted component runs once before the server is ready, or it is not ready."""

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.engines.factory import EngineChoice, open_engine
from cascade.errors import EngineError, ManifestError
from cascade.stage_factory import open_stages
from cascade.tuning.dummy_inputs import dummy_handoff
from cascade.tuning.plan import EnginePlan
from runtime_server.config.config import ServerConfig
from runtime_server.core import load_core
from runtime_server.runtime.warm_up import warm_up
from tests.support.serving import child_server
from tests.support.tiny_bundle import write_tiny_bundle

NAMES = ["text_encoder", "base", "sr16", "sr32"]


class CountingEngine:
    """A true engine that counts its runs and whether it was closed; may refuse to run."""

    def __init__(self, graph: bytes, choice: EngineChoice, *, broken: bool) -> None:
        self._engine = open_engine(graph, choice)
        self._broken = broken
        self.runs = 0
        self.closed = False
        self.inputs = self._engine.inputs
        self.outputs = self._engine.outputs

    def run(self, inputs: Any) -> Any:
        """Count, and run or fail."""
        self.runs += 1
        if self._broken:
            raise EngineError("this engine cannot run")
        return self._engine.run(inputs)

    def terminate(self) -> None:
        """Pass it on."""
        self._engine.terminate()

    def close(self) -> None:
        """Remember it."""
        self.closed = True
        self._engine.close()


class CountingFactory:
    """Makes counting engines; the one of a certain graph cannot run."""

    def __init__(self, broken_graph: bytes | None = None) -> None:
        self.engines: list[CountingEngine] = []
        self._broken = broken_graph

    def __call__(self, graph: bytes, choice: EngineChoice) -> CountingEngine:
        """An engine of a graph."""
        engine = CountingEngine(graph, choice, broken=graph == self._broken)
        self.engines.append(engine)
        return engine


@pytest.mark.parametrize("cut", [0, 2])
def test_every_hosted_component_runs_once(bundle: Bundle, cut: int) -> None:
    """And its step is timed."""
    factory = CountingFactory()
    config = ServerConfig(bundle=bundle.folder, threads=1, cut=cut, max_batch_rows="1")
    core = load_core(config, factory, warm_up)
    try:
        assert list(core.executor.warmed) == NAMES[cut:]
        assert all(seconds > 0 for seconds in core.executor.warmed.values())
        assert [engine.runs for engine in factory.engines] == [1] * (4 - cut)
        assert core.executor.counts.idle
    finally:
        core.close()


def test_components_warm_up_while_others_are_opened(bundle: Bundle) -> None:
    """One that opens only once another has run is opened all the same; both are timed in order."""
    has_run = threading.Event()
    slow_to_open = bundle.read(bundle.manifest.components[1].graph.file)

    class Telling(CountingEngine):
        """Says that it runs."""

        def run(self, inputs: Any) -> Any:
            """Tell, and run."""
            has_run.set()
            return super().run(inputs)

    def opened(graph: bytes, choice: EngineChoice) -> CountingEngine:
        if graph == slow_to_open:
            assert has_run.wait(120), "nothing ran before everything was open"
        return Telling(graph, choice, broken=False)

    core = load_core(ServerConfig(bundle=bundle.folder, threads=1), opened, warm_up)
    try:
        assert list(core.executor.warmed) == NAMES
    finally:
        core.close()


def test_a_component_that_cannot_run_is_found_and_all_are_closed(bundle: Bundle) -> None:
    """Nothing is served, and nothing stays in memory."""
    factory = CountingFactory(bundle.read(bundle.manifest.components[2].graph.file))
    with pytest.raises(EngineError, match="cannot run"):
        load_core(ServerConfig(bundle=bundle.folder, threads=1), factory, warm_up)
    assert [engine.closed for engine in factory.engines] == [True] * 4


def test_what_was_opened_beside_a_component_that_cannot_be_is_closed(bundle: Bundle) -> None:
    """An error while opening leaves nothing behind either."""
    factory = CountingFactory()

    def failing(graph: bytes, choice: EngineChoice) -> CountingEngine:
        if graph == bundle.read(bundle.manifest.components[1].graph.file):
            raise EngineError("this engine cannot be opened")
        return factory(graph, choice)

    with pytest.raises(EngineError, match="cannot be opened"):
        open_stages(bundle, range(4), EnginePlan(threads=1), failing)
    assert [engine.closed for engine in factory.engines] == [True] * 3


def test_a_file_that_is_not_opened_is_checked_too(tmp_path: Path) -> None:
    """Every file of what is served is what the manifest says: other precisions too."""
    bundle = write_tiny_bundle(tmp_path / "bundle", int8=True)
    file = bundle.folder / "sr16.int8.onnx"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    factory = CountingFactory()
    config = ServerConfig(bundle=bundle.folder, threads=1, cut=2)
    with pytest.raises(ManifestError, match="sha256"):
        load_core(config, factory)
    assert [engine.closed for engine in factory.engines] == [True] * 2


def test_made_up_starts_fit_their_components(bundle: Bundle) -> None:
    """A prompt, a context, and a picture of the size before."""
    starts = [dummy_handoff(bundle.manifest.components[at], tokens=5) for at in range(4)]
    assert starts[0].prompt
    assert [s.context.shape for s in starts[1:] if s.context is not None] == [(5, 8)] * 3
    sizes = [None if s.image is None else s.image.shape for s in starts]
    assert sizes == [None, None, (8, 8, 3), (16, 16, 3)]
    assert all(s.image.dtype == np.uint8 for s in starts if s.image is not None)


def test_the_server_listens_only_once_it_is_warm(bundle: Bundle, tmp_path: Path) -> None:
    """With `--no-warm-up` it does so at once; the log says which."""
    for options, warmed in (((), NAMES), (("--no-warm-up",), [])):
        listen = ("--listen", f"unix:{tmp_path / 's.sock'}", "--threads", "1")
        with child_server(bundle.folder, *listen, *options) as (child, line):
            started = json.loads(line())
            assert started["event"] == "listening"
            assert list(started["warm_up_s"]) == warmed
            child.terminate()
            assert child.wait(timeout=120) == 0
