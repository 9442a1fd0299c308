"""Measures of one checkout, taken inside a process that has its packages and no other's.

    python -P tree_probe.py BUNDLE SERVER

Reads one word per line from standard input and answers with one JSON object per line. Run by
`benchmarks.half_the_time` with PYTHONPATH naming the checkout, so it uses only what checkouts since
ef71960 have in common, and of what was renamed since, whichever name is there.
"""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any

from cascade.events import StageFinished
from cascade.request import GenerateRequest
from runtime_client import Client

PROMPTS = (
    "a red apple, noto style",
    "a robot, fluent style",
    "a cactus, twemoji style",
    "a blue car, fluent style",
)
LAST = "sr1024"
AT_ONCE = 8
RENAMED = {
    "trial": ("cascade.tuning.worker", "cascade.engine_trial"),
    "codec": ("cascade.codecs.image", "cascade.image_codec"),
}
"""Modules by what they hold: their name now, and at ef71960."""


def module_of(what: str) -> Any:
    """A module that was renamed, in this checkout; `cascade.tuning` was a module before."""
    now, before = RENAMED[what]
    parent = import_module(now.rpartition(".")[0])
    return import_module(now if hasattr(parent, "__path__") and find_spec(now) else before)


def memory_mib(process_id: int) -> float:
    """Resident memory of a process that lives."""
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    (found,) = [int(line.split()[1]) for line in lines if line.startswith("VmRSS")]
    return found / 1024


def children() -> list[int]:
    """Processes that this one started and that live."""
    me = os.getpid()
    return [
        int(child)
        for task in Path(f"/proc/{me}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


class TreeProbe:
    """One client with a private server, one of a server that others share, one engine alone."""

    def __init__(self, bundle: str, server: str, cache: str) -> None:
        """Nothing is started.

        Args:
            bundle: folder.
            server: address of a server of the same checkout.
            cache: of engines.
        """
        self._bundle, self._cache = bundle, cache
        self._client = Client(bundle, cut=2)
        self._shared = Client(bundle, cut=2, server=server)
        self._requests = cycle(
            GenerateRequest(prompt=prompt, seed=seed) for seed, prompt in enumerate(PROMPTS)
        )
        self._trial: Any = None
        self._computed: Any = None

    def warm(self) -> dict[str, float]:
        """One picture: seconds to the first 64x64, to the last one, and of each hop."""
        arrived: dict[str, float] = {}

        def note(event: object) -> None:
            if isinstance(event, StageFinished):
                arrived.setdefault(event.stage, time.perf_counter() - begun)

        begun = time.perf_counter()
        result = self._client.run(next(self._requests), on_event=note)
        total = time.perf_counter() - begun
        self._computed = result.computed[LAST]
        return {"warm": total, "first64": arrived["base"], "request": result.seconds[LAST]}

    def memory(self) -> dict[str, float]:
        """MiB of this process and of its private server."""
        servers = [child for child in children() if "serve" in command_of(child)]
        return {"client": memory_mib(os.getpid()), "server": max(map(memory_mib, servers))}

    def engine(self) -> dict[str, float]:
        """One run of the last stage's network with nothing around it, in a process of its own."""
        if self._trial is None:
            trial = module_of("trial")
            given = {
                "bundle": self._bundle, "component": LAST, "role": "net", "batch": 1, "threads": 0,
                "kind": self._computed.engine, "precision": self._computed.precision,
                "cache": self._cache,
            }  # fmt: skip
            self._trial = trial.Trial(
                trial.Order(**{name: given[name] for name in trial.Order.__slots__})
            )
        return {"engine": self._trial.run()}

    def bytes(self) -> dict[str, float]:
        """Of what goes down a line without loss: the pictures of 256 and 1024."""
        result = self._client.run(next(self._requests))
        encode_image = module_of("codec").encode_image
        packed = (encode_image(result.images[name], "webp") for name in ("sr256", LAST))
        return {"bytes": float(sum(map(len, packed)))}

    def eight(self) -> dict[str, float]:
        """Seconds per picture of eight requests at once."""
        requests = [next(self._requests) for _ in range(AT_ONCE)]
        begun = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(self._shared.run, requests):
                pass
        return {"eight": (time.perf_counter() - begun) / AT_ONCE}

    def close(self) -> None:
        """End everything."""
        self._client.close()
        self._shared.close()
        if self._trial is not None:
            self._trial.close()


def command_of(process_id: int) -> str:
    """A process's command line."""
    return Path(f"/proc/{process_id}/cmdline").read_text().replace("\0", " ")


def main(bundle: str, server: str, cache: str) -> None:
    """Answer until standard input closes."""
    probe = TreeProbe(bundle, server, cache)
    try:
        for line in sys.stdin:
            found: dict[str, Any] = getattr(probe, line.strip())()
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()
    finally:
        probe.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
