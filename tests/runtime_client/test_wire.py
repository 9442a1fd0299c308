"""Our types to bytes and back: what the other side reads is what was meant."""

import numpy as np
import pytest

from cascade.codecs.image import encode_image
from cascade.codecs.tensor import pack_tensor
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import StageError, TransportError
from cascade.events import Accepted, Backend, Progress
from cascade.precision import Precision
from cascade.request import GenerateRequest
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_client.remote import wire
from runtime_client.remote.image_payload import pack_smallest, unpack_image
from runtime_client.remote.messages import (
    Done,
    EncodedImage,
    GenerateCall,
    PackedPreview,
    StageResult,
    Start,
)

CONTEXT = np.arange(12, dtype=np.float16).reshape(3, 4)
NOISE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
FLAT = np.full((64, 64, 3), 7, np.uint8)


def sent(start: Start, request: GenerateRequest | None = None) -> pb.GenerateRequest:
    """The message that the server would read."""
    call = GenerateCall(
        request_id="r-1",
        bundle_id="b" * 64,
        start=start,
        request=request or GenerateRequest(),
        last_stage="sr32",
        format="raw",
    )
    return pb.GenerateRequest.FromString(wire.encode_generate(call))


def test_every_choice_of_a_request_travels() -> None:
    """Seed, index, stage, options and output are in the message."""
    request = GenerateRequest(
        seed=2**64 - 1,
        image_index=7,
        preview_every=2,
        options={
            "sr16": DiffusionOptions(steps=5, augmentation=0.0),
            "sr32": DiffusionOptions(guidance=1),
        },
    )
    message = sent(Start(prompt="a cat"), request)
    assert (message.request_id, message.bundle_id) == ("r-1", "b" * 64)
    assert (message.seed, message.image_index) == (2**64 - 1, 7)
    assert message.last_stage == "sr32"
    assert message.output.format == pb.IMAGE_FORMAT_RAW
    assert message.output.preview_every == 2
    assert message.options["sr16"].steps == 5
    assert message.options["sr16"].HasField("augmentation")
    assert not message.options["sr16"].HasField("guidance")
    assert message.options["sr32"].guidance == 1.0


def test_a_start_from_words() -> None:
    """Cut 0 sends the prompt alone."""
    message = sent(Start(prompt="a cat"))
    assert message.WhichOneof("start") == "prompt"
    assert message.prompt.prompt == "a cat"


def test_a_start_from_a_context() -> None:
    """Cut 1 sends the embeddings alone, bit for bit."""
    message = sent(Start(context=CONTEXT))
    assert message.WhichOneof("start") == "context"
    tensor = message.context.context.tensor
    assert (list(tensor.shape), tensor.dtype) == ([3, 4], pb.DTYPE_FLOAT16)
    assert tensor.data == CONTEXT.tobytes()


def test_a_start_from_a_picture() -> None:
    """Later cuts send a handle and a picture without loss."""
    message = sent(Start(handle=b"h" * 32, image=pack_smallest(NOISE)))
    assert message.WhichOneof("start") == "image"
    assert message.image.context.handle == b"h" * 32
    assert (message.image.image.width, message.image.image.height) == (8, 8)


def test_a_start_without_anything_is_our_bug() -> None:
    """It is refused here rather than sent."""
    with pytest.raises(StageError):
        sent(Start())


def test_noise_travels_raw_and_flat_colours_as_webp() -> None:
    """Whichever is smaller, and exact either way."""
    assert pack_smallest(NOISE).format == "raw"
    assert pack_smallest(FLAT).format == "webp"
    for image in (NOISE, FLAT):
        size = image.shape[0]
        back = unpack_image(pack_smallest(image), sizes=range(size, size + 1), what="picture")
        np.testing.assert_array_equal(back, image)


def test_events_are_read() -> None:
    """Each kind of event as one of ours."""
    image = pb.Image(width=8, height=8, format=pb.IMAGE_FORMAT_RAW, data=NOISE.tobytes())
    packed = EncodedImage(8, 8, "raw", NOISE.tobytes())
    cases = [
        (
            pb.GenerateResponse(accepted=pb.Accepted(queue_position=2, estimated_wait_seconds=0.5)),
            Accepted(2, 0.5),
        ),
        (pb.GenerateResponse(progress=pb.Progress(stage="a", step=1, of=3)), Progress("a", 1, 3)),
        (
            pb.GenerateResponse(preview=pb.Preview(stage="a", step=1, image=image)),
            PackedPreview("a", 1, packed),
        ),
        (
            pb.GenerateResponse(
                stage_result=pb.StageResult(stage="a", image=image, seconds={"a": 1.0})
            ),
            StageResult("a", packed, None, {"a": 1.0}),
        ),
        (pb.GenerateResponse(done=pb.Done(seconds={"queue": 0.25})), Done({"queue": 0.25})),
        (pb.GenerateResponse(), None),
    ]
    for message, expected in cases:
        assert wire.decode_event(message.SerializeToString()) == expected


