"""What processors the threads of an engine may run on: a child process's work.

Run as a module with the name of an engine kind it opens a small graph, runs it once and prints one
JSON object: threads that the engine added, and the processors that every thread is allowed.
"""

import json
import sys
from pathlib import Path

import numpy as np

from cascade.engines.factory import EngineChoice, EngineKind, open_engine
from cascade.precision import Precision
from tests.support.tiny_bundle import text_encoder_graph

TASKS = Path("/proc/self/task")


def allowed() -> dict[str, str]:
    """The processors of each thread as the kernel lists them, by thread id."""
    found = {}
    for task in TASKS.iterdir():
        lines = (task / "status").read_text().splitlines()
        (found[task.name],) = [line.split()[1] for line in lines if "Cpus_allowed_list" in line]
    return found


def report(kind: EngineKind) -> dict[str, object]:
    """Before and after one run of an engine."""
    before = allowed()
    engine = open_engine(text_encoder_graph()[0], EngineChoice(kind, Precision.FP32))
    ids, mask = np.array([[1, 2]], np.int64), np.ones((1, 2), np.float32)
    engine.run({"token_ids": ids, "token_mask": mask})
    after = allowed()
    engine.close()
    return {"added": len(after.keys() - before.keys()), "allowed": sorted(set(after.values()))}


if __name__ == "__main__":
    json.dump(report(EngineKind(sys.argv[1])), sys.stdout)
