"""How much faster, smaller and leaner is this checkout than the commit that it set out from?

    python -m benchmarks.half_the_time [--rounds 9] [--only warm cold ...] [--json FILE]

Makes a worktree of the commit in a temporary folder, with its own bundle, and measures both sides
with one interpreter in one run, interleaved: A B, B A, A B, ... Warm: `Client.run` with a private
server, to the first 64x64 and to 1024. Cold: `cascade generate` from the shell, once without and
once with `--preview`, where base.png is awaited. The last stage: its seconds in a request, and
those of its engine alone. Memory: resident, client and private server, after the warm rounds.
Bytes: pictures of 256 and 1024 as lossless files. Eight: eight requests at once at a server, per
picture. Both sides are tuned first, in a cache of their own. Medians, ratios, and the load.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.lib.record import write_record
from benchmarks.lib.worktree import worktree

PROBE = Path(__file__).parent / "lib" / "tree_probe.py"
PROMPT = "a red apple, noto style"
POLL_S = 0.002
PARTS = ("warm", "engine", "bytes", "eight", "memory", "cold")
WANTED = {
    "warm": (1.8, "ms"),
    "first64": (1.5, "ms"),
    "cold": (1.8, "ms"),
    "cold_first64": (1.8, "ms"),
    "in_request": (None, "ratio"),
    "client": (1 / 0.7, "MiB"),
    "server": (1 / 0.5, "MiB"),
    "bytes": (1 / 0.4, "kB"),
    "eight": (1.5, "ms"),
}
"""By figure, the ratio before / now that was set as the aim, and the unit that is printed."""
SCALE = {"ms": 1000.0, "MiB": 1.0, "kB": 0.001, "ratio": 1.0}
TITLES = {
    "warm": "warm, prompt to 1024",
    "first64": "warm, first 64x64",
    "cold": "cold from the shell, to 1024",
    "cold_first64": "cold from the shell, first 64x64",
    "in_request": "sr1024: in a request / its engine alone",
    "client": "client, resident",
    "server": "private server, resident",
    "bytes": "256 and 1024 without loss",
    "eight": "8 at once, per picture",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """One checkout, as this interpreter runs it."""

    name: str
    folder: Path
    cache: Path

    @property
    def bundle(self) -> Path:
        """Its own bundle."""
        return self.folder / "bundles" / "emoji-1"

    @property
    def command(self) -> str:
        """The module behind `cascade`."""
        return "cascade.cli" if (self.folder / "cascade" / "cli.py").exists() else "cascade"

    @property
    def environment(self) -> dict[str, str]:
        """Its packages before any installed ones, caches of its own, no hints.

        Compiled once, as an installation is: a checkout that may not keep what it compiles takes a
        quarter of a second longer for every start, and the more the more code it has.
        """
        own = {"PYTHONPATH": str(self.folder), "XDG_CACHE_HOME": str(self.cache)}
        compiled = {"PYTHONPYCACHEPREFIX": str(self.cache / "pyc"), "PYTHONDONTWRITEBYTECODE": ""}
        return {**os.environ, **own, **compiled, "CASCADE_HINTS": "off"}

    def start(self, *words: str, **pipes: Any) -> "subprocess.Popen[str]":
        """An interpreter of this side; its working folder is no checkout."""
        command = [sys.executable, "-P", *words]
        return subprocess.Popen(command, env=self.environment, cwd=self.cache, text=True, **pipes)

    def run(self, *words: str) -> None:
        """`cascade` of this side, to its end."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        with self.start("-m", self.command, *words, **quiet) as child:
            _, errors = child.communicate()
            if child.returncode:
                raise SystemExit(f"{self.name}: cascade {words[0]}: {errors}")


@contextmanager
def server_of(side: Tree) -> Iterator[str]:
    """The address of a server of one side that listens."""
    address = f"unix:{side.cache}/s.sock"
    words = ("-m", side.command, "serve", "--bundle", str(side.bundle), "--listen", address)
    log = (side.cache / "server.log").open("w")
    with log, side.start(*words, stdout=subprocess.DEVNULL, stderr=log) as child:
        while '"listening"' not in (side.cache / "server.log").read_text():
            if child.poll() is not None:
                raise SystemExit(f"{side.name}: the server did not start, see {log.name}")
            time.sleep(POLL_S)
        try:
            yield address
        finally:
            child.send_signal(signal.SIGTERM)


