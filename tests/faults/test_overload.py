"""More work than there is time for: refusals, deadlines, slow readers, floods of calls."""

import socket
import statistics
import threading
import time
from typing import Any

import grpc
import pytest

from cascade.bundle.bundle import Bundle
from protos.cascade.v1 import cascade_pb2 as pb
from tests.faults.test_cancelling import SHALLOW, running_call
from tests.support.asking import LITTLE, LONG_STEPS, answer, asking, asking_long, differs
from tests.support.server_process import Victim, victim
from tests.support.serving import Caller, connect, details_of, pixels, results_of, wait_until

RESETS = 3000
MAX_WAITING_BETWEEN = 2
"""The server's default."""
SHARING = 4
"""Rows of the shared server that run a component together."""
IDLE_CONNECTIONS = 200
"""The server holds a descriptor for each; `ulimit -n` is often 1024."""


def refusal(call: Any) -> tuple[str, str, str, float | None]:
    """Code, reason, field and delay of a call that must fail."""
    with pytest.raises(grpc.RpcError) as refused:
        list(call)
    return details_of(refused.value)


def test_a_deadline_ends_work_at_a_step(slow: Victim, slow_caller: Caller) -> None:
    """5. Shorter than the execution: DEADLINE_EXCEEDED on time, and the steps stop."""
    request = asking_long(slow.bundle)
    before = slow.steps_done()
    assert refusal(slow_caller.generate(request, timeout_s=0.5))[0] == "DEADLINE_EXCEEDED"
    slow.wait_until_idle()
    assert slow.steps_done() - before < LITTLE


def test_what_would_be_late_is_refused_at_once(shared: Victim, shared_caller: Caller) -> None:
    """5. Shorter than the estimate: refused before any step, with the time that it would take."""
    # What was measured long ago counts little.
    short = {"base": 1, "sr16": 1, "sr32": 1}
    assert results_of(shared_caller.generate(asking(shared.bundle, short)))
    before = shared.steps_done()
    code, reason, _, retry_s = refusal(
        shared_caller.generate(asking_long(shared.bundle), timeout_s=3)
    )
    assert (code, reason) in (
        ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
        ("RESOURCE_EXHAUSTED", "SERVER_BUSY"),
    )
    assert shared.steps_done() == before
    assert retry_s is None or retry_s > 0


def test_a_waiting_deadline_is_answered_on_time(slow: Victim, slow_caller: Caller) -> None:
    """6. While the worker is busy ten times longer: the answer comes at the deadline, not after."""
    busy = running_call(slow_caller, asking_long(slow.bundle))
    code = refusal(slow_caller.generate(asking(slow.bundle), timeout_s=0.3))[0]
    assert code in ("DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
    assert busy.is_active()
    wait_until(lambda: slow.queued()["text_encoder"] == 0)
    assert busy.is_active()
    busy.cancel()


def test_a_queue_holds_its_limit_and_not_one_more(slow: Victim, slow_caller: Caller) -> None:
    """8. Two may wait, the third is RESOURCE_EXHAUSTED with RetryInfo; a free place is taken."""
    calls = [running_call(slow_caller, asking_long(slow.bundle))]
    for _ in range(2):
        calls.append(slow_caller.generate(asking_long(slow.bundle), timeout_s=None))
        assert next(calls[-1]).WhichOneof("event") == "accepted"
    assert slow.queued()["text_encoder"] == 2
    code, reason, _, retry_s = refusal(slow_caller.generate(asking_long(slow.bundle)))
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "SERVER_BUSY")
    assert retry_s is not None
    assert retry_s > 0
    calls.pop().cancel()
    wait_until(lambda: slow.queued()["text_encoder"] == 1)
    calls.append(slow_caller.generate(asking_long(slow.bundle), timeout_s=None))
    assert next(calls[-1]).WhichOneof("event") == "accepted"
    for call in calls:
        call.cancel()


def test_the_urgent_goes_first_and_nobody_starves(slow: Victim, slow_caller: Caller) -> None:
    """8. The earlier deadline overtakes the queue; the one without a deadline is served."""
    order: list[str] = []
    steps = {"base": 1, "sr16": 1, "sr32": 8}

    def ask(name: str, timeout_s: float | None) -> None:
        with connect(slow.address) as caller:
            assert results_of(caller.generate(asking(slow.bundle, steps), timeout_s=timeout_s))
        order.append(name)

    busy = running_call(slow_caller, asking_long(slow.bundle))
    patient = threading.Thread(target=ask, args=("patient", None))
    urgent = threading.Thread(target=ask, args=("urgent", 20))
    for number, thread in enumerate((patient, urgent), start=1):
        thread.start()
        wait_until(lambda: slow.gauge("queue_depth") == number)  # noqa: B023 - asked at once
    busy.cancel()
    for thread in (patient, urgent):
        thread.join()
    assert order == ["urgent", "patient"]


