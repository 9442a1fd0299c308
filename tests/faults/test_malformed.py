"""Requests that are wrong, too large, from another version, or odd but right."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import grpc
import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.diffusion.request_options import MAX_STEPS
from cascade.errors import TransportError, VersionMismatch
from cascade.request import MAX_PROMPT_CHARACTERS
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_client import Client
from tests.attacks.test_wire_attacks import ATTACKS, PIXELS_CHUNK, answer_to, png_file
from tests.faults.relay import relay
from tests.support.asking import CONTEXT, START, answer, asking, differs
from tests.support.leaks import check_silence
from tests.support.server_process import Victim
from tests.support.serving import (
    PROMPT,
    SERVICE,
    Caller,
    details_of,
    pixels,
    request_message,
    results_of,
    tensor_message,
)
from tests.support.tiny_bundle import MAX_TOKENS, WIDTH
from wire.limits import MAX_CONTEXT_TOKENS, MAX_MESSAGE_BYTES, MAX_REQUEST_ID

CALLS = 1000
"""On one channel, one after another."""
MAX_ENCODED = 256 << 10
UNKNOWN_FIELD = b"\xfa\x3e\x05later"
"""Field 1007, as a newer version might send it."""


def code_of(caller: Caller, request: Any) -> str:
    """The code that a request ends with; a stream that begins is OK and given up."""
    call = caller.generate(request)
    try:
        next(call)
    except grpc.RpcError as exc:
        check_silence(exc)
        return details_of(exc)[0]
    call.cancel()
    return "OK"


def test_each_malformed_input_names_its_field(quick: Victim, quick_caller: Caller) -> None:
    """16. Every row of the table of malformed inputs, against the process; it stays alive."""
    for attack in ATTACKS:
        got = answer_to(attack, quick_caller, quick.bundle)
        assert got == (*attack.answer, attack.field), attack.name
    picture = pixels(results_of(quick_caller.generate(asking(quick.bundle)))["sr32"].image)
    assert not differs(picture, answer(quick.bundle))


def prompted(bundle: Bundle, size: int) -> Any:
    """A prompt of one known word and blanks."""
    return asking(bundle, prompt=pb.PromptStart(prompt="apple".ljust(size - 1) + "a"))


def worded(bundle: Bundle, size: int) -> Any:
    """A prompt of so many tokens."""
    return asking(bundle, prompt=pb.PromptStart(prompt=" ".join(["apple"] * size)))


def stepped(bundle: Bundle, size: int) -> Any:
    """So many steps of one component."""
    return asking(bundle, {"base": size})


def named(bundle: Bundle, size: int) -> Any:
    """A request id of so many characters."""
    return asking(bundle, request_id="x" * size)


def embedded(bundle: Bundle, size: int) -> Any:
    """So many tokens of embeddings."""
    tensor = tensor_message(np.zeros((size, WIDTH), np.float16))
    return asking(bundle, context=pb.ContextStart(context=pb.ContextReference(tensor=tensor)))


def pictured(bundle: Bundle, size: int) -> Any:
    """A PNG of so many bytes."""
    data = png_file(8, 8, PIXELS_CHUNK).ljust(size, b"\0")
    image = pb.Image(width=8, height=8, format=pb.IMAGE_FORMAT_PNG, data=data)
    reference = pb.ContextReference(tensor=tensor_message(CONTEXT))
    return asking(bundle, image=pb.ImageStart(context=reference, image=image))


@pytest.mark.parametrize(
    ("make", "limit"),
    [
        (prompted, MAX_PROMPT_CHARACTERS),
        (worded, MAX_TOKENS),
        (stepped, MAX_STEPS),
        (named, MAX_REQUEST_ID),
        (embedded, MAX_CONTEXT_TOKENS),
        (pictured, MAX_ENCODED),
    ],
)
def test_both_sides_of_a_limit(
    make: Callable[[Bundle, int], Any], limit: int, quick: Victim, quick_caller: Caller
) -> None:
    """18. The limit itself is served, one more is INVALID_ARGUMENT."""
    assert code_of(quick_caller, make(quick.bundle, limit)) == "OK"
    assert code_of(quick_caller, make(quick.bundle, limit + 1)) == "INVALID_ARGUMENT"


def test_both_sides_of_the_message_limit(quick_caller: Caller) -> None:
    """18. At the limit the message is read (and is nonsense), one byte more is not read at all."""
    for size, code in ((0, "INVALID_ARGUMENT"), (1, "RESOURCE_EXHAUSTED")):
        with pytest.raises(grpc.RpcError) as refused:
            quick_caller.put_context(b"\xff" * (MAX_MESSAGE_BYTES + size))
        assert refused.value.code().name == code
        check_silence(refused.value)


def test_bad_settings_are_refused_at_the_start(bundle: Bundle) -> None:
    """18. Exit code 2 and one line that names the setting, whichever it is."""
    settings = {
        "--max-queued-per-stage": "-1",
        "--threads": "-1",
        "--drain-grace-s": "nan",
        "--listen": "127.0.0.1:99999",
        "--engine": "base=nonsense",
        "--cut": "9",
    }
    with ExitStack() as stack:
        started = {name: Victim(bundle, name, value) for name, value in settings.items()}
        for server in started.values():
            stack.callback(server.kill)
        for name, server in started.items():
            assert server.wait(120) == 2, name
            (line,) = (line for line in server.lines if not line.startswith("{"))
            assert line.startswith("error: ")
            assert name.strip("-").split("-")[0] in line


def test_what_a_newer_client_adds_is_ignored(quick: Victim, quick_caller: Caller) -> None:
    """29. Unknown fields of a request change nothing, an unknown choice of a oneof is no start."""
    data = asking(quick.bundle).SerializeToString() + UNKNOWN_FIELD
    picture = pixels(results_of(quick_caller.generate(data))["sr32"].image)
    assert not differs(picture, answer(quick.bundle))
    message = request_message(quick.bundle).SerializeToString() + UNKNOWN_FIELD
    with pytest.raises(grpc.RpcError) as refused:
        list(quick_caller.generate(message))
    assert details_of(refused.value)[:3] == ("INVALID_ARGUMENT", "INVALID_REQUEST", "start")


def test_an_older_client_is_served(quick: Victim, quick_caller: Caller) -> None:
    """29. A request of the first fields alone, as the first version wrote it."""
    message = pb.GenerateRequest(
        request_id="old", bundle_id=quick.bundle.bundle_id, prompt=START, seed=4
    )
    assert set(results_of(quick_caller.generate(message))) >= {"base", "sr16", "sr32"}


def newer_events(method: str, message: bytes) -> list[bytes]:
    """Each event of a stream with an unknown field, and an unknown event after it."""
    return [message + UNKNOWN_FIELD, UNKNOWN_FIELD] if method == "Generate" else [message]


def newer_version(method: str, message: bytes) -> list[bytes]:
    """A server that speaks another version of the wire."""
    if method != "GetServerInfo":
        return [message]
    info = pb.GetServerInfoResponse.FromString(message)
    info.wire_version += 1
    return [info.SerializeToString()]


def test_a_newer_server_is_understood_or_refused(quick: Victim) -> None:
    """29. Unknown events pass; another version of the wire is a typed error, not a crash."""
    with (
        relay(quick.address, change=newer_events) as newer,
        Client(quick.bundle, server=newer.address, cut=0, timeout_s=120) as client,
    ):
        assert client.generate(PROMPT).image.shape == (32, 32, 3)
    with (
        relay(quick.address, change=newer_version) as newer,
        Client(quick.bundle, server=newer.address, cut=0, timeout_s=120) as client,
        pytest.raises(VersionMismatch),
    ):
        client.generate(PROMPT)


def test_a_server_of_another_kind_is_a_typed_error(quick: Victim) -> None:
    """29. One that speaks gRPC but not this service, and one that sends nonsense."""

    def unimplemented(method: str, attempt: int) -> Any:
        return grpc.StatusCode.UNIMPLEMENTED, ()

    with (
        relay(quick.address, refuse=unimplemented) as other,
        Client(quick.bundle, server=other.address, cut=0, timeout_s=120) as client,
        pytest.raises(VersionMismatch),
    ):
        client.generate(PROMPT)
    with (
        relay(quick.address, change=lambda _, __: [b"\xff\xff\xff"]) as other,
        Client(quick.bundle, server=other.address, cut=0, timeout_s=120) as client,
        pytest.raises(TransportError),
    ):
        client.generate(PROMPT)


def test_empty_and_large_messages(quick: Victim, quick_caller: Caller) -> None:
    """30. empty_unary and large_unary: an empty request, and embeddings of the largest size."""
    assert quick_caller.server_info().components
    tensor = tensor_message(np.zeros((MAX_CONTEXT_TOKENS, WIDTH), np.float16))
    request = pb.PutContextRequest(bundle_id=quick.bundle.bundle_id, context=tensor)
    assert len(quick_caller.put_context(request).handle) == 32


def test_cancel_and_timeout_of_the_interop_list(slow: Victim, slow_caller: Caller) -> None:
    """30. cancel_after_begin, cancel_after_first_response, timeout_on_sleeping_server."""
    request = asking(slow.bundle, {"sr16": 1000, "sr32": 1000})
    call = slow_caller.generate(request)
    call.cancel()
    with pytest.raises(grpc.RpcError):
        next(call)
    assert call.code() == grpc.StatusCode.CANCELLED
    call = slow_caller.generate(request)
    next(call)
    call.cancel()
    assert call.code() == grpc.StatusCode.CANCELLED
    with pytest.raises(grpc.RpcError) as late:
        list(slow_caller.generate(request, timeout_s=0.001))
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_status_and_metadata_of_the_interop_list(quick: Victim, quick_caller: Caller) -> None:
    """30. status_code_and_message with letters of any script, custom_metadata, unknown names."""
    with pytest.raises(grpc.RpcError) as refused:
        list(quick_caller.generate(asking(quick.bundle, last_stage="größe 画 \U0001f600")))
    assert "größe 画 \U0001f600" in refused.value.details()
    call = quick_caller.channel.unary_unary(SERVICE + "GetServerInfo")
    metadata = (("x-note", "a"), ("x-note-bin", b"\0\xff"))
    assert call(b"", metadata=metadata, timeout=60)
    for path in (SERVICE + "Nonsense", "/cascade.v2.CascadeService/Generate"):
        with pytest.raises(grpc.RpcError) as unknown:
            quick_caller.channel.unary_unary(path)(b"", timeout=60)
        assert unknown.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_thousand_calls_on_one_channel(quick: Victim, quick_caller: Caller) -> None:
    """30. One after another; nothing piles up."""
    files, memory = quick.open_files, quick.rss_mib
    for _ in range(CALLS):
        quick_caller.server_info()
    assert quick.open_files <= files + 1
    assert quick.rss_mib - memory < 20
