"""Starting with something broken, and leaving while work is in progress."""

import hashlib
import json
import shutil
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cascade.bundle.bundle import Bundle, open_bundle
from tests.support.asking import answer, asking, asking_long, differs
from tests.support.server_process import Victim, serve_command, victim
from tests.support.serving import Caller, connect, details_of, pixels, results_of, wait_until
from tests.support.tiny_bundle import write_tiny_bundle


def health_of(caller: Caller, name: str = "") -> str:
    """A service's state as its enum's name."""
    stub = health_pb2_grpc.HealthStub(caller.channel)
    state = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=60).status
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(state))


def test_a_drain_finishes_what_is_in_flight(slow_bundle: Bundle) -> None:
    """11. SIGTERM: NOT_SERVING, new calls UNAVAILABLE, those in flight end right, exit 0."""
    steps = (("base", 1), ("sr16", 40), ("sr32", 60))
    server_of = victim(slow_bundle, "--drain-grace-s", "600")
    with server_of as server, connect(server.address) as caller:
        calls = [
            caller.generate(asking(slow_bundle, dict(steps), seed=seed), timeout_s=300)
            for seed in range(2)
        ]
        assert [bool(next(call)) for call in calls] == [True, True]
        server.signal(signal.SIGTERM)
        wait_until(lambda: health_of(caller) == "NOT_SERVING")
        with pytest.raises(grpc.RpcError) as refused:
            list(caller.generate(asking(slow_bundle)))
        assert details_of(refused.value)[0] == "UNAVAILABLE"
        for seed, call in enumerate(calls):
            picture = pixels(results_of(call)["sr32"].image)
            assert not differs(picture, answer(slow_bundle, seed, steps))
        assert server.wait() == 0


