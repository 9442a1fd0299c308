"""The form of a stored graph for browsers: right on WebGPU too.

Requires: a graph as the bundle stores it. Ensures: the same function with every axis as free, no
attention of ONNX Runtime's own and no split that WebGPU refuses; weights lie in the stored file
alone, from where `cascade.codecs.shared_initializers` and the web client take them. Knows graphs;
not bundles.
"""

import onnx
from onnx import numpy_helper

from export.forms.attention import write_attention_out
from export.forms.splits import narrow_splits

LARGE = 256
"""Weights of fewer elements are not worth a name in another file."""


def web_form(stored: bytes) -> bytes | None:
    """The form's file, without the weights that the stored file holds.

    Args:
        stored: the graph's own file, weights inside.

    Returns:
        The file; None where the stored one is right in browsers as it is.

    Raises:
        ValueError: an operator has a shape that the rewritings do not know.
    """
    original = onnx.load_from_string(stored)
    form = onnx.ModelProto()
    form.CopyFrom(original)
    if not write_attention_out(form) + narrow_splits(form):
        return None
    # Declared for a planner of memory on CPUs, and of values that are not there any more.
    del form.graph.value_info[:]
    onnx.checker.check_model(form)
    leave_out(form, original)
    return form.SerializeToString()


def leave_out(form: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Drop the large weights that another graph has under the same names, in place."""
    there = {
        t.name: t for t in original.graph.initializer if numpy_helper.to_array(t).size >= LARGE
    }
    kept = [t for t in form.graph.initializer if there.get(t.name) != t]
    del form.graph.initializer[:]
    form.graph.initializer.extend(kept)
