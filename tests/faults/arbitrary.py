"""Hypothesis strategies for any message of the wire, made from its descriptor.

Every field gets values that its type allows and nobody would send. Knows protobuf descriptors; no
field by name.
"""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

INTEGERS = {
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_ENUM: (-(2**31), 2**31 - 1),
}
DEPTH = 6


def values(field: Any, depth: int) -> st.SearchStrategy[Any]:
    """Any value of one field, repeated or not."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = field.message_type.fields
        return st.dictionaries(single(key, depth), single(value, depth), max_size=3)
    one = single(field, depth)
    return st.lists(one, max_size=5) if field.is_repeated else one


def single(field: Any, depth: int) -> st.SearchStrategy[Any]:
    """Any value of a field that is not repeated."""
    kind = field.type
    if kind in INTEGERS:
        least, most = INTEGERS[kind]
        return st.one_of(
            st.integers(0, 9), st.sampled_from((least, most)), st.integers(least, most)
        )
    if kind == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if kind in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return st.floats(width=64 if kind == FieldDescriptor.TYPE_DOUBLE else 32)
    if kind == FieldDescriptor.TYPE_STRING:
        letters = st.characters(codec="utf-8")
        return st.one_of(st.text(letters, max_size=80), st.sampled_from(NAMES))
    if kind == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=300)
    return messages(GetMessageClass(field.message_type), depth - 1)


NAMES = ("", "base", "sr16", "sr32", "text_encoder", "\0", "../../etc/passwd", "a" * 5000, "%s%n")


@st.composite
def messages(draw: st.DrawFn, kind: type[Message], depth: int = DEPTH) -> Message:
    """Any message of a class: each field absent or arbitrary, at most one of every oneof."""
    message = kind()
    fields = [f for f in kind.DESCRIPTOR.fields if depth or f.message_type is None]
    fill(message, {f.name: draw(values(f, depth)) for f in fields if draw(st.booleans())})
    return message


@st.composite
def near(draw: st.DrawFn, good: Message) -> Message:
    """A good message with one or two of its fields made arbitrary, nested ones included."""
    message = type(good)()
    message.CopyFrom(good)
    for _ in range(draw(st.integers(1, 2))):
        at: Message = message
        field = draw(st.sampled_from(list(at.DESCRIPTOR.fields)))
        while has_fields(field) and not field.is_repeated and draw(st.booleans()):
            at = getattr(at, field.name)
            field = draw(st.sampled_from(list(at.DESCRIPTOR.fields)))
        at.ClearField(field.name)
        fill(at, {field.name: draw(values(field, 3))})
    return message


def has_fields(field: Any) -> bool:
    """Whether a field is a message that is not empty."""
    return field.message_type is not None and bool(field.message_type.fields)


def fill(message: Any, fields: dict[str, Any]) -> None:
    """Set fields, whatever their kind."""
    for name, value in fields.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for key, item in value.items():
                if isinstance(item, Message):
                    getattr(message, name)[key].CopyFrom(item)
                else:
                    getattr(message, name)[key] = item
        elif field.is_repeated:
            del getattr(message, name)[:]
            getattr(message, name).extend(value)
        elif isinstance(value, Message):
            getattr(message, name).CopyFrom(value)
        else:
            setattr(message, name, value)
