"""`cascade serve` as a process: start, drain, signals, sockets, exit codes."""

import json
import signal
import stat
import subprocess
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cascade.bundle.bundle import Bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.request import GenerateRequest
from protos.cascade.v1 import cascade_pb2 as pb
from tests.support.serving import (
    Caller,
    child_server,
    connect,
    details_of,
    local_results,
    pixels,
    request_message,
    results_of,
    wait_until,
)

KUMQUAT = "a red kumquat"
"""Its last word must appear in no log line."""
NAMES = ("", "cascade.v1.CascadeService")


def health_of(caller: Caller, name: str) -> str:
    """A service's state as its enum's name."""
    stub = health_pb2_grpc.HealthStub(caller.channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=60)
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def test_sigterm_drains(slow_bundle: Bundle, tmp_path: Path) -> None:
    """NOT_SERVING and no new work, while what is in flight still gets the right picture."""
    steps = 160
    options = {"sr32": DiffusionOptions(steps=steps)}
    request = GenerateRequest(prompt=KUMQUAT, options=options)
    message = request_message(
        slow_bundle,
        prompt=pb.PromptStart(prompt=KUMQUAT),
        options={"sr32": pb.StageOptions(steps=steps)},
    )
    path = tmp_path / "s.sock"
    listen = f"unix:{path}"
    # On a busy machine the request in flight takes longer than the half minute it gets by default.
    serving = ("--listen", listen, "--threads", "1", "--drain-grace-s", "600")
    with child_server(slow_bundle.folder, *serving) as (child, line):
        started = json.loads(line())
        assert started["event"] == "listening"
        assert (started["address"], started["bundle_id"]) == (listen, slow_bundle.bundle_id)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with connect(listen) as caller:
            assert [health_of(caller, name) for name in NAMES] == ["SERVING", "SERVING"]
            call = caller.generate(message)
            next(call)
            child.send_signal(signal.SIGTERM)
            wait_until(lambda: health_of(caller, "") == "NOT_SERVING")
            assert health_of(caller, NAMES[1]) == "NOT_SERVING"
            message.request_id = "another"
            with pytest.raises(grpc.RpcError) as refused:
                list(caller.generate(message))
            assert details_of(refused.value)[:2] == ("UNAVAILABLE", "TRANSPORT_ERROR")
            picture = pixels(results_of(call)["sr32"].image)
        assert child.wait(timeout=120) == 0
        assert child.stderr is not None
        log = child.stderr.read()
    assert not path.exists()
    expected = local_results(slow_bundle, request)["sr32"].handoff.image
    assert expected is not None
    assert np.array_equal(picture, expected)
    lines = [json.loads(entry) for entry in log.splitlines()]
    outcomes = [entry["outcome"] for entry in lines if entry["event"] == "generate"]
    assert outcomes == ["ok"]
    assert lines[-1]["event"] == "stopped"
    assert "kumquat" not in log


def test_a_second_signal_ends_at_once(slow_bundle: Bundle) -> None:
    """The call in flight is dropped and the exit code says so."""
    message = request_message(
        slow_bundle,
        prompt=pb.PromptStart(prompt=KUMQUAT),
        options={"sr32": pb.StageOptions(steps=1000), "sr16": pb.StageOptions(steps=1000)},
    )
    options = ("--listen", "127.0.0.1:0", "--threads", "1")
    with child_server(slow_bundle.folder, *options) as (child, line):
        with connect(json.loads(line())["address"]) as caller:
            call = caller.generate(message)
            next(call)
            child.send_signal(signal.SIGTERM)
            assert json.loads(line())["event"] == "draining"
            child.send_signal(signal.SIGINT)
            with pytest.raises(grpc.RpcError) as dropped:
                list(call)
            assert dropped.value.code() == grpc.StatusCode.UNAVAILABLE
        assert child.wait(timeout=60) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_after_the_drain_changes_no_exit_code(
    number: signal.Signals, bundle: Bundle
) -> None:
    """Sent again and again until the process is gone, its last moments included."""
    with child_server(bundle.folder, "--listen", "127.0.0.1:0") as (child, line):
        assert json.loads(line())["event"] == "listening"
        child.send_signal(signal.SIGTERM)
        while json.loads(line())["event"] != "stopped":
            pass
        while child.poll() is None:
            child.send_signal(number)
            time.sleep(0.002)
        assert child.returncode == 0


def test_a_private_child_ends_with_its_parent(bundle: Bundle, tmp_path: Path) -> None:
    """The end of standard input is a request to stop."""
    options = ("--listen", f"unix:{tmp_path / 's.sock'}", "--until-stdin-closes")
    with child_server(bundle.folder, *options, stdin=subprocess.PIPE) as (child, line):
        assert json.loads(line())["event"] == "listening"
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(timeout=60) == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--listen", "0.0.0.0:0"), "--insecure"),
        (("--listen", "unix:/nonexistent/s.sock"), "cannot listen on"),
        (("--listen", "127.0.0.1:0", "--cut", "9"), "cut"),
    ],
)
def test_what_cannot_be_served_exits_with_one_line(
    options: tuple[str, ...], named: str, bundle: Bundle
) -> None:
    """Exit code 2, no traceback, and the way out is named."""
    with child_server(bundle.folder, *options) as (child, _):
        assert child.wait(timeout=120) == 2
        assert child.stderr is not None
        (only,) = child.stderr.read().splitlines()
        assert only.startswith("error: ")
        assert named in only


@pytest.mark.parametrize("asked", [False, True])
def test_a_prompt_is_logged_only_when_asked_for(asked: bool, bundle: Bundle) -> None:  # noqa: FBT001
    """With `--log-prompts` in one line beside its id; else in none."""
    options = ("--listen", "127.0.0.1:0", "--threads", "1", *(["--log-prompts"] * asked))
    message = request_message(bundle, prompt=pb.PromptStart(prompt=KUMQUAT))
    with child_server(bundle.folder, *options) as (child, line):
        with connect(json.loads(line())["address"]) as caller:
            results_of(caller.generate(message))
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=120) == 0
        assert child.stderr is not None
        lines = [json.loads(entry) for entry in child.stderr.read().splitlines()]
    holding = [entry for entry in lines if "kumquat" in json.dumps(entry)]
    assert [(entry["event"], entry["prompt"], entry["request_id"]) for entry in holding] == (
        [("prompt", KUMQUAT, message.request_id)] * asked
    )


def test_the_first_line_says_what_runs_each_component(bundle: Bundle) -> None:
    """Engine, precision and device by component, and which of them nobody measured."""
    options = ("--listen", "127.0.0.1:0", "--threads", "1", "--cut", "2", "--engine", "sr32=ort")
    with child_server(bundle.folder, *options) as (_, line):
        started = json.loads(line())
    assert started["engines"] == {"sr16": "ort fp32 on CPU", "sr32": "ort fp32 on CPU"}
    assert "sr32" not in started["untuned"]