def test_a_second_signal_ends_at_once(slow_bundle: Bundle) -> None:
    """11. The calls in flight are dropped as UNAVAILABLE, the exit code is 1."""
    with victim(slow_bundle) as server, connect(server.address) as caller:
        call = caller.generate(asking_long(slow_bundle), timeout_s=None)
        next(call)
        server.signal(signal.SIGTERM)
        wait_until(lambda: bool(server.log("draining")))
        server.signal(signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as dropped:
            list(call)
        assert dropped.value.code() == grpc.StatusCode.UNAVAILABLE
        assert server.wait() == 1


def test_the_grace_of_a_drain_is_bounded(slow_bundle: Bundle) -> None:
    """11. What is not done by then is dropped, exit 1; the waiting one is told as well."""
    with (
        victim(slow_bundle, "--drain-grace-s", "0.5") as server,
        connect(server.address) as caller,
    ):
        calls = [caller.generate(asking_long(slow_bundle), timeout_s=None) for _ in range(2)]
        assert [bool(next(call)) for call in calls] == [True, True]
        server.signal(signal.SIGTERM)
        for call in calls:
            with pytest.raises(grpc.RpcError) as dropped:
                list(call)
            assert dropped.value.code() == grpc.StatusCode.UNAVAILABLE
        assert server.wait() == 1


def cut_short(folder: Path) -> None:
    """A graph that ends early, under a manifest that knows it so."""
    path = folder / "sr16.onnx"
    path.write_bytes(path.read_bytes()[:-100])
    rewrite(folder, path)


def rewrite(folder: Path, path: Path) -> None:
    """Make the manifest agree with a changed file."""
    data = path.read_bytes()
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["files"]:
        if entry["name"] == path.name:
            entry["sha256"], entry["size_bytes"] = hashlib.sha256(data).hexdigest(), len(data)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def other_graph(folder: Path) -> None:
    """Another component's graph in the place of one: wrong inputs."""
    shutil.copy(folder / "text_encoder.onnx", folder / "sr16.onnx")
    rewrite(folder, folder / "sr16.onnx")


BREAKAGES: dict[str, Callable[[Path], Any]] = {
    "no folder": shutil.rmtree,
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "manifest of half a file": lambda folder: (folder / "manifest.json").write_text('{"format'),
    "no graph": lambda folder: (folder / "sr16.onnx").unlink(),
    "a graph of another hash": lambda folder: (folder / "sr16.onnx").write_bytes(
        (folder / "sr16.onnx").read_bytes()[:-1] + b"x"
    ),
    "a graph cut short": cut_short,
    "a graph of other inputs": other_graph,
    "no tokenizer": lambda folder: (folder / "tokenizer.json").write_text("{}"),
}


def test_a_broken_bundle_is_one_line_and_an_exit_code(tmp_path: Path) -> None:
    """12. Missing, altered, cut short, of other inputs: exit 2 and one line that says so."""
    codes = {}
    with ExitStack() as stack:
        started = {}
        for number, (name, breakage) in enumerate(BREAKAGES.items()):
            broken = write_tiny_bundle(tmp_path / str(number))
            breakage(broken.folder)
            started[name] = Victim(broken)
            stack.callback(started[name].kill)
        for name, server in started.items():
            codes[name] = server.wait(120)
            (line,) = (line for line in server.lines if not line.startswith("{"))
            assert line.startswith("error: "), name
            assert len(line) < 600, name
    assert set(codes.values()) == {2}, codes


def test_an_unwritable_cache_is_no_obstacle(bundle: Bundle, tmp_path: Path) -> None:
    """12. A cache folder that cannot be made: the server starts and serves."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    environment = ["env", f"XDG_CACHE_HOME={blocked}", f"HOME={blocked}"]
    with (
        victim(bundle, command=[*environment, *serve_command(bundle)]) as server,
        connect(server.address) as caller,
    ):
        picture = pixels(results_of(caller.generate(asking(bundle)))["sr32"].image)
        assert not differs(picture, answer(bundle))


def reload(server: Victim) -> tuple[int, dict[str, Any]]:
    """Ask for a reload at the operator's port: HTTP status and answer."""
    host, _, port = server.window.rpartition(":")
    connection = HTTPConnection(host, int(port), timeout=60)
    with closing(connection):
        connection.request("POST", "/reload")
        answered = connection.getresponse()
        return answered.status, json.load(answered)


def test_a_bad_bundle_does_not_replace_a_good_one(tmp_path: Path) -> None:
    """13. Each breakage of 12 at a reload: refused, and the old bundle goes on serving."""
    good = write_tiny_bundle(tmp_path / "good")
    kept = tmp_path / "kept"
    shutil.copytree(good.folder, kept)
    with victim(good) as server, connect(server.address) as caller:
        for name, breakage in BREAKAGES.items():
            breakage(good.folder)
            status, told = reload(server)
            assert (status, told["outcome"]) == (422, "refused"), name
            assert told["bundle_id"] == good.bundle_id, name
            picture = pixels(results_of(caller.generate(asking(good)))["sr32"].image)
            assert not differs(picture, answer_of(kept)), name
            shutil.rmtree(good.folder, ignore_errors=True)
            shutil.copytree(kept, good.folder)
        assert reload(server)[1]["outcome"] == "unchanged"
        assert server.total("cascade_reloads_total", outcome="refused") == len(BREAKAGES)
        assert server.gauge("bundles") == 1


def answer_of(folder: Path) -> Any:
    """The right picture of the bundle in a folder."""
    return answer(open_bundle(folder))


def test_a_watcher_hears_of_the_drain(slow_bundle: Bundle) -> None:
    """33. grpc.health Watch tells SERVING, then after SIGTERM NOT_SERVING while work goes on."""
    with victim(slow_bundle) as server, connect(server.address) as caller:
        stub = health_pb2_grpc.HealthStub(caller.channel)
        states: list[int] = []
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=""))
        call = caller.generate(asking_long(slow_bundle), timeout_s=None)
        next(call)

        def note() -> None:
            try:
                states.extend(answer.status for answer in watch)
            except grpc.RpcError:
                return

        watcher = threading.Thread(target=note)
        watcher.start()
        wait_until(lambda: states == [health_pb2.HealthCheckResponse.SERVING])
        server.signal(signal.SIGTERM)
        wait_until(lambda: states[1:] == [health_pb2.HealthCheckResponse.NOT_SERVING])
        assert call.is_active()
        call.cancel()
        assert server.wait() == 0
        watcher.join(60)
