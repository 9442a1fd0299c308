"""Other systems beside ours: a function, an HTTP endpoint, and the turns that they take."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.load import Window, in_turns
from bench.run import Benchmark, BenchmarkRun, RunPlan
from bench.systems.other_systems import HttpSystem, open_other
from bench.table import as_text
from bench.workload import WorkItem
from cascade.commands.cli import build_parser
from cascade.errors import InvalidRequest, TransportError
from tests.bench.fake_system import WORKLOAD, FakeSystem, FakeTime

MODULE = """
import numpy as np

def make():
    def draw(prompt, seed):
        yield np.full((1, 1, 3), seed % 256, np.uint8)
        yield np.full((2, 2, 3), len(prompt), np.uint8)
    return draw
"""


def test_a_function_takes_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the working folder, with `--against`; its window and the ratios stand in the record."""
    (tmp_path / "my_bench_model.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    other = open_other("torch:my_bench_model:make", 1.0, 1)
    plan = RunPlan(requests=3, warm_up=1, cold=0, repeats=0, check=0)
    benchmark = Benchmark(
        open_system=FakeSystem, workload=WORKLOAD, plan=plan, local=None, say=lambda _: None,
        against=lambda: other,
    )  # fmt: skip
    run = BenchmarkRun(benchmark)
    run.run()
    against = run.record["against"]
    assert against["system"] == {"kind": "function", "against": "torch:my_bench_model:make"}
    assert against["measured"]["samples"]["number"] == [0, 1, 2]
    assert list(against["measured"]["samples"]["pictures_s"]) == ["picture 1", "picture 2"]
    assert [r["measure"] for r in against["ratios"]] == ["first picture", "last picture", "latency"]
    assert "against          torch:my_bench_model:make: latency" in as_text(run.record)


OWN = """
from tests.bench.fake_system import FakeSystem

class Half:
    caching = ()
"""


def test_a_system_of_ones_own_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its hops and bytes; one that does not answer everything is refused by what it lacks."""
    (tmp_path / "my_own_system.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    found = open_other("system:my_own_system:FakeSystem", 1.0, 1)
    outcome = found.run(WorkItem("a", 1), lambda *_: None)
    assert (outcome.bytes_up, outcome.bytes_down, list(outcome.hops)) == (10, 20, ["work"])
    with pytest.raises(InvalidRequest, match="Half lacks describe, run, processes, close"):
        open_other("system:my_own_system:Half", 1.0, 1)


def test_turns_change_who_is_first() -> None:
    """Every system makes every item; the seconds of a window are its own."""
    clock, order = FakeTime(), []

    def work(name: str, seconds: float) -> FakeSystem:
        def spend(item: WorkItem) -> None:
            order.append(f"{name}{item.seed}")
            clock.sleep(seconds)

        return FakeSystem(spend)

    windows = [Window(work("a", 1.0), WORKLOAD), Window(work("b", 2.0), WORKLOAD)]
    for window in windows:
        window.clock = clock
    in_turns(windows, range(3))
    assert order == ["a0", "b0", "b1", "a1", "a2", "b2"]
    assert [window.seconds for window in windows] == [3.0, 6.0]


class Endpoint(BaseHTTPRequestHandler):
    """Answers with a picture of the seed, or with an error for the prompt `bad`."""

    def do_POST(self) -> None:
        """One request."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        file = io.BytesIO()
        Image.fromarray(np.full((2, 2, 3), asked["seed"], np.uint8)).save(file, "PNG")
        data = [{"b64_json": base64.b64encode(file.getvalue()).decode()}]
        body = json.dumps({"data": [] if asked["prompt"] == "bad" else data}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    """The address of such a server."""
    with HTTPServer(("127.0.0.1", 0), Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/images/generations"
        server.shutdown()
        thread.join()


def test_an_endpoint_is_asked_over_http(endpoint: str) -> None:
    """The picture of the seed, and the bytes of both ways; a reply without one is a failure."""
    system = open_other(endpoint, 30.0, 1)
    seen = []
    found = system.run(WorkItem("a", 7), lambda _, image: seen.append(image))
    assert seen[0].tolist() == np.full((2, 2, 3), 7).tolist()
    assert found.bytes_up > 0
    assert list(found.hops) == ["request", "unpack"]
    with pytest.raises(TransportError, match="b64_json"):
        system.run(WorkItem("bad", 7), lambda *_: None)


def test_an_endpoint_that_is_not_there_is_a_failure() -> None:
    """As of any server."""
    with pytest.raises(TransportError):
        HttpSystem("http://127.0.0.1:9/", 1.0).run(WorkItem("a", 1), lambda *_: None)


@pytest.mark.parametrize("text", ["torch:missing_module:make", "torch:json:make", "ftp://x", "x"])
def test_what_is_no_system_is_refused(text: str) -> None:
    """Before anything is measured."""
    with pytest.raises(InvalidRequest) as caught:
        open_other(text, 1.0, 1)
    assert caught.value.field == "against"


def test_turns_are_of_single_streams_alone() -> None:
    """An open loop beside another would measure both at once."""
    from bench.flags import plan_of

    words = ["bench", "run", "-o", "x", "--against", "http://x", "--load", "open"]
    with pytest.raises(InvalidRequest, match="single stream"):
        plan_of(build_parser(["bench"]).parse_args(words))
