"""Pictures that are larger than a message: the same at every cut, in both directions."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.errors import MessageTooLarge
from cascade.events import Event, Resumed
from cascade.request import GenerateRequest
from cascade.types import ImageU8
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_client.client import Client
from runtime_client.remote.resumable_stream import in_fragments
from runtime_server.protocol.oversized import shrink_result
from tests.faults.proxy import proxy
from tests.support.serving import (
    PROMPT,
    SERVICE,
    RunningServer,
    connect,
    details_of,
    local_results,
    pixels,
    raw_image,
    request_message,
    results_of,
    running,
    tensor_message,
    wait_until,
)
from tests.support.tiny_bundle import WIDTH, write_tiny_bundle
from wire.limits import MAX_MESSAGE_BYTES

SIZE = 2048
RAW_BYTES = 3 * SIZE**2
"""Of a picture; a message holds 8 MiB."""
NAMES = ("base", "sr2048", "same2048")
REQUEST = GenerateRequest(prompt=PROMPT, seed=3)
RAW = pb.OutputOptions(format=pb.IMAGE_FORMAT_RAW)
NOISE = np.random.default_rng(7).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
"""No encoder makes it smaller."""
CONTEXT = np.ones((3, WIDTH), np.float16)


@pytest.fixture(scope="module")
def large_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Trivial networks, large pictures."""
    return write_tiny_bundle(tmp_path_factory.mktemp("large") / "b", steps=1, sizes=(8, SIZE, SIZE))


@pytest.fixture(scope="module")
def expected(large_bundle: Bundle) -> dict[str, ImageU8]:
    """Every stage's right picture."""
    results = local_results(large_bundle, REQUEST)
    images = {name: result.handoff.image for name, result in results.items()}
    return {name: image for name, image in images.items() if image is not None}


@pytest.fixture(scope="module")
def server(large_bundle: Bundle) -> Iterator[RunningServer]:
    """One that hosts everything; on this machine our client asks for raw pixels."""
    with running(large_bundle) as server:
        yield server
        wait_until(lambda: server.is_at_rest)


@pytest.mark.parametrize("cut", range(4))
def test_large_pictures_are_the_same_at_every_cut(
    large_bundle: Bundle, server: RunningServer, expected: dict[str, ImageU8], cut: int
) -> None:
    """Raw, in fragments, down and, from the last cut on, up as well."""
    request = REQUEST if cut == 3 else replace(REQUEST, last_stage="sr2048")
    with Client(large_bundle, server=server.address, cut=cut, threads=1) as client:
        result = client.run(request)
    assert tuple(result.images) == NAMES[: 3 if cut == 3 else 2]
    for name, image in result.images.items():
        np.testing.assert_array_equal(image, expected[name], err_msg=name)
    assert result.bytes_down > RAW_BYTES


def test_large_pictures_survive_a_break_between_their_fragments(
    large_bundle: Bundle, server: RunningServer, expected: dict[str, ImageU8]
) -> None:
    """What came of the picture is thrown away and sent again."""
    events: list[Event] = []
    with (
        proxy(server.address, reset_after_bytes=5 << 20) as between,
        Client(large_bundle, server=between.address, cut=2, threads=1) as client,
    ):

        def note(event: Event) -> None:
            events.append(event)
            if isinstance(event, Resumed):
                between.weather.reset_after_bytes = 0

        result = client.run(replace(REQUEST, last_stage="sr2048"), on_event=note)
    assert any(isinstance(event, Resumed) for event in events)
    np.testing.assert_array_equal(result.image, expected["sr2048"])


def test_a_client_that_joins_nothing_gets_them_encoded(
    large_bundle: Bundle, server: RunningServer, expected: dict[str, ImageU8]
) -> None:
    """One that is older than fragments and asks for raw pixels; every message fits its limit."""
    message = request_message(large_bundle, prompt=pb.PromptStart(prompt=PROMPT), output=RAW)
    message.seed, message.last_stage = REQUEST.seed, "sr2048"
    with connect(server.address) as caller:
        results = results_of(caller.generate(message))
    last = results["sr2048"].image
    assert last.format == pb.IMAGE_FORMAT_WEBP
    np.testing.assert_array_equal(pixels(last), expected["sr2048"])


def test_what_no_encoder_makes_fit_is_a_typed_error() -> None:
    """It names the stage, the limit and the remedy."""
    result = pb.StageResult(stage="sr2048", image=raw_image(NOISE))
    message = pb.GenerateResponse(stage_result=result).SerializeToString()
    with pytest.raises(MessageTooLarge, match=f"sr2048: .* {MAX_MESSAGE_BYTES}") as found:
        shrink_result(message)
    assert found.value.field == "output.joins_fragments"


def from_noise(bundle: Bundle) -> bytes:
    """A request that starts from a picture of noise, larger than a message."""
    reference = pb.ContextReference(tensor=tensor_message(CONTEXT))
    start = pb.ImageStart(context=reference, image=raw_image(NOISE))
    output = pb.OutputOptions(format=pb.IMAGE_FORMAT_RAW, joins_fragments=True)
    data: bytes = request_message(bundle, image=start, output=output).SerializeToString()
    return data


def up(caller: Any, parts: list[Any]) -> Any:
    """GenerateFromFragments."""
    call = caller.channel.stream_stream(
        SERVICE + "GenerateFromFragments",
        request_serializer=pb.Fragment.SerializeToString,
        response_deserializer=pb.GenerateResponse.FromString,
    )
    return call(iter(parts), timeout=300)


def test_a_request_goes_up_in_fragments(large_bundle: Bundle, server: RunningServer) -> None:
    """Of any size; the answer comes as it does without."""
    data = from_noise(large_bundle)
    assert len(data) > MAX_MESSAGE_BYTES
    parts = [pb.Fragment(data=data[at : at + 999_999]) for at in range(0, len(data), 999_999)]
    parts[-1].last = True
    joined = bytearray()
    with connect(server.address) as caller:
        for response in up(caller, parts):
            joined += response.fragment.data
    result = pb.GenerateResponse.FromString(bytes(joined)).stage_result
    assert (result.stage, result.image.width) == ("same2048", SIZE)


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ([pb.Fragment(data=b"x")], "last"),
        ([], "last"),
        ([pb.Fragment(data=b"\xff\xff", last=True)], "message"),
        ([pb.Fragment(data=bytes(4 << 20))] * 10, "data"),
    ],
    ids=["no end", "none", "no request", "too many"],
)
def test_fragments_of_no_request_are_refused(
    server: RunningServer, parts: list[Any], field: str
) -> None:
    """Each under the name of what is wrong; nothing stays inside."""
    with connect(server.address) as caller, pytest.raises(Exception, match="INVALID") as found:
        list(up(caller, parts))
    assert details_of(found.value)[:3] == ("INVALID_ARGUMENT", "INVALID_REQUEST", field)


def test_a_server_that_knows_no_fragments_is_not_sent_any(
    large_bundle: Bundle, server: RunningServer
) -> None:
    """The error comes before the bytes, and names both limits."""
    with Client(large_bundle, server=server.address) as client:
        peer = client._resources.connection().link.begin_handshake().result(timeout=60)
        assert in_fragments(peer, bytes(9 << 20))[0].endswith("GenerateFromFragments")
        with pytest.raises(MessageTooLarge, match="the server takes"):
            in_fragments(peer, bytes(peer.info.limits.max_joined_bytes + 1))