@contextmanager
def probe_of(side: Tree, server: str) -> Iterator["subprocess.Popen[str]"]:
    """A process that measures one side on demand."""
    words = (str(PROBE), str(side.bundle), server, str(side.cache / "edge-cascade" / "engines"))
    with side.start(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            yield child
        finally:
            if child.stdin is not None:
                child.stdin.close()


def ask(probe: "subprocess.Popen[str]", word: str) -> dict[str, float]:
    """One answer of a probe."""
    assert probe.stdin is not None
    assert probe.stdout is not None
    probe.stdin.write(f"{word}\n")
    probe.stdin.flush()
    line = probe.stdout.readline()
    if not line:
        raise SystemExit(f"the probe ended at {word}")
    answer: dict[str, float] = json.loads(line)
    return answer


def cold(side: Tree) -> dict[str, float]:
    """One `cascade generate` to its end, and one until the first picture lies in its folder."""
    with tempfile.TemporaryDirectory() as folder:
        plain = ("generate", PROMPT, "--bundle", str(side.bundle), "-o", f"{folder}/a.png")
        begun = time.perf_counter()
        side.run(*plain)
        total = time.perf_counter() - begun
        shown = Path(folder) / "shown"
        begun = time.perf_counter()
        words = ("-m", side.command, *plain, "--preview", str(shown))
        with side.start(*words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
            while not (shown / "base.png").exists():
                if child.poll() is not None:
                    raise SystemExit(f"{side.name}: no picture was shown")
                time.sleep(POLL_S)
            first = time.perf_counter() - begun
    return {"cold": total, "cold_first64": first}


def compile_imports(sides: Sequence[Tree]) -> None:
    """A run of each side that is not counted: it compiles what is imported."""
    for side in sides:
        cold(side)


def measured(
    sides: Sequence[Tree], rounds: int, parts: Sequence[str]
) -> dict[str, dict[str, list[float]]]:
    """Every figure of every side, by side and name.

    Args:
        sides: what is compared.
        rounds: of warm pictures; of the longer parts there are fewer.
        parts: those of `PARTS` that are measured.
    """
    found: dict[str, dict[str, list[float]]] = {s.name: defaultdict(list) for s in sides}

    def repeat(count: int, once: Callable[[Tree], dict[str, float]]) -> None:
        for number in range(count):
            for side in in_turn(sides, number):
                for name, value in once(side).items():
                    found[side.name][name].append(value)

    with ExitStack() as stack:
        probes = {
            side.name: stack.enter_context(probe_of(side, stack.enter_context(server_of(side))))
            for side in sides
        }
        for word in [part for part in PARTS[:-1] if part in parts]:
            few = word not in ("warm", "engine")
            # The first of each kind is its warm-up, and is not counted.
            for probe in probes.values():
                ask(probe, word)
            repeat(max(2, rounds // 3) if few else rounds, lambda s, w=word: ask(probes[s.name], w))
    if "cold" in parts:
        compile_imports(sides)
        repeat(max(2, rounds // 2), cold)
    for figures in found.values():
        alone, spent = figures.pop("engine", []), figures.pop("request", [])
        if alone and spent:
            figures["in_request"] = [s / statistics.median(alone) for s in spent]
    return found


def in_turn(sides: Sequence[Tree], number: int) -> Sequence[Tree]:
    """The order of a round: who runs first changes every time."""
    return sides if number % 2 == 0 else [*reversed(sides)]


def table(found: dict[str, dict[str, list[float]]]) -> list[str]:
    """One line per figure: medians of both sides, their ratio, and the ratio that was the aim."""
    before, now = found.values()
    lines = [f"{'':42}{'before':>10}{'now':>10}  {'unit':6}{'before/now':>11}{'aim':>7}"]
    for name, (aim, unit) in WANTED.items():
        if name not in before:
            continue
        old, new = (SCALE[unit] * statistics.median(side[name]) for side in (before, now))
        wanted = f"{aim:7.2f}" if aim is not None else ""
        if name == "in_request":
            wanted = "  <1.15"
        lines.append(f"{TITLES[name]:42}{old:10.2f}{new:10.2f}  {unit:6}{old / new:11.2f}{wanted}")
    return lines


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--commit", default="ef71960", help="what to compare with")
    parser.add_argument("--rounds", type=int, default=9, help="warm pictures of each side")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts of it")
    parser.add_argument("--untuned", action="store_true", help="do not run `cascade tune` first")
    parser.add_argument("--keep", type=Path, help="keep what was tuned there, for other runs")
    parser.add_argument("--tune-seconds", default="4", help="of each component")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    begun = os.getloadavg()
    # Ended from outside, it still removes its worktree and ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        old = stack.enter_context(worktree(args.commit, Path(folder) / "before"))
        sides = []
        for name, tree in (("before", old), ("now", Path(__file__).parents[1])):
            cache = (args.keep or Path(folder)).resolve() / f"cache-{name}"
            is_tuned = (cache / "edge-cascade" / "tuning").is_dir()
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            sides.append(Tree(name=name, folder=tree, cache=cache))
            if not (args.untuned or is_tuned):
                sides[-1].run("tune", str(sides[-1].bundle), "--seconds", args.tune_seconds)
        found = measured(sides, args.rounds, args.only)
    print("\n".join(table(found)))
    ended = os.getloadavg()
    print(f"load of the last minute {begun[0]:.1f} at the start, {ended[0]:.1f} at the end")
    write_record(args.json, {"found": found, "load": [begun[0], ended[0]]})


if __name__ == "__main__":
    main()
