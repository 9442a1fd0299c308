"""docs/reference/grpc-api.md: its messages, sent as they stand there, its vectors and claims."""

import hashlib
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import text_format

from cascade.bundle.bundle import Bundle
from cascade.bundle.manifest import canonical, read_manifest
from protos.cascade.v1 import cascade_pb2 as pb
from protos.cascade.v1.cascade_pb2_grpc import CascadeServiceStub
from tests.support.serving import RunningServer, details_of
from wire.contexts import context_handle
from wire.limits import MAX_MESSAGE_BYTES

ROOT = Path(__file__).parents[2]
REFERENCE_PAGES = ROOT / "docs" / "reference"
PAGE = (REFERENCE_PAGES / "grpc-api.md").read_text()
FORMAT_PAGE = (REFERENCE_PAGES / "bundle-format.md").read_text()
NUMERICS_PAGE = (REFERENCE_PAGES / "numerics.md").read_text()
REFERENCE = ROOT / "bundles" / "emoji-1" / "manifest.json"
NAMES = ["text_encoder", "base", "sr16", "sr32"]
"""Components of the bundle that is served here."""


def blocks(kind: str, page: str = PAGE) -> list[str]:
    """A page's fenced blocks of one language that name this test."""
    named = r"<!-- checked by: tests/runtime_server/test_wire_page.py -->\n"
    return re.findall(rf"{named}```{kind}\n(.*?)```", page, re.DOTALL)


@pytest.fixture
def stub(server: RunningServer) -> Iterator[Any]:
    """The generated code over a channel with gRPC's own defaults: no client of ours."""
    with grpc.insecure_channel(server.address) as channel:
        yield CascadeServiceStub(channel)


def message(text: str, bundle_id: str) -> Any:
    """A request as the page writes it."""
    return text_format.Parse(text.replace("BUNDLE_ID", bundle_id), pb.GenerateRequest())


def results(events: list[Any]) -> list[Any]:
    """The results among events."""
    return [event.stage_result for event in events if event.WhichOneof("event") == "stage_result"]


def test_the_calls_of_the_page_do_what_it_says(stub: Any) -> None:
    """A picture, the rest of it, all of it again, and an end."""
    info = stub.GetServerInfo(pb.GetServerInfoRequest(), timeout=120)
    assert info.wire_version == 1
    whole, rest, resumed = (message(text, info.bundle_id) for text in blocks("textproto"))
    events = list(stub.Generate(whole, timeout=60))
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "accepted"
    assert not events[0].accepted.joined
    assert kinds[-1] == "done"
    assert set(kinds[1:-1]) <= {"progress", "preview", "stage_result"}
    first = results(events)
    assert [result.stage for result in first] == [c.name for c in info.components] == NAMES
    assert [result.HasField("context") for result in first] == [True, False, False, False]
    assert [result.HasField("image") for result in first] == [False, True, True, True]
    assert first[-1].image.format == pb.IMAGE_FORMAT_WEBP
    events = list(stub.Generate(rest, timeout=60))
    assert events[0].accepted.joined
    assert results(events) == first[2:]
    events = list(stub.Generate(resumed, timeout=60))
    assert results(events) == first
    assert stub.Cancel(pb.CancelRequest(request_id=whole.request_id), timeout=120).found
    with pytest.raises(grpc.RpcError) as gone:
        list(stub.Generate(resumed, timeout=60))
    assert details_of(gone.value)[:2] == ("NOT_FOUND", "UNKNOWN_REQUEST")


def stripped(text: str) -> str:
    """JSON without white space outside strings, by hand."""
    return re.sub(r'("(?:[^"\\]|\\.)*")|\s+', lambda found: found[1] or "", text)


def test_the_bundle_id_is_the_manifest_without_white_space(bundle: Bundle) -> None:
    """Of the reference bundle, of the one that is served, and of the page's example."""
    for text in (REFERENCE.read_text(), (bundle.folder / "manifest.json").read_text()):
        assert stripped(text) == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
        named = read_manifest(text.encode()).bundle_id
        assert hashlib.sha256(stripped(text).encode()).hexdigest() == named
    served = (bundle.folder / "manifest.json").read_text()
    assert stripped(served).encode() == canonical(bundle.manifest)
    (example,) = blocks("json", FORMAT_PAGE)
    data = stripped(example).encode()
    assert f"has {len(data)} bytes without white space" in FORMAT_PAGE
    assert f"the sha256 `{hashlib.sha256(data).hexdigest()}`" in FORMAT_PAGE


