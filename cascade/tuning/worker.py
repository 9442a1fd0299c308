"""One engine on one component in a process of its own, told over standard input when to run.

A process of its own because some engines end the process on some graphs: then only the trial is
lost. `python -m cascade.tuning.worker ORDER` is the child's side; `Trial` is the parent's. Knows
how to run and time one choice; which ones there are, the tune command knows.
"""

import base64
import contextlib
import json
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cascade.bundle.bundle import open_bundle
from cascade.engines.factory import EngineChoice, open_engine
from cascade.engines.kinds import EngineKind
from cascade.errors import CascadeError, EngineError
from cascade.precision import Precision
from cascade.tuning.dummy_inputs import dummy_inputs, free_axes
from cascade.tuning.plan import choice_for, graph_for
from cascade.types import Array

LOAD_PATIENCE_S = 900.0
"""An engine for a GPU may be built while it is opened."""
RUN_PATIENCE_S = 300.0
SAMPLES = 4096
"""Values of the output that the parent compares."""
TOKENS = 8
"""Of the dummy prompt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What a child is to try."""

    bundle: str
    component: str
    role: str
    kind: EngineKind
    precision: Precision
    threads: int
    batch: int
    cache: str


class Trial:
    """A child process with one engine open, seen from outside."""

    def __init__(self, order: Order) -> None:
        """Start it and open the engine.

        Raises:
            EngineError: it cannot be opened, or ended the process.
        """
        words = json.dumps({name: getattr(order, name) for name in Order.__slots__})
        # A process of its own: an engine that crashes ends the trial and not the command.
        self._child = subprocess.Popen(
            [sys.executable, "-m", "cascade.tuning.worker", words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            first = self._read_reply(LOAD_PATIENCE_S)
        except BaseException:
            self.close()
            raise
        self.load_s = float(first["load_s"])
        self.sample: Array = np.frombuffer(base64.b64decode(first["sample"]), np.float32)

    def run(self) -> float:
        """Seconds of one run.

        Raises:
            EngineError: it failed, or ended the process.
        """
        if self._child.stdin is None:
            raise EngineError("the trial was closed")
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(b"\n")
            self._child.stdin.flush()
        return float(self._read_reply(RUN_PATIENCE_S)["seconds"])

    def close(self) -> None:
        """End the child."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _read_reply(self, patience_s: float) -> dict[str, Any]:
        """The child's next line."""
        pipe = self._child.stdout
        ready = [] if pipe is None else select.select([pipe], [], [], patience_s)[0]
        if pipe is None or not ready:
            raise EngineError(f"no answer within {patience_s:g} s")
        line = pipe.readline()
        if not line:
            # End of file: the child is gone, and how it went is the finding.
            code = self._child.wait()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise EngineError(f"it ended the process ({how})")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            raise EngineError(str(said["error"]))
        return said


def serve(order: Order) -> None:
    """The child: open, say so, and run once for every line on standard input."""
    bundle = open_bundle(order.bundle)
    component = bundle.manifest.components[bundle.manifest.position(order.component)]
    base = EngineChoice(order.kind, order.precision, order.threads)
    choice = choice_for(component, base, order.role)
    graph = graph_for(bundle, component, choice, order.role)
    axes = free_axes(component, batch=order.batch, tokens=TOKENS)
    inputs = dummy_inputs(component, axes, order.role)
    begun = time.perf_counter()
    engine = open_engine(graph, choice, cache=Path(order.cache) if order.cache else None)
    # The first run counts as loading: that is when engines finish compiling.
    outputs = engine.run(inputs)
    load_s = time.perf_counter() - begun
    values = outputs[component.graphs[order.role].outputs[0].name].ravel()
    if not np.isfinite(values).all():
        raise EngineError("the output holds NaN or infinity")
    sample = values[:: max(1, values.size // SAMPLES)][:SAMPLES].astype(np.float32)
    say(load_s=load_s, sample=base64.b64encode(sample.tobytes()).decode())
    for _ in sys.stdin:
        begun = time.perf_counter()
        engine.run(inputs)
        say(seconds=time.perf_counter() - begun)


def say(**values: object) -> None:
    """One line to the parent."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def main(words: str) -> None:
    """The child's whole life."""
    given = json.loads(words)
    given["kind"], given["precision"] = EngineKind(given["kind"]), Precision(given["precision"])
    try:
        serve(Order(**given))
    except CascadeError as exc:
        say(error=" ".join(str(exc).split())[:300])


if __name__ == "__main__":
    main(sys.argv[1])
