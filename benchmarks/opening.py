"""One way to run a stage's network, opened in the process that runs it.

Knows where each way is opened; not how the ways are timed or compared.
"""

import numpy as np

from benchmarks.contestants import Contestant, Run, Subject, TorchWay
from cascade.engines.choice import EngineChoice, open_engine


def open_run(contestant: Contestant, subject: Subject) -> Run:
    """Open one way, in the process that will run it."""
    way = contestant.way
    if isinstance(way, TorchWay):
        from benchmarks.torch_ways import open_torch  # noqa: PLC0415  engines must not load torch

        return open_torch(way, subject)
    choice = EngineChoice(kind=way.kind, precision=way.precision, threads=subject.threads)
    engine = open_engine(way.graph.read_bytes(), choice)
    return lambda: np.asarray(engine.run(subject.inputs)["prediction"])
