"""The first look at ONNX bytes: external data is found wherever a tensor can hide."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    SparseTensorProto,
    TensorProto,
    helper,
    numpy_helper,
)

from cascade.codecs.onnx_files import MAX_DEPTH, refuse_external_data
from cascade.errors import ManifestError
from tests.support.tiny_bundle import stage_graph, text_encoder_graph

QUICK = settings(derandomize=True, deadline=None, max_examples=100)


def inside() -> TensorProto:
    """A tensor that holds its own numbers."""
    return numpy_helper.from_array(np.ones(3, np.float32), "w")


def outside() -> TensorProto:
    """A tensor that points at another file."""
    tensor = TensorProto(name="w", dims=[3], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return tensor


def entry_only() -> TensorProto:
    """A tensor with an external entry that does not declare itself external."""
    tensor = outside()
    tensor.ClearField("data_location")
    return tensor


def flag_only() -> TensorProto:
    """A tensor that declares itself external and does not say where."""
    tensor = outside()
    del tensor.external_data[:]
    return tensor


def graph(*nodes: NodeProto, tensors: tuple[TensorProto, ...] = ()) -> GraphProto:
    """A graph of those nodes."""
    return helper.make_graph(list(nodes), "g", [], [], list(tensors))


def model(body: GraphProto) -> ModelProto:
    """A model of one graph."""
    return helper.make_model(body)


def constant(**fields: Any) -> NodeProto:
    """A node with one attribute made of those fields, whatever they are."""
    node = NodeProto(op_type="Constant", output=["c"])
    node.attribute.append(AttributeProto(name="value", **fields))
    return node


def sparse(values: TensorProto, indices: TensorProto) -> SparseTensorProto:
    """A sparse tensor."""
    return SparseTensorProto(values=values, indices=indices, dims=[9])


def branch(tensor: TensorProto) -> NodeProto:
    """An If whose branch holds the tensor."""
    empty = graph()
    body = graph(constant(t=tensor))
    return helper.make_node("If", ["condition"], ["y"], then_branch=empty, else_branch=body)


def in_function(tensor: TensorProto) -> ModelProto:
    """A model whose function's body holds the tensor."""
    result = model(graph())
    result.functions.add(name="f", domain="d").node.append(constant(t=tensor))
    return result


def in_function_default(tensor: TensorProto) -> ModelProto:
    """A model whose function has the tensor as the default of an attribute."""
    result = model(graph())
    result.functions.add(name="f", domain="d").attribute_proto.append(
        AttributeProto(name="a", type=AttributeProto.TENSOR, t=tensor)
    )
    return result


def in_training(tensor: TensorProto) -> ModelProto:
    """A model whose training graph holds the tensor."""
    result = model(graph())
    result.training_info.add().algorithm.CopyFrom(graph(tensors=(tensor,)))
    return result


def in_sparse_initializer(tensor: TensorProto) -> ModelProto:
    """A model with a sparse initialiser whose indices are the tensor."""
    result = model(graph())
    result.graph.sparse_initializer.append(sparse(inside(), tensor))
    return result


PLACES: dict[str, Callable[[TensorProto], ModelProto]] = {
    "initializer": lambda t: model(graph(tensors=(inside(), t))),
    "constant": lambda t: model(graph(constant(t=t))),
    "list_of_tensors": lambda t: model(graph(constant(tensors=[inside(), t]))),
    "sparse_values": lambda t: model(graph(constant(sparse_tensor=sparse(t, inside())))),
    "sparse_list": lambda t: model(graph(constant(sparse_tensors=[sparse(inside(), t)]))),
    "sparse_initializer": in_sparse_initializer,
    "branch_of_if": lambda t: model(graph(branch(t))),
    "list_of_graphs": lambda t: model(graph(constant(graphs=[graph(), graph(tensors=(t,))]))),
    "branch_in_a_branch": lambda t: model(graph(constant(g=graph(branch(t))))),
    "function": in_function,
    "function_default": in_function_default,
    "training": in_training,
}


