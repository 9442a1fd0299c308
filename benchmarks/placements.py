"""What does each placement of components cost in bytes and seconds, and is it one picture?

    python -m benchmarks.placements [--bundle DIR] [--steps STAGE=N ...] [--every] [--json FILE]

Two servers of every component, each a process on loopback, and a client. A placement says which
components run in the client; the others go to the two servers in turn. `--every` tries all three
places for each component. Every placement makes a picture of another prompt first, to warm up.
Seconds leave out the loading; bytes are those of messages.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from benchmarks.lib.record import write_record
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.request import GenerateRequest
from runtime_client.cli.picture_metadata import pixels_digest
from runtime_client.client import Client
from tests.support.server_process import victim
from tests.support.tiny_bundle import write_tiny_bundle

PROMPT = "a red apple, noto style"
HERE = "here"


@dataclass(frozen=True, kw_only=True)
class PlacementTrial:
    """One placement, measured."""

    places: str
    """A letter for each component, in order."""
    calls: int
    bytes_up: int
    bytes_down: int
    seconds: float
    """Without loading."""
    wire_s: float
    """Of them, not in a component and not in a queue."""
    pixels: str


def halves(count: int, servers: Sequence[str]) -> Iterator[list[str]]:
    """Every choice of components that run here; the others on the servers in turn."""
    for here in product((True, False), repeat=count):
        elsewhere = iter(servers * count)
        yield [HERE if is_here else next(elsewhere) for is_here in here]


def measure(
    bundle: Bundle, places: Sequence[str], request: GenerateRequest, letters: dict[str, str]
) -> PlacementTrial:
    """One placement: a picture of another prompt to warm up, and the one that counts."""
    names = [component.name for component in bundle.manifest.components]
    placement = dict(zip(names, places, strict=True))
    with Client(bundle, placement=placement, threads=1) as client:
        client.run(GenerateRequest(prompt="a cat", seed=1, options=request.options))
        result = client.run(request)
    spent = dict(result.seconds)
    total = spent["total"] - spent.get("load", 0.0)
    wire = sum(spent.get(name, 0.0) for name in ("connect", "serialise", "upload", "download"))
    return PlacementTrial(
        places="".join(letters[place] for place in places),
        calls=sum(hop.bytes_up > 0 for hop in result.hops),
        bytes_up=result.bytes_up,
        bytes_down=result.bytes_down,
        seconds=total,
        wire_s=wire,
        pixels=pixels_digest(result.image),
    )


def table(trials: Sequence[PlacementTrial]) -> str:
    """A row for each placement, as Markdown."""
    head = "| placement | calls | bytes up | bytes down | seconds | of them wire, ms |"
    rows = [
        f"| {t.places} | {t.calls} | {t.bytes_up:,} | {t.bytes_down:,} | {t.seconds:.3f} "
        f"| {1000 * t.wire_s:.1f} |"
        for t in trials
    ]
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])


def steps_of(words: Sequence[str]) -> dict[str, DiffusionOptions]:
    """`STAGE=N` as options."""
    pairs = (word.partition("=") for word in words)
    return {name: DiffusionOptions(steps=int(steps)) for name, _, steps in pairs}


def main() -> None:
    """Measure every placement and print the table."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__.split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--bundle", type=Path, help="folder (default: one in miniature)")
    parser.add_argument("--steps", nargs="+", default=[], metavar="STAGE=N", help="fewer steps")
    parser.add_argument("--every", action="store_true", help="three places for each component")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parser.parse_args()
    request = GenerateRequest(prompt=PROMPT, seed=7, options=steps_of(args.steps))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "tiny"
        bundle = open_bundle(args.bundle) if args.bundle else write_tiny_bundle(folder)
        servers = [stack.enter_context(victim(bundle)).address for _ in "AB"]
        letters = {HERE: "c", **dict(zip(servers, "AB", strict=True))}
        count = len(bundle.manifest.components)
        choices = product([HERE, *servers], repeat=count) if args.every else halves(count, servers)
        trials = [measure(bundle, list(places), request, letters) for places in choices]
    hashes = {trial.pixels for trial in trials}
    print(table(trials))
    print(f"\n{len(trials)} placements, {len(hashes)} picture: sha256 {', '.join(sorted(hashes))}")
    if args.json:
        rows = [asdict(trial) for trial in trials]
        write_record(args.json, {"placements": rows, "bundle": bundle.manifest.name})
    if len(hashes) != 1:
        sys.exit("the placements do not make one picture")


if __name__ == "__main__":
    main()
