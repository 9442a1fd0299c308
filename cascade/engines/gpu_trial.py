"""One run of one node by one engine, as a process: `python -m cascade.engines.gpu_trial KIND`.

Exits with 0 where it ran; otherwise the last line of standard error says why. Whatever a driver
does to a process, it does to this one. Knows one graph; see `cascade.engines.gpus`.
"""

import sys

import numpy as np

from cascade.engines.factory import EngineChoice, open_engine
from cascade.engines.kinds import EngineKind
from cascade.errors import CascadeError
from cascade.precision import Precision

NEGATE = (
    b'\x08\t\x12\x00:2\n\x0b\n\x01x\x12\x01y"\x03Neg\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01'
    b"\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x12"
)
"""An ONNX file: `y = -x`, one number each."""


def run_once(kind: EngineKind) -> None:
    """Run the graph.

    Raises:
        CascadeError: the engine is not there, or gave another answer.
    """
    engine = open_engine(NEGATE, EngineChoice(kind, Precision.FP32, 1))
    try:
        (answer,) = engine.run({"x": np.array([3], np.float32)}).values()
    finally:
        engine.close()
    if answer.tolist() != [-3]:
        raise CascadeError(f"{kind}: of 3 it made {answer.tolist()} and not -3")


if __name__ == "__main__":
    try:
        run_once(EngineKind(sys.argv[1]))
    except CascadeError as exc:
        sys.exit(" ".join(str(exc).split()))
