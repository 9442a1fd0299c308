"""A time limit ends a request when it says, inside a step too; a wrong server shows at once."""

import hashlib
import re
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import write_manifest
from cascade.errors import (
    BundleMismatch,
    Cancelled,
    CascadeError,
    DeadlineExceeded,
    PrecisionMismatch,
    TransportError,
)
from cascade.events import Event, Progress, StageFinished
from cascade.request import GenerateRequest
from cascade.types import Array
from runtime_client import Client
from runtime_client.deadline import Deadline
from runtime_client.local.local_stages import SerializedEngine, TimedEngine
from tests.support.command_line import CASCADE, PATIENCE_S, cascade, generate_here, generate_split
from tests.support.serving import running
from tests.support.tiny_bundle import write_tiny_bundle

REQUEST = GenerateRequest(prompt="a red apple, noto style")


class EndlessEngine:
    """Runs until it is terminated."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self.running = threading.Event()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Never returns."""
        del inputs
        self._ended.clear()
        self.running.set()
        self._ended.wait()
        raise Cancelled("the run was ended from outside")

    def terminate(self) -> None:
        """Let `run` raise."""
        self._ended.set()

    def close(self) -> None:
        """Nothing to release."""


def endless(graph: bytes) -> bytes:
    """A stage's graph whose every run takes longer than anybody lives."""
    model = onnx.load_from_string(graph)
    last = model.graph.node[-1]
    name = last.output[0]
    last.output[0] = "endless_before"
    kept = helper.make_tensor_value_info("endless_kept", TensorProto.BOOL, [])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["endless_go"], ["endless_kept"]),
            helper.make_node("Tanh", ["endless_x"], ["endless_y"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("endless_turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("endless_go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("endless_x", TensorProto.FLOAT, None),
        ],
        [kept, helper.make_tensor_value_info("endless_y", TensorProto.FLOAT, None)],
    )
    model.graph.initializer.append(
        helper.make_tensor("endless_turns", TensorProto.INT64, [], [2**60])
    )
    model.graph.initializer.append(
        helper.make_tensor("endless_always", TensorProto.BOOL, [], [True])
    )
    node = helper.make_node(
        "Loop", ["endless_turns", "endless_always", "endless_before"], [name], body=body
    )
    model.graph.node.append(node)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def endless_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Its last stage never ends a step."""
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("endless") / "bundle")
    data = endless(bundle.read("sr32.onnx"))
    (bundle.folder / "sr32.onnx").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    files = tuple(
        replace(entry, sha256=digest, size_bytes=len(data)) if entry.name == "sr32.onnx" else entry
        for entry in bundle.manifest.files
    )
    text = write_manifest(replace(bundle.manifest, files=files))
    (bundle.folder / "manifest.json").write_text(text)
    return open_bundle(bundle.folder)


def test_a_run_of_the_engine_ends_at_the_deadline() -> None:
    """And leaves it to the next request."""
    shared = SerializedEngine(EndlessEngine())
    for _ in range(2):
        with pytest.raises(DeadlineExceeded):
            TimedEngine(shared, Deadline.after(0.01)).run({})
    shared.close()


def test_a_turn_that_does_not_come_ends_too() -> None:
    """The other request's run is left alone until its own time is over."""
    engine = EndlessEngine()
    shared = SerializedEngine(engine)
    ends: list[CascadeError] = []

    def run_long() -> None:
        try:
            TimedEngine(shared, Deadline.after(3600)).run({})
        except CascadeError as exc:
            ends.append(exc)

    other = threading.Thread(target=run_long)
    other.start()
    assert engine.running.wait(PATIENCE_S)
    with pytest.raises(DeadlineExceeded):
        TimedEngine(shared, Deadline.after(0.01)).run({})
    assert other.is_alive()
    shared.terminate()
    other.join(PATIENCE_S)
    assert [type(end) for end in ends] == [Cancelled]
    shared.close()


@pytest.mark.parametrize("cut", ["4", "2"])
def test_a_step_without_end_ends_with_the_time(
    endless_bundle: Bundle, tmp_path: Path, cut: str
) -> None:
    """Here and on a private server, whatever of the time its start took."""
    output = tmp_path / "a.png"
    arguments = generate_here(endless_bundle.folder, output, "--cut", cut, "--timeout", "4")
    found = cascade(*arguments)
    assert found.returncode == 3
    # The client's own clock, or the call's, which ends in the same instant.
    assert re.search(r"allowed for (the|this) request (are|is) over", found.stderr.splitlines()[-1])
    assert list(tmp_path.iterdir()) == []


def test_a_start_without_end_ends_with_the_time(bundle: Bundle, tmp_path: Path) -> None:
    """A private server needs longer than this on any machine."""
    found = cascade(*generate_split(bundle.folder, tmp_path / "a.png", "--timeout", "0.001"))
    assert found.returncode == 3
    assert "the 0.001 s allowed for the request are over" in found.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_step_without_end(
    endless_bundle: Bundle, tmp_path: Path, number: signal.Signals
) -> None:
    """While this process computes, and Python itself never gets to run."""
    arguments = generate_here(endless_bundle.folder, tmp_path / "a.png")
    with subprocess.Popen(
        [*CASCADE, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("sr16"):
                break
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 128 + number
    assert list(tmp_path.iterdir()) == []


def done_before(error: type[CascadeError], client: Client) -> list[Event]:
    """What a request had come to when it ended with that error."""
    seen: list[Event] = []
    with client, pytest.raises(error):
        seen.extend(event for event in client.events(REQUEST))
    return seen


def test_a_wrong_server_shows_before_any_work(bundle: Bundle, tmp_path: Path) -> None:
    """No component has run here: nobody there, another bundle, too little hosted, another way."""
    where = f"unix:{tmp_path}/nothing.sock"
    assert done_before(TransportError, Client(bundle, server=where, threads=1)) == []
    other = write_tiny_bundle(tmp_path / "other", steps=2)
    with running(other) as server:
        client = Client(bundle, server=server.address, threads=1)
        assert done_before(BundleMismatch, client) == []
    with running(bundle, cut=3) as server:
        client = Client(bundle, server=server.address, threads=1)
        assert done_before(BundleMismatch, client) == []
    eight = write_tiny_bundle(tmp_path / "eight", int8=True)
    with running(eight, precision="fp32") as server:
        client = Client(eight, server=server.address, threads=1, precision="sr32=int8")
        assert done_before(PrecisionMismatch, client) == []


def test_with_a_fallback_the_work_begins_meanwhile(bundle: Bundle, tmp_path: Path) -> None:
    """Nobody there is no reason to wait."""
    where = f"unix:{tmp_path}/nothing.sock"
    with Client(bundle, server=where, fallback="local", threads=1) as client:
        events = list(client.events(REQUEST))
    assert isinstance(events[0], StageFinished | Progress)
    assert isinstance(events[-1], StageFinished)
