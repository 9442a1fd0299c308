"""Strategies that fill every field of a value with something other than its default.

Derived from the annotations, so that a field added to a dataclass is filled without a line here.
"""

import types
from collections.abc import Mapping
from dataclasses import Field, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from cascade.codecs.image import FORMATS
from cascade.codecs.tensor import DTYPES, PackedTensor
from cascade.diffusion.request_options import DiffusionOptions
from cascade.pixels.request_options import PixelOptions
from cascade.precision import Precision
from cascade.request import FamilyOptions
from wire.limits import MAX_PADDING_BYTES
from wire.payloads import ContextReference
from wire.server_info import InfoCall

TEXT = st.text("aZ0._é日", min_size=1, max_size=3)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.just(value=True),
    int: st.integers(1, 2**31 - 1),
    float: st.floats(1e-300, 1e300),
    str: TEXT,
    bytes: st.binary(min_size=1, max_size=3),
    Precision: st.sampled_from(Precision),
}
OVERRIDES: dict[Any, st.SearchStrategy[Any]] = {
    PackedTensor: st.builds(
        PackedTensor,
        shape=st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple),
        dtype=st.sampled_from(sorted(DTYPES)),
        data=SCALARS[bytes],
    ),
    FamilyOptions: st.deferred(lambda: filled(DiffusionOptions) | filled(PixelOptions)),
    InfoCall: st.builds(
        InfoCall,
        padding=SCALARS[bytes],
        reply_padding_bytes=st.integers(1, MAX_PADDING_BYTES),
    ),
    # A oneof: never both.
    ContextReference: st.one_of(
        st.builds(ContextReference, handle=SCALARS[bytes]),
        st.deferred(lambda: st.builds(ContextReference, tensor=OVERRIDES[PackedTensor])),
    ),
}


def filled(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type without a default in any field, however deep."""
    if kind in OVERRIDES:
        return OVERRIDES[kind]
    if kind in SCALARS:
        return SCALARS[kind]
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return st.builds(kind, **{f.name: unlike_default(f, hints[f.name]) for f in fields(kind)})
    return filled_generic(kind)


def unlike_default(field: Field[Any], kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field, its default left out."""
    return filled(kind).filter(lambda value: value != field.default)


def filled_generic(kind: Any) -> st.SearchStrategy[Any]:
    """Unions, tuples, mappings and literals; none of them empty."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return st.one_of([filled(choice) for choice in args if choice is not type(None)])
    if origin is tuple and args[0] == Literal[FORMATS]:
        chosen = st.sets(st.sampled_from(FORMATS), min_size=1)
        return chosen.map(lambda names: tuple(name for name in FORMATS if name in names))
    if origin is tuple:
        return st.lists(filled(args[0]), min_size=1, max_size=2).map(tuple)
    if origin is Mapping:
        return st.dictionaries(TEXT, filled(args[1]), min_size=1, max_size=2)
    if origin is Literal:
        return st.sampled_from(args)
    raise TypeError(f"no strategy fills {kind}: add one here")


def alternatives(kind: Any) -> list[st.SearchStrategy[Any]]:
    """One strategy at least for each member of every union inside a type."""
    if kind is ContextReference:
        return [
            st.builds(ContextReference, handle=SCALARS[bytes]),
            st.builds(ContextReference, tensor=OVERRIDES[PackedTensor]),
        ]
    if get_origin(kind) in (Union, types.UnionType):
        members = [member for member in get_args(kind) if member is not type(None)]
        return [found for member in members for found in alternatives(member)]
    if is_dataclass(kind) and isinstance(kind, type) and kind not in OVERRIDES:
        hints = get_type_hints(kind)
        rest = {f.name: unlike_default(f, hints[f.name]) for f in fields(kind)}
        varied = [(f.name, alternatives(hints[f.name])) for f in fields(kind)]
        return [
            st.builds(kind, **{**rest, name: found})
            for name, several in varied
            if len(several) > 1
            for found in several
        ] or [filled(kind)]
    return [filled(kind)]