def test_a_context_comes_back() -> None:
    """After the text encoder on the server, bit for bit."""
    packed = pack_tensor(CONTEXT)
    tensor = pb.Tensor(shape=packed.shape, dtype=pb.DTYPE_FLOAT16, data=packed.data)
    message = pb.GenerateResponse(stage_result=pb.StageResult(stage="text", context=tensor))
    result = wire.decode_event(message.SerializeToString())
    assert isinstance(result, StageResult)
    assert result.context is not None
    np.testing.assert_array_equal(result.context, CONTEXT)


def test_server_info_is_read() -> None:
    """Names, formats that this client knows, and the lifetime of contexts."""
    reply = pb.GetServerInfoResponse(
        wire_version=1,
        bundle_id="b",
        components=[pb.ComponentInfo(name="sr32", position=3)],
        limits=pb.Limits(context_lifetime_seconds=60),
        image_formats=[pb.IMAGE_FORMAT_WEBP, pb.IMAGE_FORMAT_RAW],
    )
    info = wire.decode_info(reply.SerializeToString())
    assert info.components == ("sr32",)
    assert info.image_formats == ("raw", "webp")
    assert info.context_lifetime_s == 60


def test_broken_bytes_are_the_servers_fault() -> None:
    """A malformed message, tensor, format or size is a TransportError, never a crash."""
    tensor = pb.Tensor(shape=[2, 2], dtype=pb.DTYPE_FLOAT16, data=b"123")
    broken = pb.GenerateResponse(stage_result=pb.StageResult(stage="t", context=tensor))
    unknown = pb.GenerateResponse(preview=pb.Preview(image=pb.Image(width=1, height=1)))
    for data in (b"\xff\xff", broken.SerializeToString(), unknown.SerializeToString()):
        with pytest.raises(TransportError):
            wire.decode_event(data)
    for read in (wire.decode_info, wire.decode_stored_context):
        with pytest.raises(TransportError):
            read(b"\xff\xff")


@pytest.mark.parametrize(
    "image",
    [
        EncodedImage(100_000, 100_000, "png", encode_image(NOISE, "png")),
        EncodedImage(9, 8, "raw", NOISE.tobytes()),
        EncodedImage(8, 8, "raw", b"short"),
        EncodedImage(8, 8, "png", b"no picture"),
        EncodedImage(8, 8, "png", encode_image(FLAT, "png")),
    ],
)
def test_a_picture_of_another_size_is_refused(image: EncodedImage) -> None:
    """The size is known beforehand; nothing else is decoded."""
    with pytest.raises(TransportError):
        unpack_image(image, sizes=range(8, 9), what="picture")


def test_precisions_travel_both_ways() -> None:
    """What was asked for goes up; what computed comes down; what is unknown here is left out."""
    call = GenerateCall(
        request_id="r-1",
        bundle_id="b",
        start=Start(prompt="a"),
        request=GenerateRequest(),
        last_stage="sr32",
        format="raw",
        precisions={"sr16": Precision.INT8},
    )
    message = pb.GenerateRequest.FromString(wire.encode_generate(call))
    assert dict(message.precisions) == {"sr16": pb.PRECISION_INT8}
    info = pb.GetServerInfoResponse(
        components=[
            pb.ComponentInfo(name="sr16", precision=pb.PRECISION_INT8, engine="ort"),
            pb.ComponentInfo(name="sr32"),
            pb.ComponentInfo(name="new", precision=99),  # type: ignore[arg-type]
        ]
    )
    assert wire.decode_info(info.SerializeToString()).precisions == {"sr16": Precision.INT8}
    result = pb.StageResult(stage="sr16", precision=pb.PRECISION_INT8, engine="something new")
    event = wire.decode_event(pb.GenerateResponse(stage_result=result).SerializeToString())
    assert isinstance(event, StageResult)
    assert event.computed == Backend("something new", Precision.INT8)
