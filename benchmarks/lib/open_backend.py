"""One way to run a stage's network, opened in the process that runs it.

Knows where each way is opened; not how the ways are timed or compared.
"""

import numpy as np

from benchmarks.lib.race_entries import RaceEntry, Run, Subject, TorchWay
from cascade.engines.factory import EngineChoice, open_engine
from cascade.types import Array


def open_run(entry: RaceEntry, subject: Subject) -> Run:
    """Open one way, in the process that will run it."""
    way = entry.way
    if isinstance(way, TorchWay):
        from benchmarks.lib.torch_ways import open_torch  # noqa: PLC0415  engines must not load torch

        return open_torch(way, subject)
    usual = {name: usual_shape(name, value) for name, value in subject.inputs.items()}
    choice = EngineChoice(way.kind, way.precision, subject.threads, usual)
    engine = open_engine(way.graph.read_bytes(), choice)
    return lambda: np.asarray(engine.run(subject.inputs)["prediction"])


def usual_shape(name: str, value: Array) -> tuple[int | None, ...]:
    """As the product tells its engines: texts differ in length."""
    free = name.startswith("context")
    return tuple(None if free and axis == 1 else size for axis, size in enumerate(value.shape))
