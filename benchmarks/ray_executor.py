"""What do replicas in a Ray cluster cost and bring, against engines in the server's process?

    python -m benchmarks.ray_executor [--bundle DIR] [--requests 40] [--pictures 12]
                                      [--clients 1,2,4,8,16,32] [--seconds 8] [--format png]
                                      [--json FILE]

Needs the extra `ray`. Servers with one engine thread each, in processes of their own.
First a server with its engines in itself beside one with one replica, a request to each in turns:
what a hop adds, for a first component (a few kB) and for the last picture. Then one replica and
two, for each number of callers: pictures per second, seconds of a picture, rows in a run, and the
processor seconds of a picture in the server, in its replicas, in Ray's own processes and in the
callers, who are threads of this process and take their part of the same cores. Counted are pictures
that came while all callers were asking, after each had one: the last pictures of a few callers
leave replicas idle, and said more of their number than of the replicas. Beside it
the same for one server without replicas and for two such servers with half of the callers each:
the second is all that this machine can do. Last, five times the capacity of two replicas for some
seconds: pictures delivered per second, over the capacity. Every picture is compared with the first
of its seed. `--format raw` leaves out the encoding, which is the server's work beside its replicas.
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.lib.record import write_record
from benchmarks.lib.replica_load import Check, Served, at_once, hop, overload, served
from cascade.bundle.bundle import Bundle, open_bundle
from protos.cascade.v1 import cascade_pb2 as pb
from tests.support.asking import differs
from tests.support.serving import pixels

CLIENTS = (1, 2, 4, 8, 16, 32)
OVERLOAD = 5
ROWS = "4"
"""That may share a run: a fixed number, since a measured one differs from server to server."""
ONE_SERVER, TWO_SERVERS, ONE, TWO = "1 server", "2 servers", "1 replica", "2 replicas"
"""Engines in the servers' own processes, and in replicas of one server."""
FORMATS = {
    "png": pb.IMAGE_FORMAT_PNG,
    "webp": pb.IMAGE_FORMAT_WEBP,
    "raw": pb.IMAGE_FORMAT_RAW,
}
COLUMNS = (
    ("pictures_per_s", "pictures/s", 10, 2),
    ("p50_s", "p50 s", 7, 2),
    ("p99_s", "p99 s", 7, 2),
    ("rows_per_run", "rows", 6, 2),
    ("server_cpu_s", "server cpu s", 13, 3),
    ("replicas_cpu_s", "replicas", 9, 3),
    ("ray_cpu_s", "ray", 6, 3),
    ("callers_cpu_s", "callers", 8, 3),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """How much is asked for."""

    requests: int = 40
    """For the hop to the first component; a quarter to the last."""
    pictures: int = 12
    """Counted at least, for each number of callers, who make some more."""
    clients: tuple[int, ...] = CLIENTS
    """Callers at once."""
    seconds: float = 8.0
    """Of the overload."""
    format: str = "png"
    """Of the pictures."""


class Compared:
    """Pictures against the first of their seed."""

    def __init__(self) -> None:
        self._first: dict[int, Any] = {}
        self.wrong = 0

    def check(self, seed: int, image: Any) -> None:
        """Count a picture that is another one; rows that share runs may change it by rounding."""
        first = self._first.setdefault(seed, image)
        if first.data != image.data and differs(pixels(first), pixels(image)):
            self.wrong += 1


def measure(bundle: Bundle, sizes: Sizes) -> dict[str, Any]:
    """Everything."""
    names = [component.name for component in bundle.manifest.components]
    compared = Compared()
    check = compared.check
    figures: dict[str, Any] = {"load": os.getloadavg()[0], "hop": {}}
    with every_group(bundle, pb.OutputOptions(format=FORMATS[sizes.format])) as groups:
        for servers in groups.values():
            # As many callers as replicas: an idle one is taken before a busy one.
            at_once(servers, names[-1], 2 * len(servers), 2 * len(servers), check)
        (own,), (other,), (two,) = (groups[name] for name in (ONE_SERVER, ONE, TWO))
        for last, count in ((names[0], sizes.requests), (names[-1], max(5, sizes.requests // 4))):
            figures["hop"][last] = hop(own, other, last, count)
        figures["table"] = table(groups, names[-1], sizes, check)
        capacity = max(row["pictures_per_s"] for row in figures["table"][TWO].values())
        figures["overload"] = overload(two, names[-1], OVERLOAD * capacity, sizes.seconds, check)
        figures["overload"]["capacity_per_s"] = capacity
    figures["wrong_pictures"] = compared.wrong
    return figures


@contextmanager
def every_group(bundle: Bundle, output: Any) -> Iterator[dict[str, list[Served]]]:
    """Everything that is compared, all of it ready."""
    with ExitStack() as stack:
        made = [stack.enter_context(served(bundle, count, ROWS, output)) for count in (0, 0, 1, 2)]
        yield {ONE_SERVER: made[:1], TWO_SERVERS: made[:2], ONE: [made[2]], TWO: [made[3]]}


def table(
    groups: dict[str, list[Served]], last: str, sizes: Sizes, check: Check
) -> dict[str, dict[int, dict[str, float]]]:
    """Rates and processor times, by what serves and by the number of callers.

    What serves takes turns, so that a slow minute of the machine is one of all.
    """
    found: dict[str, dict[int, dict[str, float]]] = {name: {} for name in groups}
    for number in sizes.clients:
        for name, servers in groups.items():
            # Rows that share a run come together: of few pictures, one run more would be much.
            count = max(sizes.pictures, 3 * number)
            found[name][number] = at_once(servers, last, number, count, check)
    return found


def show(figures: dict[str, Any]) -> None:
    """Print what was measured."""
    print(f"load {figures['load']:.1f}; medians")
    for stage, row in figures["hop"].items():
        print(
            f"to {stage:<14} local {row['local_ms']:8.2f} ms  replica {row['replica_ms']:8.2f} ms"
            f"  added {row['added_ms']:6.2f} ms, {row['added_p10_ms']:.2f} at the 10th percentile"
        )
    rows = figures["table"]
    print(f"{'at once':>7}  {'':10}" + "".join(f"{title:>{wide}}" for _, title, wide, _ in COLUMNS))
    for number in next(iter(rows.values())):
        for name, by_number in rows.items():
            cells = (f"{by_number[number][key]:{wide}.{n}f}" for key, _, wide, n in COLUMNS)
            print(f"{number:7}  {name:10}" + "".join(cells))
        rate = {name: by_number[number]["pictures_per_s"] for name, by_number in rows.items()}
        print(
            f"{'':9}{TWO} x{rate[TWO] / rate[ONE]:.2f} of one, "
            f"{TWO_SERVERS} x{rate[TWO_SERVERS] / rate[ONE_SERVER]:.2f}"
        )
    over = figures["overload"]
    share = over["delivered_per_s"] / over["capacity_per_s"]
    print(
        f"sent {over['sent_per_s']:.1f}/s, delivered {over['delivered_per_s']:.2f}/s of "
        f"{over['capacity_per_s']:.2f}/s: {share:.0%}, refused {over['refused']}, "
        f"failed {over['failed']}"
    )
    print(f"wrong pictures: {figures['wrong_pictures']}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument("--requests", type=int, default=40)
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--clients", default=",".join(map(str, CLIENTS)))
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--format", choices=FORMATS, default="png")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sizes = Sizes(
        requests=args.requests,
        pictures=args.pictures,
        clients=tuple(int(number) for number in args.clients.split(",")),
        seconds=args.seconds,
        format=args.format,
    )
    figures = measure(open_bundle(args.bundle), sizes)
    show(figures)
    write_record(args.json, figures)


if __name__ == "__main__":
    main()
