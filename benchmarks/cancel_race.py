"""Is a cancellation ever lost, whenever it comes, and does one leave anything behind?

    python -m benchmarks.cancel_race [--races 1000] [--json FILE]

Requests that would run for many seconds are cancelled with jitter: before the first event, just
after one, in the middle, at the end, by closing the channel. Lost is one whose work still runs
`PATIENCE_S` later. Every race waits until the server's gauges are at zero; every tenth picture
afterwards is compared with the right one.
"""

import argparse
import contextlib
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.lib.record import write_record
from cascade.bundle.bundle import Bundle
from tests.support.asking import answer, asking, asking_long, differs
from tests.support.server_process import Victim, victim
from tests.support.serving import Caller, connect, pixels, results_of
from tests.support.tiny_bundle import write_tiny_bundle

PATIENCE_S = 5.0
POLL_S = 0.001
JITTER_S = 0.03


def before_the_first_event(server: Victim, caller: Caller, chance: random.Random) -> Any:
    """Cancel while the request may still be on its way."""
    call = caller.generate(asking_long(server.bundle), timeout_s=None)
    time.sleep(chance.choice((0.0, chance.random() * 0.01)))
    call.cancel()
    return call


def just_after_an_event(server: Victim, caller: Caller, chance: random.Random) -> Any:
    """Cancel in the instant in which an event arrives."""
    call = caller.generate(asking_long(server.bundle), timeout_s=None)
    for _ in range(chance.randint(1, 12)):
        next(call)
    call.cancel()
    return call


def in_the_middle(server: Victim, caller: Caller, chance: random.Random) -> Any:
    """Cancel at any time between events."""
    call = caller.generate(asking_long(server.bundle), timeout_s=None)
    next(call)
    time.sleep(chance.random() * JITTER_S)
    call.cancel()
    return call


def at_the_end(server: Victim, caller: Caller, chance: random.Random) -> Any:
    """Cancel while the last result is on its way."""
    call = caller.generate(asking(server.bundle, {"base": 1}, last_stage="base"), timeout_s=None)
    next(call)
    time.sleep(chance.random() * 0.004)
    call.cancel()
    return call


def by_closing_the_channel(server: Victim, caller: Caller, chance: random.Random) -> Any:
    """The whole connection goes away."""
    del caller
    with connect(server.address) as vanishing:
        call = vanishing.generate(asking_long(server.bundle), timeout_s=None)
        if chance.random() < 0.7:
            next(call)
    return call


MOMENTS: tuple[Callable[[Victim, Caller, random.Random], Any], ...] = (
    before_the_first_event,
    just_after_an_event,
    in_the_middle,
    at_the_end,
    by_closing_the_channel,
)


@dataclass
class Moment:
    """What was seen of one kind of race.

    Attributes:
        races: how many.
        lost: of them.
        settled_s: seconds until nothing was in the server any more.
    """

    races: int = 0
    lost: int = 0
    settled_s: list[float] = field(default_factory=list)


def settle(server: Victim) -> float | None:
    """Seconds until nothing is in the server, None if that does not come."""
    begun = time.monotonic()
    while not server.is_idle:
        if time.monotonic() - begun > PATIENCE_S:
            return None
        time.sleep(POLL_S)
    return time.monotonic() - begun


def race(server: Victim, races: int, seed: int) -> tuple[dict[str, Moment], int]:
    """All races, one after another.

    Returns:
        What was seen by moment, and how many pictures in between were wrong.
    """
    chance = random.Random(seed)
    seen = {moment.__name__: Moment() for moment in MOMENTS}
    wrong = 0
    with connect(server.address) as caller:
        for number in range(races):
            moment = MOMENTS[number % len(MOMENTS)]
            with contextlib.suppress(grpc.RpcError):
                moment(server, caller, chance)
            took_s = settle(server)
            found = seen[moment.__name__]
            found.races += 1
            if took_s is None:
                found.lost += 1
            else:
                found.settled_s.append(took_s)
            if number % 10 == 9:
                results = results_of(caller.generate(asking(server.bundle)))
                wrong += differs(pixels(results["sr32"].image), answer(server.bundle))
                settle(server)
    return seen, wrong


def measure(bundle: Bundle, races: int, seed: int) -> dict[str, Any]:
    """Figures of one run."""
    with victim(bundle) as server:
        race(server, min(races, 50), seed + 1)
        before = (server.rss_mib, server.open_files, server.threads)
        seen, wrong = race(server, races, seed)
        after = (server.rss_mib, server.open_files, server.threads)
    return {
        "races": races,
        "moments": {
            name: {
                "races": moment.races,
                "lost": moment.lost,
                "p50_ms": 1000 * float(np.percentile(moment.settled_s or [0], 50)),
                "p99_ms": 1000 * float(np.percentile(moment.settled_s or [0], 99)),
            }
            for name, moment in seen.items()
        },
        "lost": sum(moment.lost for moment in seen.values()),
        "wrong_pictures": wrong,
        "rss_mib": [before[0], after[0]],
        "open_files": [before[1], after[1]],
        "threads": [before[2], after[2]],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--races", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_tiny_bundle(Path(folder) / "bundle", slow_layers=60, steps=40)
        figures = measure(bundle, args.races, args.seed)
    print(f"{'cancelled':26} races  lost  all is idle after: p50      p99")
    for name, row in figures["moments"].items():
        print(
            f"{name.replace('_', ' '):26} {row['races']:5}  {row['lost']:4}            "
            f"{row['p50_ms']:8.1f} {row['p99_ms']:8.1f} ms"
        )
    print(f"lost {figures['lost']} of {figures['races']}, wrong {figures['wrong_pictures']}")
    for name in ("rss_mib", "open_files", "threads"):
        print(f"{name:12} {figures[name][0]:8.1f} -> {figures[name][1]:8.1f}")
    write_record(args.json, figures)


if __name__ == "__main__":
    main()
