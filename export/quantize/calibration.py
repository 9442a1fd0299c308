"""What the inputs and outputs of a graph's layers look like while it works, seen from outside.

The layers' tensors become extra outputs of a copy of the graph. Knows graphs, engines and cases;
not where the cases come from nor what the numbers are for.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from cascade.engines.ort import OrtEngine
from cascade.types import Array
from export.quantize.layers import Layer
from export.quantize.ranges import Observed


def observe(
    model: onnx.ModelProto, layers: Sequence[Layer], cases: Iterable[Mapping[str, Array]]
) -> dict[str, Observed]:
    """Run every case and note the input and output of every layer, by tensor name.

    Args:
        model: the float32 graph.
        layers: whose tensors are watched.
        cases: batches of the graph's inputs by name, in the shapes it declares.
    """
    names = list(dict.fromkeys(n for la in layers for n in (la.activation, la.name)))
    inputs = {info.name for info in model.graph.input}
    engine = OrtEngine(with_outputs(model, [n for n in names if n not in inputs]))
    rng = np.random.default_rng(0)
    seen = {name: Observed() for name in names}
    for case in cases:
        values = {**case, **engine.run(case)}
        for name in names:
            seen[name].add(values[name], rng)
    engine.close()
    return seen


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> bytes:
    """A copy of the graph that also gives the named tensors."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {info.name for info in copy.graph.output}
    copy.graph.output.extend(
        helper.make_empty_tensor_value_info(name) for name in names if name not in present
    )
    return copy.SerializeToString()
