"""What else would take how much longer than a stage of pixels by groups?

    python -m benchmarks.pixel_speed [--stage px128] [--rounds 5] [--raster 32] [--requests 8]
                                     [--json FILE]

Three tables of one run. Ways: one stage as it is, decided as the first prototype did, and its
networks in torch eager. Orders: a raster inside subscale slices against four groups, one small
network. Served: requests at once against one at a time, of a server in this process that joins
their passes. Networks of random exact weights. Milliseconds of processor time of one thread
(served: of the clock); medians after one picture that is not counted; ways are timed in turns.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.lib.picture_parts import PictureParts
from benchmarks.lib.pixel_ways import preset_stage, small_stage
from benchmarks.lib.prototype_pixels import PrototypePictures
from benchmarks.lib.record import write_record
from cascade.pixels.order import checkerboard, subscale_raster
from cascade.pixels.pictures import Pictures
from cascade.request import GenerateRequest
from runtime_client import Client
from runtime_server.telemetry.server_events import EngineRan, ServerEvent
from stages.pixel_presets import PIXEL_PRESETS, PixelPreset
from tests.support.pixel_bundle import write_pixel_bundle
from tests.support.serving import running

Row = dict[str, Any]


def medians(found: list[PictureParts]) -> Row:
    """Milliseconds by part, and the host's share, without the first picture."""
    counted = found[1:]
    parts = {p: statistics.median(f.parts[p] for f in counted) for p in ("body", "heads", "host")}
    share = statistics.median(f.parts["host"] / f.total for f in counted)
    total = statistics.median(f.total for f in counted)
    return {
        **{f"{part} ms": round(value, 2) for part, value in parts.items()},
        "all ms": round(total, 2),
        "host share": round(share, 3),
    }


def of_ways(preset: PixelPreset, rounds: int) -> list[Row]:
    """One stage in three ways, in turns, and how many times longer each takes than the first."""
    stage = preset_stage(preset)
    ways = {
        "this family": (Pictures, stage.engines),
        "prototype": (PrototypePictures, stage.engines),
        "torch eager": (Pictures, stage.eager),
    }
    found: dict[str, list[PictureParts]] = {}
    for _ in range(rounds + 1):
        for name, (kind, engines) in ways.items():
            found.setdefault(name, []).append(stage.picture(kind, engines))
    rows = [
        {"way": name, "stage": preset.name, "passes": preset.passes} | medians(found[name])
        for name in ways
    ]
    return [row | {"times": round(row["all ms"] / rows[0]["all ms"], 2)} for row in rows]


def of_orders(size: int, rounds: int) -> list[Row]:
    """A raster inside subscale slices against four groups: one small network, no parent."""
    orders = {
        "four groups": small_stage(checkerboard(4, 4), size),
        "subscale raster": small_stage(subscale_raster(size, 4), size),
    }
    rows = []
    for name, stage in orders.items():
        found = [stage.picture(Pictures, stage.engines) for _ in range(rounds + 1)]
        rows.append({"order": name, "size": size, "passes": stage.scheme.passes} | medians(found))
    return [row | {"times": round(row["all ms"] / rows[0]["all ms"], 1)} for row in rows]


class SharedRuns:
    """How many rows the server's runs had, one request at a time and several at once."""

    def __init__(self) -> None:
        self.at_once = 1
        self.rows: dict[int, list[int]] = defaultdict(list)

    def note(self, event: ServerEvent) -> None:
        """Count a run of an engine."""
        if isinstance(event, EngineRan):
            self.rows[self.at_once].append(len(event.requests))


def of_server(requests: int, rounds: int) -> list[Row]:
    """Pictures per second of one request at a time and of `requests` at once.

    Beside them the processor time of a picture, of client and server together, and the rows of a
    run: they change less with what else the machine does.
    """
    runs = SharedRuns()
    spent: dict[int, list[tuple[float, float]]] = {1: [], requests: []}
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_pixel_bundle(Path(folder) / "bundle", slow_layers=4, guidance_16=16)
        with (
            running(
                bundle, listen=f"unix:{folder}/s", cut=0, max_batch_rows="8", emit=runs.note
            ) as server,
            Client(bundle, server=server.address, cut=0) as client,
            ThreadPoolExecutor(requests) as pool,
        ):
            asked = [GenerateRequest(prompt="a red apple", seed=seed) for seed in range(requests)]
            client.run(asked[0])
            for _ in range(rounds):
                made = []
                for runs.at_once, each in ((1, map), (requests, pool.map)):
                    clock, processor = time.perf_counter(), time.process_time()
                    made.append([found.image.tobytes() for found in each(client.run, asked)])
                    times = time.perf_counter() - clock, time.process_time() - processor
                    spent[runs.at_once].append(times)
                if made[0] != made[1]:
                    raise SystemExit("a picture depends on the requests beside it")
    clocks, processors = (
        {n: statistics.median(times[part] for times in found) for n, found in spent.items()}
        for part in (0, 1)
    )
    return [
        {
            "at once": n,
            "pictures per s": round(requests / clocks[n], 2),
            "times": round(clocks[1] / clocks[n], 2),
            "cpu ms": round(1000 * processors[n] / requests, 1),
            "rows a run": round(statistics.mean(runs.rows[n]), 2),
        }
        for n in spent
    ]


def show(title: str, rows: list[Row]) -> None:
    """Print one table."""
    print(f"\n{title}")
    print("  ".join(f"{name:>15}" for name in rows[0]), flush=True)
    for row in rows:
        print("  ".join(f"{value!s:>15}" for value in row.values()), flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--stage", default="px128", help="of `cascade train`")
    parser.add_argument("--rounds", type=int, default=5, help="pictures of each")
    parser.add_argument("--raster", type=int, default=32, help="height of the raster's picture")
    parser.add_argument("--requests", type=int, default=8, help="at once, to the server")
    parser.add_argument("--json", type=Path, default=None, help="where the figures go")
    args = parser.parse_args()
    tables: dict[str, list[Row]] = {}
    for title, measured in (
        ("orders", lambda: of_orders(args.raster, args.rounds)),
        ("served", lambda: of_server(args.requests, args.rounds)),
        ("ways", lambda: of_ways(PIXEL_PRESETS[args.stage], args.rounds)),
    ):
        tables[title] = measured()
        show(title, tables[title])
    write_record(args.json, tables)


if __name__ == "__main__":
    main()
