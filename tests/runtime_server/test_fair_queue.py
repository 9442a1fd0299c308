"""Callers share a server: its queue has a place for each, and turns go round among them."""

import threading
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from cascade.bundle.bundle import Bundle
from cascade.cost import Cost
from cascade.engines.factory import EngineChoice, open_engine
from cascade.errors import ServerBusy
from cascade.graph_spec import NET
from cascade.request import GenerateRequest, Handoff
from cascade.types import Array
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_server.admission.checks import RequestPlan
from runtime_server.auth.static_keys import hash_token, make_token
from runtime_server.batching.batch_policy import BatchLimits
from runtime_server.batching.measured_limits import MeasuredLimits
from runtime_server.batching.role_key import RoleKey
from runtime_server.runtime.forecast import Forecast
from runtime_server.runtime.job import Job, make_job
from runtime_server.runtime.job_queue import JobQueue, QueueLimits, Refused
from runtime_server.telemetry.server_events import StageEnded
from tests.support.serving import PROMPT, connect, request_message, running

BURST = 12


class Deaf:
    """Takes deliveries and keeps none."""

    def put(self, item: object) -> None:
        """Nothing."""


def job(caller: str, *, deadline: float | None = None) -> Job:
    """A request of one component."""
    cost = Cost(runs={NET: 1}, units=1, pixels=4, result_bytes=12)
    plan = RequestPlan(
        request_id="r", request=GenerateRequest(), start=Handoff(), first=0, last=0,
        costs=MappingProxyType({0: cost}), format="png",
    )  # fmt: skip
    return make_job(plan, Deaf(), deadline, caller=caller)


@pytest.fixture
def waiting() -> JobQueue:
    """A queue of two places for a component whose step takes a second."""
    limits = MeasuredLimits({RoleKey(0): BatchLimits(max_rows=1, max_bytes=1)})
    limits.learn(RoleKey(0), {1: 1.0})
    most = QueueLimits(max_queued_per_stage=2, max_in_flight=5)
    return JobQueue({0: "base"}, most, Forecast(limits, [0]))


def starts(queue: JobQueue, now: float) -> Job:
    """The next to start, which ends at once."""
    index = queue.next_index({0: 1})
    assert index is not None
    started = queue.start(index, now)
    queue.running.discard(started)
    return started


def test_a_full_queue_has_a_place_for_a_caller_who_has_none(waiting: JobQueue) -> None:
    """One; and no more than are let in at all."""
    for _ in range(2):
        assert not isinstance(waiting.admit(job("many"), {0: 1}, 0.0), Refused)
    full = waiting.admit(job("many"), {0: 1}, 0.0)
    assert isinstance(full, Refused)
    assert full.why == "queue_full"
    assert isinstance(full.error, ServerBusy)
    for caller in ("one", "two", "three"):
        assert waiting.refusal(0, caller) is None
        assert not isinstance(waiting.admit(job(caller), {0: 1}, 0.0), Refused)
        assert waiting.refusal(0, caller) is not None
    # Five are inside.
    late = waiting.refusal(0, "four")
    assert late is not None
    assert late.why == "in_flight"


def test_what_is_foretold_counts_those_who_go_first(waiting: JobQueue) -> None:
    """A newcomer stands behind one of each other caller, not behind all of them."""
    first = waiting.admit(job("many"), {0: 1}, 0.0)
    second = waiting.admit(job("many"), {0: 1}, 0.0)
    third = waiting.admit(job("one"), {0: 1}, 0.0)
    places = [(a.queue_position, a.estimated_wait_s) for a in (first, second, third)]  # type: ignore[union-attr]
    assert places == [(0, 0.0), (1, 1.0), (1, 1.0)]
    assert waiting.counts.backlog_s == pytest.approx(3.0)
    assert [starts(waiting, 0.0).caller for _ in range(3)] == ["many", "one", "many"]
    assert waiting.counts.backlog_s == 0


def test_an_idle_server_forgets_who_had_how_much(waiting: JobQueue) -> None:
    """What nobody else wanted costs a caller nothing later."""
    for _ in range(50):
        busy = job("many")
        waiting.admit(busy, {0: 1}, 0.0)
        starts(waiting, 0.0)
        waiting.admitted.discard(busy)
    waiting.admit(job("many"), {0: 1}, 0.0)
    waiting.admit(job("one"), {0: 1}, 0.1)
    assert starts(waiting, 0.1).caller == "many"


class GatedEngine:
    """The true engine, which stands still while its gate is closed."""

    gate = threading.Event()

    def __init__(self, graph: bytes, choice: EngineChoice) -> None:
        self._engine = open_engine(graph, choice)

    def run(self, inputs: Any) -> dict[str, Array]:
        """Once the gate is open."""
        assert self.gate.wait(timeout=600)
        return self._engine.run(inputs)

    def terminate(self) -> None:
        """Pass on."""
        self._engine.terminate()

    def close(self) -> None:
        """Pass on."""
        self._engine.close()


def test_one_request_beside_a_burst_waits_for_one_of_it(bundle: Bundle, tmp_path: Path) -> None:
    """Over the wire, by the names of tokens, whichever caller's burst came first."""
    many, one = make_token(), make_token()
    keys = tmp_path / "keys.toml"
    keys.write_text(f'many = "{hash_token(many)}"\none = "{hash_token(one)}"')
    ended: list[object] = []
    GatedEngine.gate.set()
    with (
        running(
            bundle, GatedEngine, ended.append, token_keys=keys, cut=0, max_queued_per_stage=BURST
        ) as server,
        connect(server.address) as caller,
    ):

        def ask(name: str, token: str) -> tuple[Any, Any]:
            message = request_message(bundle, prompt=pb.PromptStart(prompt=PROMPT), request_id=name)
            call = caller.generate(message, metadata=(("authorization", f"Bearer {token}"),))
            return call, next(call).accepted

        # Step times are known before anybody waits: what is charged is not nothing.
        list(ask("before", one)[0])
        ended.clear()
        GatedEngine.gate.clear()
        calls = [ask(f"many-{n}", many)[0] for n in range(BURST)]
        call, accepted = ask("one", one)
        GatedEngine.gate.set()
        for each in (*calls, call):
            list(each)
    order = [e.request.request_id for e in ended if isinstance(e, StageEnded) and e.stage == "sr32"]
    assert accepted.queue_position == 1
    # The first of the burst was at work when it came.
    assert order[:3] == ["many-0", "one", "many-1"]
    assert len(order) == BURST + 1