def test_overload_refuses_quickly_and_recovers(slow_bundle: Bundle) -> None:
    """7. Five times what it can do for 3 s: served ones right, refusals quick, then normal.

    A busy machine presses on until it has seen enough of both.
    """
    steps = (("base", 1), ("sr16", 4), ("sr32", 4))
    truth = answer(slow_bundle, 0, steps)
    refused_s: list[float] = []
    served_s: list[float] = []
    with victim(slow_bundle, "--max-queued-per-stage", "4") as server:
        before = server.rss_mib
        begun_all = time.monotonic()

        def goes_on() -> bool:
            seen_enough = len(served_s) > 3 and len(refused_s) > 10
            return time.monotonic() - begun_all < (3 if seen_enough else 60)

        def press() -> None:
            with connect(server.address) as caller:
                while goes_on():
                    begun = time.monotonic()
                    try:
                        results = results_of(caller.generate(asking(slow_bundle, dict(steps))))
                    except grpc.RpcError as error:
                        assert details_of(error)[0] == "RESOURCE_EXHAUSTED"  # noqa: PT017
                        refused_s.append(time.monotonic() - begun)
                        time.sleep(0.02)
                        continue
                    assert not differs(pixels(results["sr32"].image), truth)
                    served_s.append(time.monotonic() - begun)

        threads = [threading.Thread(target=press) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(served_s) > 3
        assert len(refused_s) > 10
        # The clients' machine is as busy as the server: `benchmarks.overload` has milliseconds.
        assert statistics.median(refused_s) < statistics.median(served_s)
        server.wait_until_idle()
        assert server.rss_mib - before < 60
        with connect(server.address) as caller:
            picture = pixels(
                results_of(caller.generate(asking(slow_bundle, dict(steps))))["sr32"].image
            )
            assert not differs(picture, truth)


def test_a_slow_reader_loses_previews_never_the_result(quick: Victim) -> None:
    """9. A client that does not read for a while gets fewer previews and its right picture."""
    steps = (("base", 1), ("sr16", 1000), ("sr32", 1000))
    output = pb.OutputOptions(preview_every=1)
    request = asking(quick.bundle, dict(steps), output=output)
    before = quick.rss_mib
    with grpc.insecure_channel(quick.address, SHALLOW) as channel, connect(quick.address) as other:
        call = Caller(channel).generate(request, timeout_s=300)
        assert next(call).WhichOneof("event") == "accepted"
        # Nothing is read until a duplicate that came later is through, and so are this one's steps.
        duplicate = asking(quick.bundle, dict(steps))
        assert results_of(other.generate(duplicate, timeout_s=300))
        assert quick.rss_mib - before < 40
        responses = list(call)
    kinds = [response.WhichOneof("event") for response in responses]
    assert kinds.count("preview") < 1000
    assert kinds[-1] == "done"
    picture = pixels(results_of(responses)["sr32"].image)
    assert not differs(picture, answer(quick.bundle, 0, steps))


def test_between_stages_little_waits(shared: Victim) -> None:
    """10. A quick stage before a slow one: what waits between them stays within its bound.

    Nobody begins the quick one while more than the limit wait for the slow one; those that share
    its run by then may still come to wait. The rule itself is tested where it is written.
    """
    steps = {"base": 1, "sr16": 1, "sr32": 12}
    most = 0

    def ask() -> None:
        with connect(shared.address) as caller:
            assert results_of(caller.generate(asking(shared.bundle, steps), timeout_s=300))

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, int(shared.total("cascade_queue_depth", stage="sr32")))
    assert most <= MAX_WAITING_BETWEEN + SHARING


def test_a_rapid_reset_holds_nothing(quick: Victim) -> None:
    """23. Three thousand calls opened and reset: other callers are answered, nothing stays."""
    message = asking(quick.bundle, LONG_STEPS).SerializeToString()
    files, memory = quick.open_files, quick.rss_mib
    with connect(quick.address) as attacker, connect(quick.address) as other:
        for number in range(RESETS):
            attacker.generate(message).cancel()
            if number % 300 == 0:
                # Answered before its deadline, while all resets so far are on their way.
                assert other.server_info().components
    quick.wait_until_idle()
    wait_until(lambda: quick.open_files <= files + 1)
    assert quick.rss_mib - memory < 60


def test_idle_connections_cost_little(quick: Victim, quick_caller: Caller) -> None:
    """23. Hundreds of connections that say nothing: others are served, closed ones forgotten."""
    files, memory = quick.open_files, quick.rss_mib
    host, _, port = quick.address.rpartition(":")
    crowd = [socket.create_connection((host, int(port))) for _ in range(IDLE_CONNECTIONS)]
    wait_until(lambda: quick.open_files >= files + IDLE_CONNECTIONS)
    picture = pixels(results_of(quick_caller.generate(asking(quick.bundle)))["sr32"].image)
    assert not differs(picture, answer(quick.bundle))
    assert quick.rss_mib - memory < 100
    for one in crowd:
        one.close()
    wait_until(lambda: quick.open_files <= files + 2)


def test_much_metadata_is_refused(quick_caller: Caller) -> None:
    """23. Ten kilobytes pass or are refused by the transport, a megabyte is refused; both typed."""
    call = quick_caller.channel.unary_unary("/cascade.v1.CascadeService/GetServerInfo")
    for size in (10_000, 1_000_000):
        try:
            call(b"", metadata=(("x-junk", "j" * size),), timeout=60)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED  # noqa: PT017
        else:
            assert size < 20_000
    assert quick_caller.server_info().components
