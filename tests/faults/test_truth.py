"""What the server tells its operator is what happened."""

from collections import Counter
from typing import Any

import grpc

from cascade.bundle.bundle import Bundle
from tests.faults.test_cancelling import running_call
from tests.support.asking import asking, asking_long
from tests.support.server_process import BRIEFLY, Victim, victim
from tests.support.serving import Caller, connect, request_message, wait_until


def ends(call: Any) -> str:
    """The code that a call ends with."""
    try:
        list(call)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


class Script:
    """A scripted load, and the truth about it."""

    def __init__(self, server: Victim, caller: Caller) -> None:
        self.server = server
        self.caller = caller
        self.codes: Counter[str] = Counter()
        self.bytes_in = 0
        self.bytes_out = 0

    def good(self, count: int) -> None:
        """Requests that are served."""
        for _ in range(count):
            request = asking(self.server.bundle)
            responses = list(self.caller.generate(request))
            self.bytes_in += request.ByteSize()
            self.bytes_out += sum(response.ByteSize() for response in responses)
            self.codes["OK"] += 1

    def invalid(self, count: int) -> None:
        """Requests without a start."""
        for _ in range(count):
            code = ends(self.caller.generate(request_message(self.server.bundle)))
            assert code == "INVALID_ARGUMENT"
            self.codes["InvalidArgument"] += 1

    def stopped(self) -> None:
        """One that runs, two that wait, one too many; then all are cancelled."""
        bundle = self.server.bundle
        running = running_call(self.caller, asking_long(bundle))
        waiting = [self.caller.generate(asking_long(bundle), timeout_s=None) for _ in range(2)]
        assert [next(call).WhichOneof("event") for call in waiting] == ["accepted"] * 2
        assert self.server.gauge("in_flight") == 3
        assert ends(self.caller.generate(asking_long(bundle))) == "RESOURCE_EXHAUSTED"
        for call in waiting:
            call.cancel()
        wait_until(lambda: self.server.gauge("in_flight") == 1)
        running.cancel()
        self.codes["ResourceExhausted"] += 1
        self.codes["Canceled"] += 3

    def late(self, count: int) -> None:
        """Requests whose time is over while they run."""
        for _ in range(count):
            code = ends(self.caller.generate(asking_long(self.server.bundle), timeout_s=0.4))
            assert code == "DEADLINE_EXCEEDED"
            self.codes["DeadlineExceeded"] += 1


def counters(server: Victim) -> dict[str, float]:
    """The counters of calls by code, and of refusals and early ends."""
    method = {"grpc_method": "Generate"}
    found = {
        code: server.total("grpc_server_handled_total", grpc_code=code, **method)
        for code in ("OK", "InvalidArgument", "ResourceExhausted", "Canceled", "DeadlineExceeded")
    }
    found["started"] = server.total("grpc_server_started_total", **method)
    found["entered"] = server.total("cascade_requests_total")
    for reason in ("invalid", "queue_full"):
        found[reason] = server.total("cascade_refused_total", reason=reason)
    for where in ("queue", "running"):
        for code in ("Canceled", "DeadlineExceeded"):
            name = f"{where} {code}"
            found[name] = server.total("cascade_stopped_total", where=where, code=code)
    return found


def test_the_counters_tell_the_truth(slow_bundle: Bundle) -> None:
    """32. After a scripted load every counter is what the script did, with reasons and bytes."""
    options = ("--max-queued-per-stage", "2", "--max-running", "1", "--no-refuse-late")
    with victim(slow_bundle, *options, *BRIEFLY) as server, connect(server.address) as caller:
        script = Script(server, caller)
        script.good(4)
        served = counters(server)
        moved = [
            server.total("cascade_message_bytes_total", direction=way) for way in ("in", "out")
        ]
        script.invalid(3)
        script.stopped()
        server.wait_until_idle()
        script.late(2)
        server.wait_until_idle()
        wait_until(lambda: counters(server)["DeadlineExceeded"] == 2)
        found = counters(server)
    assert served["OK"] == served["started"] == served["entered"] == 4
    assert {code: found[code] for code in script.codes} == dict(script.codes)
    assert found["started"] == script.codes.total()
    assert found["entered"] == 4 + 3 + 2
    assert found["invalid"] == 3
    assert found["queue_full"] == 1
    assert found["queue Canceled"] == 2
    assert found["running Canceled"] == 1
    assert found["running DeadlineExceeded"] + found["queue DeadlineExceeded"] == 2
    assert moved == [script.bytes_in, script.bytes_out]
