"""Every message, every field: what one side encodes is what the other decodes, and nothing is lost.

The fields are the proto file's own (its descriptor) and those of the dataclasses: a field that one
of them has and the other has not is found here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cascade.errors import CascadeError
from protos.cascade.v1 import cascade_pb2 as pb
from tests.wire.filled import alternatives, filled
from wire import (
    bundle_files,
    cancels,
    contexts,
    fragments,
    generate_call,
    generate_events,
    payloads,
    server_info,
    service,
)

QUIET = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=30,
    # A machine that is busy with other tests is no finding.
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True, slots=True)
class Codec:
    """One message: its value, both directions, and the generated class."""

    kind: Any
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    message: Any


def encode_found(found: bool) -> bytes:  # noqa: FBT001 - one value, as the others
    """The answer of Cancel."""
    return cancels.encode_cancelled(found=found)


CODECS = (
    Codec(
        server_info.InfoCall,
        server_info.encode_info_request,
        server_info.decode_info_request,
        pb.GetServerInfoRequest,
    ),
    Codec(
        server_info.ServerInfo,
        server_info.encode_info,
        server_info.decode_info,
        pb.GetServerInfoResponse,
    ),
    Codec(
        contexts.PutContextCall,
        contexts.encode_put_context,
        contexts.decode_put_context,
        pb.PutContextRequest,
    ),
    Codec(
        contexts.ContextHandle,
        contexts.encode_stored_context,
        contexts.decode_stored_context,
        pb.PutContextResponse,
    ),
    Codec(
        generate_call.GenerateCall,
        generate_call.encode_generate,
        generate_call.decode_generate,
        pb.GenerateRequest,
    ),
    Codec(
        generate_events.GenerateEvent,
        generate_events.encode_event,
        generate_events.decode_event,
        pb.GenerateResponse,
    ),
    Codec(fragments.Fragment, fragments.encode_fragment, fragments.decode_fragment, pb.Fragment),
    Codec(str, cancels.encode_cancel, cancels.decode_cancel, pb.CancelRequest),
    Codec(bool, encode_found, cancels.decode_cancelled, pb.CancelResponse),
    Codec(
        bundle_files.OfferedManifest,
        bundle_files.encode_manifest,
        bundle_files.decode_manifest,
        pb.GetBundleManifestResponse,
    ),
    Codec(
        bundle_files.BundleFileCall,
        bundle_files.encode_file_call,
        bundle_files.decode_file_call,
        pb.ReadBundleFileRequest,
    ),
    Codec(bytes, bundle_files.encode_piece, bundle_files.decode_piece, pb.ReadBundleFileResponse),
)
EACH = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.message.DESCRIPTOR.name)

SAID_TWICE = {
    *(f"cascade.v1.StageOptions.{n}" for n in ("steps", "guidance", "augmentation", "diffusion")),
    "cascade.v1.ComponentInfo.output_height",
}
"""Written, and perhaps said again by another field, for peers before or after it: the options of
diffusion always, the height where an image is square."""


def is_map(field: FieldDescriptor) -> bool:
    """Whether a field is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def children(field: FieldDescriptor, value: Any) -> Iterator[Any]:
    """The messages inside a field that is set."""
    if is_map(field):
        inner = field.message_type.fields_by_name["value"].message_type
        yield from value.values() if inner is not None else ()
    elif field.message_type is not None:
        yield from value if field.is_repeated else (value,)


def set_fields(message: Any) -> Iterator[tuple[Any, FieldDescriptor]]:
    """Every field that is set in a message and in those inside it, with its holder."""
    for field, value in list(message.ListFields()):
        yield message, field
        for child in children(field, value):
            yield from set_fields(child)


@EACH
def test_what_is_encoded_is_decoded(codec: Codec) -> None:
    """With every field filled, the value comes back equal."""

    @QUIET
    @given(filled(codec.kind))
    def check(value: Any) -> None:
        assert codec.decode(codec.encode(value)) == value

    check()


@EACH
def test_every_field_that_is_written_is_read(codec: Codec) -> None:
    """A message that lacks any one field is another value, or refused."""

    @settings(QUIET, max_examples=12)
    @given(filled(codec.kind))
    def check(value: Any) -> None:
        data = codec.encode(value)
        count = len(list(set_fields(codec.message.FromString(data))))
        for number in range(count):
            message = codec.message.FromString(data)
            holder, field = list(set_fields(message))[number]
            if field.full_name in SAID_TWICE:
                continue
            holder.ClearField(field.name)
            try:
                assert codec.decode(message.SerializeToString()) != value, field.full_name
            except CascadeError:
                continue

    check()


def written_fields(codec: Codec) -> set[str]:
    """Names of all fields that an encoder sets when every value is filled."""
    seen: set[str] = set()

    @settings(QUIET, max_examples=3)
    @given(st.data())
    def look(data: st.DataObject) -> None:
        for strategy in alternatives(codec.kind):
            message = codec.message.FromString(codec.encode(data.draw(strategy)))
            seen.update(field.full_name for _, field in set_fields(message))

    look()
    return seen


def test_every_field_of_the_proto_file_is_a_field_of_a_value() -> None:
    """A field added to the proto and not to `wire` is named here."""
    declared = {
        field.full_name
        for message in pb.DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
    }
    written = set().union(*(written_fields(codec) for codec in CODECS))
    assert sorted(declared - written) == []


@pytest.mark.parametrize(
    ("enum", "table"),
    [
        (pb.Dtype, payloads.DTYPE_NUMBERS),
        (pb.ImageFormat, payloads.FORMAT_NUMBERS),
        (pb.Precision, payloads.PRECISION_NUMBERS),
    ],
    ids=["Dtype", "ImageFormat", "Precision"],
)
def test_every_enum_value_has_a_name(enum: Any, table: dict[Any, int]) -> None:
    """All but UNSPECIFIED."""
    assert sorted(table.values()) == sorted(set(enum.values()) - {0})


def test_the_service_is_the_proto_files() -> None:
    """Paths that are spelled here are those of the descriptor."""
    (declared,) = pb.DESCRIPTOR.services_by_name.values()
    assert declared.full_name == service.SERVICE_NAME
    spelled = {
        service.GET_SERVER_INFO,
        service.PUT_CONTEXT,
        service.GENERATE,
        service.GENERATE_FROM_FRAGMENTS,
        service.CANCEL,
        service.GET_BUNDLE_MANIFEST,
        service.READ_BUNDLE_FILE,
    }
    assert spelled == {f"/{declared.full_name}/{method.name}" for method in declared.methods}


def test_a_newer_peers_field_is_ignored() -> None:
    """Bytes of a field that this side does not know change nothing."""
    data = cancels.encode_cancel("r-1") + b"\x92\x7d\x03new"
    assert cancels.decode_cancel(data) == "r-1"
