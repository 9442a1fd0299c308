"""Which inputs and outputs of an operator are floats, and which may be narrow: ONNX's own schemas.

An operator's definition gives every input and output a type or a type variable, and every variable
the types that it may stand for. `Resize` may take a picture in half precision but its scales in
float32 alone. Knows the definitions; not graphs.

References:
    https://onnx.ai/onnx/operators/
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

from onnx import NodeProto, TensorProto, defs, helper

TYPES: dict[int, str] = {
    TensorProto.FLOAT: "tensor(float)",
    TensorProto.FLOAT16: "tensor(float16)",
    TensorProto.BFLOAT16: "tensor(bfloat16)",
}
FLOAT = TYPES[TensorProto.FLOAT]

KEPT = {"Resize": {1, 2, 3}}
"""Inputs that stay as they are though a definition would let some of them be narrow: regions and
factors are places in a picture, which eleven bits do not hold."""


@cache
def schema(kind: str, version: int) -> Any:
    """The definition of a standard operator; None where there is none."""
    return defs.get_schema(kind, version, "") if defs.has(kind, version, "") else None


def definition(node: NodeProto, version: int) -> Any:
    """The definition of a node's operator; None for other domains."""
    return None if node.domain else schema(node.op_type, version)


def slots(formal: Any, count: int) -> Iterator[str]:
    """The type or type variable of each of `count` inputs or outputs."""
    for index in range(count):
        # The last one may stand for any number.
        yield formal[min(index, len(formal) - 1)].type_str


def allowed(found: Any, slot: str) -> set[str]:
    """The types that a slot may have."""
    for constraint in found.type_constraints:
        if constraint.type_param_str == slot:
            return set(constraint.allowed_type_strs)
    return {slot}


def float_outputs(node: NodeProto, floats: set[str], version: int) -> list[str]:
    """The outputs of a node that are float32, known which of its inputs are."""
    found = definition(node, version)
    if found is None:
        return list(node.output) if node.input and node.input[0] in floats else []
    read = dict(zip(slots(found.inputs, len(node.input)), node.input, strict=False))
    given = list(slots(found.outputs, len(node.output)))
    return [
        name
        for name, slot in zip(node.output, given, strict=True)
        if name and FLOAT in allowed(found, slot) and is_float(node, slot, read, floats)
    ]


def is_float(node: NodeProto, slot: str, read: dict[str, str], floats: set[str]) -> bool:
    """Whether an output that may be float32 is: as the input of its type variable, or as stated."""
    if slot == FLOAT:
        return True
    if slot in read:
        return read[slot] in floats
    stated = stated_type(node)
    if stated is not None:
        return stated == TensorProto.FLOAT
    if node.op_type == "ConstantOfShape":
        return True
    # What states no type takes over that of its data: of the scale behind eight bits.
    return any(name in floats for name in node.input)


def stated_type(node: NodeProto) -> int | None:
    """The type that an attribute gives to a node's output."""
    for item in node.attribute:
        value = helper.get_attribute_value(item)
        if item.name in ("to", "dtype", "output_dtype"):
            return int(value) or None
        if item.name == "value":
            return int(value.data_type)
        if item.name in ("value_float", "value_floats"):
            return int(TensorProto.FLOAT)
        if item.name in ("value_int", "value_ints"):
            return int(TensorProto.INT64)
    return None


def can_be(node: NodeProto, kind: int, version: int) -> bool:
    """Whether a node may compute in a type: its output takes the type of an input that may be."""
    found = definition(node, version)
    if found is None:
        return True
    read = set(slots(found.inputs, len(node.input)))
    given = set(slots(found.outputs, len(node.output)))
    moved = {slot for slot in given if FLOAT in allowed(found, slot)}
    return moved <= read and all(TYPES[kind] in allowed(found, slot) for slot in moved)


def narrow_inputs(node: NodeProto, kind: int, version: int) -> set[int]:
    """Places of the inputs that may be of a type."""
    found = definition(node, version)
    places = set(range(len(node.input))) - KEPT.get(node.op_type, set())
    if found is None:
        return places
    given = list(slots(found.inputs, len(node.input)))
    return {place for place in places if TYPES[kind] in allowed(found, given[place])}