@pytest.mark.parametrize("pointer", [outside, entry_only, flag_only])
@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_refused(place: str, pointer: Callable[[], TensorProto]) -> None:
    """A tensor that points outside is refused wherever it stands, half a pointer too."""
    with pytest.raises(ManifestError, match=r"m\.onnx: a tensor points outside"):
        refuse_external_data(PLACES[place](pointer()).SerializeToString(), "m.onnx")


@pytest.mark.parametrize("place", PLACES)
def test_tensors_inside_pass(place: str) -> None:
    """The same models with a tensor that holds its own numbers are accepted."""
    refuse_external_data(PLACES[place](inside()).SerializeToString(), "m.onnx")


def test_true_graphs_pass() -> None:
    """The graphs of a bundle are accepted."""
    refuse_external_data(text_encoder_graph()[0], "text_encoder.onnx")
    refuse_external_data(stage_graph(2, upscales=True, slow_layers=2)[0], "sr16.onnx")


def varint(value: int) -> bytes:
    """A base-128 number."""
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(tag: int, body: bytes) -> bytes:
    """A length-delimited field of that tag."""
    return varint(tag) + varint(len(body)) + body


def test_tags_beyond_32_bits_are_refused() -> None:
    """A C++ parser drops the upper bits and sees external data where a wide reader sees none."""
    entry = outside().external_data[0].SerializeToString()
    hidden = field(13 << 3 | 2 | 1 << 32, entry)
    graph_bytes = field(5 << 3 | 2, TensorProto(name="w").SerializeToString() + hidden)
    with pytest.raises(ManifestError):
        refuse_external_data(field(7 << 3 | 2, graph_bytes), "m.onnx")


def test_a_graph_in_two_pieces_is_walked_whole() -> None:
    """Parsers merge a field that comes twice: both pieces are looked at."""
    clean, bad = (model(graph(tensors=(t,))).SerializeToString() for t in (inside(), outside()))
    with pytest.raises(ManifestError, match="points outside"):
        refuse_external_data(clean + bad, "m.onnx")


def test_bottomless_graphs_are_refused() -> None:
    """Nesting ends at a bound instead of at the interpreter's stack."""
    body = graph()
    for _ in range(MAX_DEPTH):
        body = graph(constant(g=body))
    with pytest.raises(ManifestError, match="nested deeper"):
        refuse_external_data(model(body).SerializeToString(), "m.onnx")


def test_a_truncated_file_is_refused() -> None:
    """Every prefix is refused, but for the few that are whole messages themselves."""
    data = model(graph(branch(inside()), tensors=(inside(),))).SerializeToString()
    refused = 0
    for length in range(len(data)):
        try:
            ModelProto().ParseFromString(data[:length])
        except DecodeError:
            refused += 1
            with pytest.raises(ManifestError, match="truncated"):
                refuse_external_data(data[:length], "m.onnx")
        else:
            refuse_external_data(data[:length], "m.onnx")
    assert refused > 0.9 * len(data)


@QUICK
@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    """Random bytes pass or are a ManifestError, never another exception."""
    with suppress(ManifestError):
        refuse_external_data(data, "m.onnx")


def tensors(message: Any) -> Iterator[TensorProto]:
    """Every tensor anywhere in a parsed message."""
    if isinstance(message, TensorProto):
        yield message
        return
    for descriptor, value in message.ListFields():
        if descriptor.type == descriptor.TYPE_MESSAGE:
            for item in [value] if hasattr(value, "ListFields") else value:
                yield from tensors(item)


@QUICK
@given(
    place=st.sampled_from(sorted(PLACES)),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=3),
)
def test_what_a_parser_finds_is_refused(place: str, edits: list[tuple[float, int]]) -> None:
    """Whatever bytes are changed: if protobuf still finds external data, so does the first look."""
    data = bytearray(PLACES[place](outside()).SerializeToString())
    for at, byte in edits:
        data[int(at * len(data))] = byte
    parsed = ModelProto()
    try:
        parsed.ParseFromString(bytes(data))
    except DecodeError:
        return
    if any(t.external_data or t.data_location for t in tensors(parsed)):
        with pytest.raises(ManifestError):
            refuse_external_data(bytes(data), "m.onnx")