def test_the_handle_of_the_page_is_the_servers(stub: Any) -> None:
    """Its data are those of the array, and the name is theirs."""
    values = [[0, 1], [-2, 0.5]]
    data = struct.pack("<4e", *np.ravel(values))
    assert f"`{data.hex()}`" in NUMERICS_PAGE
    handle = hashlib.sha256(b"2x2:float16:" + data).digest()
    assert f"`{handle.hex()}`" in NUMERICS_PAGE
    assert context_handle(np.array(values, np.float16)) == handle


def test_results_held_counts_results_from_the_first(stub: Any, bundle: Bundle) -> None:
    """More than there are leaves all out; the end is told."""
    request = message(blocks("textproto")[0], bundle.bundle_id)
    request.request_id = "wire-page-held"
    list(stub.Generate(request, timeout=60))
    for held, left in ((1, NAMES[1:]), (4, []), (100, [])):
        request.results_held = held
        events = list(stub.Generate(request, timeout=60))
        assert [result.stage for result in results(events)] == left
        assert events[-1].WhichOneof("event") == "done"


def test_seconds_have_the_names_of_the_page(stub: Any, bundle: Bundle) -> None:
    """Of each component, and of the whole."""
    request = message(blocks("textproto")[0], bundle.bundle_id)
    request.request_id = "wire-page-seconds"
    events = list(stub.Generate(request, timeout=60))
    by_stage = {result.stage: set(result.seconds) for result in results(events)}
    assert by_stage["text_encoder"] == {"queue", "tokenise", "encode"}
    for name in NAMES[1:]:
        assert by_stage[name] == {"queue", name, "encode"}
    done = events[-1].done.seconds
    assert set(done) == {"queue", "encode", *NAMES}
    waited = sum(result.seconds["queue"] for result in results(events))
    assert done["queue"] == pytest.approx(waited)
    encoder = results(events)[0].seconds
    assert done["text_encoder"] == pytest.approx(encoder["tokenise"] + encoder["encode"])


def test_options_of_what_does_not_run_are_checked_and_meant(stub: Any, bundle: Bundle) -> None:
    """They change no picture; the id means them."""
    request = message(blocks("textproto")[0], bundle.bundle_id)
    request.request_id, request.last_stage = "wire-page-options", "sr16"
    plain = results(list(stub.Generate(request, timeout=60)))[-1].image
    request.options["sr32"].steps = 2
    with pytest.raises(grpc.RpcError) as other:
        list(stub.Generate(request, timeout=60))
    assert details_of(other.value)[1] == "REQUEST_ID_TAKEN"
    request.request_id = "wire-page-options-2"
    assert results(list(stub.Generate(request, timeout=60)))[-1].image == plain
    request.options["sr32"].steps = 100_000
    with pytest.raises(grpc.RpcError) as wrong:
        list(stub.Generate(request, timeout=60))
    assert details_of(wrong.value)[:2] == ("INVALID_ARGUMENT", "INVALID_REQUEST")


def test_grpcs_own_answers_carry_no_details(server: RunningServer, stub: Any) -> None:
    """Unknown methods and messages over the limit; what it says of the limit is true."""
    assert stub.GetServerInfo(pb.GetServerInfoRequest()).limits.max_message_bytes == 8 << 20
    assert MAX_MESSAGE_BYTES == 8 << 20
    options = (("grpc.max_send_message_length", -1),)
    with grpc.insecure_channel(server.address, options) as channel:
        for method, data, code in (
            ("Other", b"", "UNIMPLEMENTED"),
            ("PutContext", b"x" * (MAX_MESSAGE_BYTES + 1), "RESOURCE_EXHAUSTED"),
        ):
            call = channel.unary_unary(f"/cascade.v1.CascadeService/{method}")
            with pytest.raises(grpc.RpcError) as failed:
                call(data, timeout=120)
            assert details_of(failed.value) == (code, "", "", None)
    with grpc.insecure_channel("127.0.0.1:1") as channel, pytest.raises(grpc.RpcError) as absent:
        CascadeServiceStub(channel).GetServerInfo(pb.GetServerInfoRequest(), timeout=120)
    assert absent.value.code() == grpc.StatusCode.UNAVAILABLE
