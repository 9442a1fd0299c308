"""What goes in comes out: every request is accounted for, and memory stays where it was."""

import random
import threading
import time
from collections.abc import Callable

import grpc
import pytest

from protos.cascade.v1 import cascade_pb2 as pb
from tests.support.asking import answer, asking, differs, starts
from tests.support.mixture import expired, given_up, killed, one_of_a_mix, refused, served, torn
from tests.support.server_process import Victim
from tests.support.serving import Caller, connect, pixels, results_of, wait_until

GROWTH = 150
"""Requests per measurement of memory; `benchmarks/memory_growth.py` does 10,000."""
MIX_S = 4.0
"""Of the mixed load here; `make soak` has its minutes."""

Scenario = Callable[[Victim, Caller], None]


SCENARIOS: dict[str, Scenario] = {
    "from a prompt": served,
    "from a context": lambda s, c: served(s, c, **starts()[1]),
    "from a picture": lambda s, c: served(s, c, **starts()[2]),
    "first component only": lambda s, c: served(s, c, last_stage="text_encoder"),
    "with previews": lambda s, c: served(s, c, output=pb.OutputOptions(preview_every=1)),
    "raw": lambda s, c: served(s, c, output=pb.OutputOptions(format=pb.IMAGE_FORMAT_RAW)),
    "no start": lambda s, c: refused(s, c, prompt=None),
    "other bundle": lambda s, c: refused(s, c, bundle_id="0" * 64),
    "no id": lambda s, c: refused(s, c, request_id=""),
    "too long a prompt": lambda s, c: refused(s, c, prompt=pb.PromptStart(prompt="a" * 2000)),
    "unknown stage": lambda s, c: refused(s, c, last_stage="sr4096"),
    "cancelled before an event": lambda s, c: given_up(s, c, 0),
    "cancelled after one": lambda s, c: given_up(s, c, 1),
    "cancelled in the middle": lambda s, c: given_up(s, c, 8),
    "expired at once": lambda s, c: expired(s, c, 0.001),
    "expired in the middle": lambda s, c: expired(s, c, 0.1),
    "client killed": killed,
    "channel closed": torn,
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_leaves_the_accounts_at_zero(
    name: str, quick: Victim, quick_caller: Caller
) -> None:
    """24. After each of eighteen ways through it nothing is in the server; the next is right."""
    files = quick.open_files
    SCENARIOS[name](quick, quick_caller)
    quick.wait_until_idle()
    picture = pixels(results_of(quick_caller.generate(asking(quick.bundle)))["sr32"].image)
    assert not differs(picture, answer(quick.bundle))
    wait_until(lambda: quick.open_files <= files + 1)


def test_memory_does_not_grow_with_requests(quick: Victim, quick_caller: Caller) -> None:
    """25. After a warm-up, hundreds of mixed requests: a few MiB at most, no thread, no file."""
    chance = random.Random(25)
    for _ in range(GROWTH):
        one_of_a_mix(quick, quick_caller, chance)
    quick.wait_until_idle()
    memory, files, threads = quick.rss_mib, quick.open_files, quick.threads
    for _ in range(GROWTH):
        one_of_a_mix(quick, quick_caller, chance)
    quick.wait_until_idle()
    assert quick.rss_mib - memory < 4
    assert quick.open_files <= files + 1
    assert quick.threads <= threads + 2


def check_one(server: Victim, caller: Caller) -> list[str]:
    """What is wrong with the answer to a good request; a busy server is not."""
    try:
        results = results_of(caller.generate(asking(server.bundle)))
    except grpc.RpcError as error:
        busy = error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        return [] if busy else [str(error.code())]
    return ["pixels"] if differs(pixels(results["sr32"].image), answer(server.bundle)) else []


def test_a_mixed_load_from_many_clients(quick: Victim) -> None:
    """26. Good, cancelled, expired, malformed and dying clients at once; a sample stays right."""
    until = time.monotonic() + MIX_S
    wrong: list[str] = []

    def press(seed: int) -> None:
        chance = random.Random(seed)
        with connect(quick.address) as caller:
            while time.monotonic() < until:
                one_of_a_mix(quick, caller, chance)

    def sample() -> None:
        with connect(quick.address) as caller:
            while time.monotonic() < until:
                wrong.extend(check_one(quick, caller))

    threads = [threading.Thread(target=press, args=(seed,)) for seed in range(4)]
    threads.append(threading.Thread(target=sample))
    for thread in threads:
        thread.start()
    while time.monotonic() < until:
        with connect(quick.address) as caller:
            torn(quick, caller)
    for thread in threads:
        thread.join()
    assert wrong == []
