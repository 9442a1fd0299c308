"""Health per component: NOT_SERVING when its engine fails again and again, back when it works."""

import threading
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cascade.bundle.bundle import Bundle
from cascade.engines.factory import EngineChoice, open_engine
from cascade.errors import EngineError
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_server.batching.role_key import RoleKey
from runtime_server.runtime.stage_health import StageHealth
from tests.support.serving import (
    PROMPT,
    Caller,
    connect,
    request_message,
    results_of,
    running,
    wait_until,
)

SERVICE = "cascade.v1.CascadeService"


class FailingEngine:
    """A true engine that fails while an event is set."""

    def __init__(self, graph: bytes, choice: EngineChoice, fails: threading.Event) -> None:
        self._engine = open_engine(graph, choice)
        self._fails = fails
        self.inputs, self.outputs = self._engine.inputs, self._engine.outputs

    def run(self, inputs: Any) -> Any:
        """Run, or fail."""
        if self._fails.is_set():
            raise EngineError("out of memory, say")
        return self._engine.run(inputs)

    def terminate(self) -> None:
        """Pass it on."""
        self._engine.terminate()

    def close(self) -> None:
        """Pass it on."""
        self._engine.close()


def states(caller: Caller, *stages: str) -> list[str]:
    """The whole, the service, and these components, as health checks are told."""
    stub = health_pb2_grpc.HealthStub(caller.channel)
    names = ["", SERVICE, *(f"{SERVICE}/{stage}" for stage in stages)]
    numbers = [
        stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=120).status
        for name in names
    ]
    return [str(health_pb2.HealthCheckResponse.ServingStatus.Name(n)) for n in numbers]


def test_a_component_that_keeps_failing_is_not_serving_until_it_works(bundle: Bundle) -> None:
    """It is tried with dummy inputs; the others go on, and so do requests that do not need it."""
    broken = threading.Event()
    graph = bundle.read(bundle.manifest.components[3].graph.file)

    def make_engine(data: bytes, choice: EngineChoice) -> FailingEngine:
        return FailingEngine(data, choice, broken if data == graph else threading.Event())

    settings = {"stage_failures_in_row": 2, "stage_probe_s": 0.2}
    with (
        running(bundle, make_engine, **settings) as server,
        connect(server.address) as caller,
    ):
        message = request_message(bundle, prompt=pb.PromptStart(prompt=PROMPT))
        assert states(caller, "sr16", "sr32") == ["SERVING"] * 4
        broken.set()
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as failed:
                list(caller.generate(message))
            assert failed.value.code() is grpc.StatusCode.INTERNAL
        expected = ["NOT_SERVING", "NOT_SERVING", "SERVING", "NOT_SERVING"]
        wait_until(lambda: states(caller, "sr16", "sr32") == expected)
        assert not server.server.is_ready
        partial = request_message(
            bundle, request_id="part", prompt=pb.PromptStart(prompt=PROMPT), last_stage="sr16"
        )
        assert len(results_of(caller.generate(partial))) == 3
        broken.clear()
        wait_until(lambda: states(caller, "sr16", "sr32") == ["SERVING"] * 4)
        assert server.server.is_ready
        assert len(results_of(caller.generate(message))) == 4
        wait_until(lambda: server.is_at_rest)


def test_only_a_components_own_failures_in_a_row_count() -> None:
    """Not what was cancelled, late or wrong; one success begins the count anew."""
    health, net = StageHealth(2), RoleKey(1)
    for code in ("INTERNAL", "CANCELLED", "CANCELLED", "DEADLINE_EXCEEDED"):
        health.failed(net, code)
    assert health.works(1)
    health.succeeded(1)
    health.failed(net, "INTERNAL")
    assert health.works(1)
    health.failed(net, "INTERNAL")
    assert not health.works(1)
    assert health.works(2)
    health.succeeded(1)
    assert health.works(1)


def test_each_engine_of_a_component_has_failures_of_its_own() -> None:
    """Two that failed once each are no two in a row; one that keeps failing is the component's."""
    health = StageHealth(2)
    health.failed(RoleKey(1, "encoder"), "INTERNAL")
    health.failed(RoleKey(1, "decoder"), "INTERNAL")
    assert health.works(1)
    health.failed(RoleKey(1, "decoder"), "INTERNAL")
    assert not health.works(1)
