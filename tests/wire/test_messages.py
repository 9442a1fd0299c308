"""Our types to bytes and back: what the other side reads is what was meant."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from cascade.codecs.tensor import pack_tensor, unpack_tensor
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import StageError, TransportError
from cascade.events import Accepted, Backend, Progress
from cascade.precision import Precision
from protos.cascade.v1 import cascade_pb2 as pb
from wire.contexts import decode_stored_context
from wire.generate_call import GenerateCall, decode_generate, encode_generate
from wire.generate_events import Done, EncodedPreview, StageResult, decode_event
from wire.payloads import ContextReference, EncodedImage
from wire.server_info import decode_info
from wire.starts import (
    ContextStart,
    ImageStart,
    LabelStart,
    NoiseStart,
    PromptStart,
    ResumeStart,
    Start,
    TensorStart,
)

CONTEXT = np.arange(12, dtype=np.float16).reshape(3, 4)
LATENT = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)
NOISE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
PACKED_NOISE = EncodedImage(width=8, height=8, format="raw", data=NOISE.tobytes())
INLINE = ContextReference(tensor=pack_tensor(CONTEXT))


def sent(start: Start | None, **more: Any) -> pb.GenerateRequest:
    """The message that the server would read."""
    call = GenerateCall(
        request_id="r-1",
        bundle_id="b" * 64,
        start=start,
        last_stage="sr32",
        format="raw",
        **more,
    )
    return pb.GenerateRequest.FromString(encode_generate(call))


def test_every_choice_of_a_request_travels() -> None:
    """Seed, index, stage, options and output are in the message."""
    message = sent(
        PromptStart("a cat"),
        seed=2**64 - 1,
        image_index=7,
        preview_every=2,
        fewest_bytes=True,
        options={
            "sr16": DiffusionOptions(steps=5, augmentation=0.0),
            "sr32": DiffusionOptions(guidance=1),
        },
    )
    assert (message.request_id, message.bundle_id) == ("r-1", "b" * 64)
    assert (message.seed, message.image_index) == (2**64 - 1, 7)
    assert message.last_stage == "sr32"
    assert message.output.format == pb.IMAGE_FORMAT_RAW
    assert message.output.preview_every == 2
    assert message.output.fewest_bytes
    assert message.options["sr16"].steps == 5
    assert message.options["sr16"].HasField("augmentation")
    assert not message.options["sr16"].HasField("guidance")
    assert message.options["sr32"].guidance == 1.0


def test_a_start_from_words() -> None:
    """Cut 0 sends the prompt alone."""
    message = sent(PromptStart("a cat"))
    assert message.WhichOneof("start") == "prompt"
    assert message.prompt.prompt == "a cat"


def test_a_start_from_a_context() -> None:
    """Cut 1 sends the embeddings alone, bit for bit."""
    message = sent(ContextStart(INLINE))
    assert message.WhichOneof("start") == "context"
    tensor = message.context.context.tensor
    assert (list(tensor.shape), tensor.dtype) == ([3, 4], pb.DTYPE_FLOAT16)
    assert tensor.data == CONTEXT.tobytes()


def test_a_start_from_a_picture() -> None:
    """Later cuts send a handle and a picture without loss."""
    message = sent(ImageStart(PACKED_NOISE, ContextReference(handle=b"h" * 32)))
    assert message.WhichOneof("start") == "image"
    assert message.image.context.handle == b"h" * 32
    assert (message.image.image.width, message.image.image.height) == (8, 8)


def test_a_start_from_a_latent() -> None:
    """Bit for bit, in the dtype that it has."""
    for dtype, number in ((np.float32, pb.DTYPE_FLOAT32), (np.float16, pb.DTYPE_FLOAT16)):
        latent = LATENT.astype(dtype)
        tensor = sent(TensorStart(pack_tensor(latent), INLINE)).tensor.tensor
        assert (list(tensor.shape), tensor.dtype) == ([2, 3, 4], number)
        assert tensor.data == latent.tobytes()


def test_a_start_without_anything_is_our_bug() -> None:
    """It is refused here rather than sent."""
    for nothing in (None, ContextStart(ContextReference())):
        with pytest.raises(StageError):
            sent(nothing)


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (PromptStart(""), "prompt"),
        (ContextStart(INLINE), "context"),
        (ImageStart(PACKED_NOISE), "image"),
        (LabelStart(0), "label"),
        (NoiseStart(), "noise"),
        (ResumeStart(), "resume"),
        (TensorStart(pack_tensor(LATENT)), "tensor"),
        (TensorStart(pack_tensor(LATENT), INLINE), "tensor"),
    ],
)
def test_a_start_is_named_even_when_it_says_nothing(start: Start, kind: str) -> None:
    """An empty prompt, class 0 and a picture without text are starting points all the same."""
    message = sent(start)
    assert message.WhichOneof("start") == kind
    call = decode_generate(message.SerializeToString())
    assert (call.start, call.start_kind) == (start, kind)


def test_a_start_of_a_newer_client_is_none_here() -> None:
    """A message without a starting point is parsed; what it lacks, admission says."""
    call = decode_generate(pb.GenerateRequest(request_id="r-1").SerializeToString())
    assert (call.start, call.start_kind) == (None, None)


def test_options_of_an_older_client_are_those_of_diffusion() -> None:
    """The three fields before the families; beside a family they are ignored."""
    older = pb.StageOptions(steps=5, augmentation=0.0)
    both = pb.StageOptions(steps=5, diffusion=pb.DiffusionOptions(guidance=2))
    request = pb.GenerateRequest(options={"older": older, "both": both})
    call = decode_generate(request.SerializeToString())
    assert call.options == {
        "older": DiffusionOptions(steps=5, augmentation=0.0),
        "both": DiffusionOptions(guidance=2.0),
    }


def test_an_older_server_reads_the_options() -> None:
    """They are said in its fields too."""
    options = sent(PromptStart("a"), options={"sr16": DiffusionOptions(steps=5)}).options["sr16"]
    assert (options.steps, options.diffusion.steps) == (5, 5)
    assert not options.HasField("guidance")


def test_options_of_a_family_without_a_message_are_our_bug() -> None:
    """They are refused here rather than left out."""

    @dataclass(frozen=True)
    class UnknownOptions:
        """Of no family."""

        def check(self, path: str) -> None:
            """Nothing is wrong."""

    with pytest.raises(StageError, match="UnknownOptions"):
        sent(PromptStart("a"), options={"sr16": UnknownOptions()})


def test_events_are_read() -> None:
    """Each kind of event as one of ours."""
    image = pb.Image(width=8, height=8, format=pb.IMAGE_FORMAT_RAW, data=NOISE.tobytes())
    packed = PACKED_NOISE
    cases = [
        (
            pb.GenerateResponse(accepted=pb.Accepted(queue_position=2, estimated_wait_seconds=0.5)),
            Accepted(2, 0.5),
        ),
        (pb.GenerateResponse(progress=pb.Progress(stage="a", step=1, of=3)), Progress("a", 1, 3)),
        (
            pb.GenerateResponse(progress=pb.Progress(stage="a", step=1, of=3, unit="token")),
            Progress("a", 1, 3, "token"),
        ),
        (
            pb.GenerateResponse(preview=pb.Preview(stage="a", step=1, image=image)),
            EncodedPreview(stage="a", done=1, image=packed),
        ),
        (
            pb.GenerateResponse(
                stage_result=pb.StageResult(stage="a", image=image, seconds={"a": 1.0})
            ),
            StageResult(stage="a", image=packed, seconds={"a": 1.0}),
        ),
        (pb.GenerateResponse(done=pb.Done(seconds={"queue": 0.25})), Done(seconds={"queue": 0.25})),
        (pb.GenerateResponse(), None),
    ]
    for message, expected in cases:
        assert decode_event(message.SerializeToString()) == expected


def test_a_context_comes_back() -> None:
    """After the text encoder on the server, bit for bit."""
    packed = pack_tensor(CONTEXT)
    tensor = pb.Tensor(shape=packed.shape, dtype=pb.DTYPE_FLOAT16, data=packed.data)
    message = pb.GenerateResponse(stage_result=pb.StageResult(stage="text", context=tensor))
    result = decode_event(message.SerializeToString())
    assert isinstance(result, StageResult)
    assert result.context is not None
    np.testing.assert_array_equal(unpack_tensor(result.context, field="context"), CONTEXT)


def test_server_info_is_read() -> None:
    """Names, formats that this client knows, and the lifetime of contexts."""
    reply = pb.GetServerInfoResponse(
        wire_version=1,
        bundle_id="b",
        components=[pb.ComponentInfo(name="sr32", position=3, output_resolution=32)],
        limits=pb.Limits(context_lifetime_seconds=60),
        image_formats=[pb.IMAGE_FORMAT_WEBP, pb.IMAGE_FORMAT_RAW],
    )
    info = decode_info(reply.SerializeToString())
    assert [component.name for component in info.components] == ["sr32"]
    assert info.image_formats == ("raw", "webp")
    assert info.limits.context_lifetime_s == 60
    assert (info.components[0].output_width, info.components[0].output_height) == (32, 32)


def test_broken_bytes_are_the_servers_fault() -> None:
    """A malformed message or an unknown format is a TransportError, never a crash."""
    unknown = pb.GenerateResponse(preview=pb.Preview(image=pb.Image(width=1, height=1)))
    for data in (b"\xff\xff", unknown.SerializeToString()):
        with pytest.raises(TransportError):
            decode_event(data)
    for read in (decode_info, decode_stored_context):
        with pytest.raises(TransportError):
            read(b"\xff\xff")


def test_precisions_travel_both_ways() -> None:
    """What was asked for goes up; what computed comes down; what is unknown here is left out."""
    message = sent(PromptStart("a"), precisions={"sr16": Precision.INT8})
    assert dict(message.precisions) == {"sr16": pb.PRECISION_INT8}
    info = pb.GetServerInfoResponse(
        components=[
            pb.ComponentInfo(name="sr16", precision=pb.PRECISION_INT8, engine="ort"),
            pb.ComponentInfo(name="sr32"),
            pb.ComponentInfo(name="new", precision=99),  # type: ignore[arg-type]
        ]
    )
    components = decode_info(info.SerializeToString()).components
    assert [component.precision for component in components] == [Precision.INT8, None, None]
    result = pb.StageResult(
        stage="sr16", precision=pb.PRECISION_INT8, engine="something new", engine_seconds=0.5
    )
    event = decode_event(pb.GenerateResponse(stage_result=result).SerializeToString())
    assert isinstance(event, StageResult)
    assert event.computed == Backend("something new", Precision.INT8)
    assert event.engine_s == 0.5
