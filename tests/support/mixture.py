"""Single requests of every fate: served, refused, given up, expired, their client killed or gone.

For the tests of accounts and for the measurements of memory. Each returns once its fate is sealed.
"""

import random
import subprocess
import sys

import grpc
import pytest

from tests.support.asking import DOOMED, LONG_STEPS, START, asking, starts
from tests.support.server_process import Victim
from tests.support.serving import Caller, connect, request_message, results_of


def served(server: Victim, caller: Caller, **fields: object) -> None:
    """One that goes well."""
    assert results_of(caller.generate(asking(server.bundle, **fields)))


def refused(server: Victim, caller: Caller, **fields: object) -> None:
    """One that is wrong."""
    message = request_message(server.bundle, **{"prompt": START, **fields})
    with pytest.raises(grpc.RpcError):
        list(caller.generate(message))


def given_up(server: Victim, caller: Caller, events: int) -> None:
    """One that is cancelled after so many events."""
    call = caller.generate(asking(server.bundle, LONG_STEPS))
    for _ in range(events):
        next(call)
    call.cancel()


def expired(server: Victim, caller: Caller, timeout_s: float) -> None:
    """One whose time is over too early."""
    with pytest.raises(grpc.RpcError) as late:
        list(caller.generate(asking(server.bundle, LONG_STEPS), timeout_s=timeout_s))
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def killed(server: Victim, caller: Caller) -> None:
    """One whose client is killed."""
    del caller
    with subprocess.Popen(
        [sys.executable, "-c", DOOMED, server.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(asking(server.bundle, LONG_STEPS).SerializeToString())
        client.stdin.close()
        client.stdout.readline()
        client.kill()


def torn(server: Victim, caller: Caller) -> None:
    """One whose channel is closed around it."""
    del caller
    with connect(server.address) as another:
        next(another.generate(asking(server.bundle, LONG_STEPS)))


def one_of_a_mix(server: Victim, caller: Caller, chance: random.Random) -> str:
    """Good, cancelled, expired or malformed, as chance has it; which one it was."""
    kind = chance.choice(("good", "cancelled", "expired", "malformed"))
    try:
        if kind == "good":
            served(server, caller, **chance.choice(starts()), seed=chance.randrange(1000))
        elif kind == "cancelled":
            given_up(server, caller, chance.randrange(6))
        elif kind == "expired":
            list(caller.generate(asking(server.bundle, LONG_STEPS), chance.random() * 0.02))
        else:
            refused(server, caller, bundle_id="0" * 64)
    except grpc.RpcError as error:
        busy = error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        return "busy" if busy else kind
    return kind
