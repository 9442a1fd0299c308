"""One server with or without replicas, called from this process; what it made and what it took.

Knows a server from outside: its calls, its counters, the processor time of its processes.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from cascade.bundle.bundle import Bundle
from protos.cascade.v1 import cascade_pb2 as pb
from tests.support.server_process import Victim, victim
from tests.support.serving import PROMPT, Caller, connect, request_message

SEEDS = 4
"""So many different pictures."""
REPLICA_TITLE = b"ray::ReplicaActor"
"""How Ray names the process of a replica."""

Check = Callable[[int, Any], None]
"""Is given each picture, an Image message, with its seed."""


class Served:
    """One server and its caller."""

    def __init__(self, bundle: Bundle, server: Victim, caller: Caller, options: Any = None) -> None:
        self._bundle, self._caller = bundle, caller
        self._options = options
        self.server = server

    def picture(self, seed: int, last: str, timeout_s: float = 600) -> tuple[float, Any]:
        """Seconds of one request, and its last picture as an Image message."""
        words = pb.PromptStart(prompt=PROMPT)
        message = request_message(
            self._bundle, prompt=words, seed=seed, last_stage=last, output=self._options
        )
        begun, image = time.perf_counter(), None
        for response in self._caller.generate(message, timeout_s=timeout_s):
            if response.WhichOneof("event") == "stage_result":
                image = response.stage_result.image
        return time.perf_counter() - begun, image

    @property
    def runs(self) -> tuple[float, float]:
        """Runs of engines so far, and the rows in them."""
        name = "cascade_batch_rows"
        return self.server.total(f"{name}_count"), self.server.total(f"{name}_sum")


@contextmanager
def served(bundle: Bundle, replicas: int, rows: str, output: Any) -> Iterator[Served]:
    """A server with so many replicas, none for its own engines.

    Args:
        bundle: what it serves.
        replicas: processes with one engine thread each.
        rows: of several requests that may share a run.
        output: OutputOptions of every request.
    """
    options = ["--threads", "1", "--max-batch-rows", rows, "--max-queued-per-stage", "64"]
    if replicas:
        options += ["--executor", "ray", "--replicas", str(replicas)]
    with victim(bundle, *options) as server, connect(server.address) as caller:
        yield Served(bundle, server, caller, output)


class Crowd:
    """Callers who ask until enough pictures came while all of them were asking.

    Counted is what comes after each caller has its first picture: until then nothing can come, and
    a replica may be new to its work. What comes after the last counted one has fewer callers
    beside it, and says less the more of them there are.
    """

    def __init__(self, callers: int, pictures: int) -> None:
        self._lock = threading.Lock()
        self._seeds = itertools.count()
        self._waiting, self._wanted = callers, pictures
        self._begun_s = self._ended_s = 0.0
        self.made: list[tuple[int, Any]] = []
        """Every picture with its seed."""
        self.seconds: list[float] = []
        """Of each counted picture."""

    def ask(self, server: Served, last: str) -> None:
        """One caller, who asks when it has a picture."""
        is_first = True
        try:
            while len(self.seconds) < self._wanted:
                seed = next(self._seeds) % SEEDS
                self._count(seed, *server.picture(seed, last), is_first=is_first)
                is_first = False
        except Exception:
            # The others would wait for its first picture for ever.
            self._wanted = 0
            raise

    def _count(self, seed: int, seconds: float, image: Any, *, is_first: bool) -> None:
        """Note a picture that came now."""
        with self._lock:
            self.made.append((seed, image))
            if self._waiting:
                self._waiting -= is_first
                self._begun_s = time.perf_counter()
            elif len(self.seconds) < self._wanted:
                self.seconds.append(seconds)
                self._ended_s = time.perf_counter()

    @property
    def pictures_per_s(self) -> float:
        """Counted pictures, over the time in which they came."""
        return len(self.seconds) / (self._ended_s - self._begun_s)


def at_once(
    servers: list[Served], last: str, clients: int, pictures: int, check: Check
) -> dict[str, float]:
    """Pictures from several callers, each of which asks when it has one.

    Args:
        servers: the callers are spread over them.
        last: component whose picture is asked for.
        clients: callers in all.
        pictures: that are counted; see `Crowd`.
        check: is given each picture.
    """
    before = [runs_and_seconds(one) for one in servers]
    crowd, own_s = Crowd(clients, pictures), time.process_time()
    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(crowd.ask, servers[n % len(servers)], last) for n in range(clients)]
    own_s = time.process_time() - own_s
    for caller in asking:
        caller.result()
    spent = [
        np.subtract(runs_and_seconds(one), was) for one, was in zip(servers, before, strict=True)
    ]
    runs, rows, door_s, replicas_s, others_s = np.sum(spent, axis=0)
    for seed, image in crowd.made:
        check(seed, image)
    made = len(crowd.made)
    return {
        "pictures_per_s": crowd.pictures_per_s,
        "p50_s": float(np.percentile(crowd.seconds, 50)),
        "p99_s": float(np.percentile(crowd.seconds, 99)),
        "rows_per_run": float(rows / runs) if runs else float("nan"),
        "server_cpu_s": float(door_s / made),
        "replicas_cpu_s": float(replicas_s / made),
        "ray_cpu_s": float(others_s / made),
        "callers_cpu_s": own_s / made,
    }


def overload(
    server: Served, last: str, rate: float, seconds: float, check: Check
) -> dict[str, float]:
    """Requests at a fixed rate; pictures delivered per second until the last of them came."""
    delivered, refused, failed = [0.0], itertools.count(), itertools.count()
    lock = threading.Lock()

    def one(seed: int) -> None:
        try:
            image = server.picture(seed, last)[1]
        except grpc.RpcError as exc:
            next(refused if exc.code() is grpc.StatusCode.RESOURCE_EXHAUSTED else failed)
            return
        check(seed, image)
        with lock:
            delivered.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    with ThreadPoolExecutor(256) as pool:
        for number in range(int(rate * seconds)):
            time.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            pool.submit(one, number % SEEDS)
    return {
        "sent_per_s": rate,
        "delivered_per_s": (len(delivered) - 1) / max(delivered),
        "refused": next(refused),
        "failed": next(failed),
    }


def runs_and_seconds(one: Served) -> tuple[float, float, float, float, float]:
    """Runs, rows, and processor seconds of the server, of its replicas and of what is below it."""
    pid = one.server.process.pid
    by_kind = {"server": 0.0, "replicas": 0.0, "others": 0.0}
    for child in (pid, *descendants(pid)):
        found = process_times(child)
        if found is not None:
            name, seconds = found
            is_replica = name.startswith(REPLICA_TITLE)
            by_kind["server" if child == pid else "replicas" if is_replica else "others"] += seconds
    return (*one.runs, by_kind["server"], by_kind["replicas"], by_kind["others"])


def process_times(pid: int) -> tuple[bytes, float] | None:
    """Command line and processor seconds of a process; None where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        name = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    return name, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> set[int]:
    """Every process below this one."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with_parent = parent_of(entry)
            if with_parent is not None:
                parents[int(entry.name)] = with_parent
    found: set[int] = set()
    new = {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def parent_of(entry: Path) -> int | None:
    """The parent of a process in /proc; None where it has ended."""
    try:
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def hop(own: Served, other: Served, last: str, requests: int) -> dict[str, float]:
    """Milliseconds of a request to each, in turns; the first three are not counted.

    Besides medians the tenth percentiles, in which other programs of the machine count for less.
    """
    taken = [
        (own.picture(number, last)[0], other.picture(number, last)[0])
        for number in range(requests + 3)
    ][3:]
    local, remote = 1000 * np.median(np.array(taken), axis=0)
    least = 1000 * np.percentile(np.array(taken), 10, axis=0)
    return {
        "local_ms": float(local),
        "replica_ms": float(remote),
        "added_ms": float(remote - local),
        "added_p10_ms": float(least[1] - least[0]),
    }
