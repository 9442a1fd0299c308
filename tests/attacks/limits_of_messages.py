"""The limits on what one call may carry, each probed over a real socket."""

# ruff: noqa: ARG005  every probe is given the ground, and few need it

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np

from cascade.codecs.image import encode_image
from cascade.codecs.tensor import MAX_ELEMENTS, MAX_RANK, PackedTensor, unpack_tensor
from cascade.diffusion.request_options import MAX_GUIDANCE, MAX_STEPS
from cascade.edit import MAX_RESAMPLE
from cascade.errors import InvalidRequest
from cascade.families import MAX_OWN_PIXELS, MAX_OWN_SIDE, check_own_size
from cascade.request import (
    MAX_IMAGE_INDEX,
    MAX_LABEL,
    MAX_PREVIEWS,
    MAX_PROMPT_CHARACTERS,
    MAX_SEED,
    MAX_SIDE,
    GenerateRequest,
)
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_client.remote.transport import Security, Transport
from runtime_server.admission.checks import MAX_ENCODED_IMAGE_BYTES
from runtime_server.protocol.status import MAX_MESSAGE_CHARACTERS, status_of
from tests.attacks.limits import OK, Ground, Limit, answer_of, generated, once, raised_by
from tests.support.serving import SERVICE, raw_image, tensor_message
from tests.support.tiny_bundle import MAX_TOKENS, WIDTH
from wire.contexts import HANDLE_BYTES
from wire.limits import (
    MAX_CONTEXT_TOKENS,
    MAX_LINGER_S,
    MAX_MESSAGE_BYTES,
    MAX_METADATA_BYTES,
    MAX_PADDING_BYTES,
    MAX_REQUEST_ID,
)

BUNDLE_LIMITS, REQUEST = "cascade/bundle/wire_limits.py", "cascade/request.py"
WIRE, DIFFUSION = "wire/limits.py", "cascade/diffusion/request_options.py"
PICTURE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
CONTEXT = np.zeros((2, WIDTH), np.float16)


def message_of(ground: Ground, size: int) -> str:
    """A PutContext message of so many bytes; its tensor is wrong in any case."""
    empty = pb.PutContextRequest(bundle_id=ground.bundle.bundle_id)
    empty.context.data = bytes(size)
    empty.context.data = bytes(2 * size - len(empty.SerializeToString()))
    data = empty.SerializeToString()
    assert len(data) == size
    with ground.caller() as caller:
        return answer_of(once(lambda: caller.put_context(data)))


def reply_of(ground: Ground, size: int) -> str:
    """A server's reply of so many bytes, as the client takes it."""
    with answering(bytes(size)) as address:
        transport = Transport(address, Security())
        try:
            return raised_by(lambda: transport.unary("/a.B/C", b"", timeout_s=120))
        finally:
            transport.close()


@contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """A server that answers everything with the same bytes."""

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            del details
            return grpc.unary_unary_rpc_method_handler(lambda data, context: reply)

    options = (("grpc.max_send_message_length", -1),)
    server = grpc.server(futures.ThreadPoolExecutor(1), (Handler(),), options=options)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def metadata_of(ground: Ground, size: int) -> str:
    """Metadata of so many bytes, what gRPC itself sends left out of the count."""
    with ground.caller() as caller:
        call = caller.channel.unary_unary(SERVICE + "GetServerInfo")
        return answer_of(once(lambda: call(b"", metadata=(("x-junk", "j" * size),), timeout=120)))


def informed(ground: Ground, **padding: Any) -> str:
    """A call of `GetServerInfo` that is filled up."""
    message = pb.GetServerInfoRequest(**padding).SerializeToString()
    with ground.caller() as caller:
        call = caller.channel.unary_unary(SERVICE + "GetServerInfo")
        return answer_of(once(lambda: call(message, timeout=120)))


def options_of(ground: Ground, component: str, **chosen: Any) -> str:
    """Options of one component; the work stops after it."""
    options = {component: pb.StageOptions(**chosen)}
    return generated(ground, options=options, last_stage=component)


def stored(ground: Ground, tokens: int) -> str:
    """A context of so many tokens."""
    tensor = tensor_message(np.zeros((tokens, WIDTH), np.float16))
    message = pb.PutContextRequest(bundle_id=ground.bundle.bundle_id, context=tensor)
    with ground.caller() as caller:
        return answer_of(once(lambda: caller.put_context(message)))


def imaged(ground: Ground, **image: Any) -> str:
    """A start from an image."""
    message = pb.Image(**{"width": 8, "height": 8, "format": pb.IMAGE_FORMAT_PNG, **image})
    reference = pb.ContextReference(tensor=tensor_message(CONTEXT))
    start = pb.ImageStart(context=reference, image=message)
    return generated(ground, image=start, last_stage="sr16")


def sized(ground: Ground, size: int) -> str:
    """A PNG of so many pixels each way."""
    picture = np.zeros((size, size, 3), np.uint8)
    return imaged(ground, width=size, height=size, data=encode_image(picture, "png"))


def padded(ground: Ground, size: int) -> str:
    """A good PNG, filled up behind its end to so many bytes."""
    data = encode_image(PICTURE, "png")
    return imaged(ground, data=data + bytes(size - len(data)))


def handled(ground: Ground, size: int) -> str:
    """A handle of so many bytes that nobody knows."""
    start = pb.ContextStart(context=pb.ContextReference(handle=bytes(size)))
    return generated(ground, context=start)


def unpacked(ground: Ground, shape: tuple[int, ...]) -> str:
    """A tensor of uint8, taken apart here."""
    del ground
    data = bytes(int(np.prod(shape)))
    return raised_by(lambda: unpack_tensor(PackedTensor(shape, "uint8", data), field="t"))


def told(ground: Ground, characters: int) -> str:
    """Whether a whole message of an error arrives."""
    del ground
    status = status_of(InvalidRequest("x" * characters))
    return OK if len(status.message) == characters else f"cut to {len(status.message)}"


def after(value: float) -> float:
    """The next float32, which is what the wire carries."""
    return float(np.nextafter(np.float32(value), np.float32(np.inf)))


WORDS = pb.PromptStart(prompt="a cat")


def edited(ground: Ground, side: int, **fields: Any) -> str:
    """An edit of a square picture; the work stops after the first stage."""
    picture = raw_image(np.zeros((side, side, 3), np.uint8))
    edit = pb.Edit(picture=picture, **fields)
    return generated(ground, prompt=WORDS, edit=edit, last_stage="base")


def prompted(ground: Ground, prompt: str) -> str:
    """A prompt."""
    return generated(ground, prompt=pb.PromptStart(prompt=prompt))


MESSAGES = [
    Limit(
        name="request-bytes", what="one message to the server",
        bound=f"{MAX_MESSAGE_BYTES >> 20} MiB", set_by=(f"{BUNDLE_LIMITS}:MAX_MESSAGE_BYTES",),
        probe=message_of, within=MAX_MESSAGE_BYTES, beyond=MAX_MESSAGE_BYTES + 1,
        passes="TENSOR_CODEC_ERROR context.dtype", refused="RESOURCE_EXHAUSTED",
    ),
    Limit(
        name="reply-bytes", what="one message to the client",
        bound=f"{MAX_MESSAGE_BYTES >> 20} MiB", set_by=(f"{BUNDLE_LIMITS}:MAX_MESSAGE_BYTES",),
        probe=reply_of, within=MAX_MESSAGE_BYTES, beyond=MAX_MESSAGE_BYTES + 1,
        refused="MESSAGE_TOO_LARGE",
    ),
    Limit(
        name="metadata-bytes", what="metadata of a call",
        bound=f"{MAX_METADATA_BYTES >> 10} KiB pass, twice as much never does",
        set_by=(f"{WIRE}:MAX_METADATA_BYTES",),
        probe=metadata_of, within=MAX_METADATA_BYTES - 1024, beyond=2 * MAX_METADATA_BYTES + 1,
        refused="RESOURCE_EXHAUSTED",
    ),
    Limit(
        name="info-padding", what="padding of `GetServerInfo`, up",
        bound=f"{MAX_PADDING_BYTES >> 10} KiB", set_by=(f"{WIRE}:MAX_PADDING_BYTES",),
        probe=lambda g, n: informed(g, padding=bytes(n)),
        within=MAX_PADDING_BYTES, beyond=MAX_PADDING_BYTES + 1, refused="INVALID_REQUEST padding",
    ),
    Limit(
        name="info-reply-padding", what="padding of `GetServerInfo`, down",
        bound=f"{MAX_PADDING_BYTES >> 10} KiB", set_by=(f"{WIRE}:MAX_PADDING_BYTES",),
        probe=lambda g, n: informed(g, reply_padding_bytes=n),
        within=MAX_PADDING_BYTES, beyond=MAX_PADDING_BYTES + 1,
        refused="INVALID_REQUEST reply_padding_bytes",
    ),
    Limit(
        name="request-id", what="request id", bound=f"1 to {MAX_REQUEST_ID} of `[A-Za-z0-9._-]`",
        set_by=(f"{WIRE}:MAX_REQUEST_ID",),
        probe=lambda ground, n: generated(ground, request_id="x" * n),
        within=MAX_REQUEST_ID, beyond=MAX_REQUEST_ID + 1, refused="INVALID_REQUEST request_id",
    ),
    Limit(
        name="prompt-characters", what="prompt", bound=f"{MAX_PROMPT_CHARACTERS:,} characters",
        set_by=(f"{REQUEST}:MAX_PROMPT_CHARACTERS",), probe=lambda g, n: prompted(g, "a" * n),
        within=MAX_PROMPT_CHARACTERS, beyond=MAX_PROMPT_CHARACTERS + 1,
        refused="INVALID_REQUEST prompt",
    ),
    Limit(
        name="prompt-tokens", what="prompt in tokens", bound="the bundle's `max_tokens`",
        set_by=("the bundle",), probe=lambda g, n: prompted(g, "apple " * n),
        within=MAX_TOKENS, beyond=MAX_TOKENS + 1, refused="INVALID_REQUEST prompt",
    ),
    Limit(
        name="context-tokens", what="context", bound=f"1 to {MAX_CONTEXT_TOKENS} tokens",
        set_by=(f"{BUNDLE_LIMITS}:MAX_CONTEXT_TOKENS",), probe=stored,
        within=MAX_CONTEXT_TOKENS, beyond=MAX_CONTEXT_TOKENS + 1,
        refused="TENSOR_CODEC_ERROR context.shape",
    ),
    Limit(
        name="handle-bytes", what="handle of a context", bound=f"exactly {HANDLE_BYTES} bytes",
        set_by=("wire/contexts.py:HANDLE_BYTES",), probe=handled,
        within=HANDLE_BYTES, beyond=HANDLE_BYTES + 1,
        passes="UNKNOWN_CONTEXT context.context.handle",
        refused="INVALID_REQUEST context.context.handle",
    ),
    Limit(
        name="steps", what="steps of a stage", bound=f"1 to {MAX_STEPS:,}",
        set_by=(f"{DIFFUSION}:MAX_STEPS",), probe=lambda g, n: options_of(g, "base", steps=n),
        within=MAX_STEPS, beyond=MAX_STEPS + 1, refused="INVALID_REQUEST options.base.steps",
    ),
    Limit(
        name="no-steps", what="steps of a stage, below", bound="at least 1",
        set_by=(f"{DIFFUSION}:MAX_STEPS",), probe=lambda g, n: options_of(g, "base", steps=n),
        within=1, beyond=0, refused="INVALID_REQUEST options.base.steps",
    ),
    Limit(
        name="guidance", what="guidance weight", bound=f"0 to {MAX_GUIDANCE:g}",
        set_by=(f"{DIFFUSION}:MAX_GUIDANCE",),
        probe=lambda g, w: options_of(g, "base", guidance=w),
        within=MAX_GUIDANCE, beyond=after(MAX_GUIDANCE),
        refused="INVALID_REQUEST options.base.guidance",
    ),
    Limit(
        name="augmentation", what="augmentation level", bound="the bundle's range",
        set_by=("the bundle",), probe=lambda g, a: options_of(g, "sr16", augmentation=a),
        within=0.5, beyond=after(0.5), refused="INVALID_REQUEST options.sr16.augmentation",
    ),
    Limit(
        name="previews", what="`preview_every`", bound=f"0 to {MAX_PREVIEWS:,}",
        set_by=(f"{REQUEST}:MAX_PREVIEWS",),
        probe=lambda g, n: generated(g, output=pb.OutputOptions(preview_every=n)),
        within=MAX_PREVIEWS, beyond=MAX_PREVIEWS + 1, refused="INVALID_REQUEST preview_every",
    ),
    Limit(
        name="label", what="class label", bound="0 to 2^31 - 1",
        set_by=(f"{REQUEST}:MAX_LABEL",),
        probe=lambda g, n: raised_by(lambda: GenerateRequest(label=n)),
        within=MAX_LABEL, beyond=MAX_LABEL + 1, refused="INVALID_REQUEST label",
    ),
    Limit(
        name="linger", what="`linger_seconds`", bound=f"0 to {MAX_LINGER_S:,.0f}",
        set_by=("wire/limits.py:MAX_LINGER_S",),
        probe=lambda g, s: generated(g, linger_seconds=s),
        within=MAX_LINGER_S, beyond=after(MAX_LINGER_S), refused="INVALID_REQUEST linger_seconds",
    ),
    Limit(
        name="seed", what="seed", bound="0 to 2^64 - 1; the wire carries no more",
        set_by=("cascade/request.py:MAX_SEED",),
        probe=lambda g, n: raised_by(lambda: GenerateRequest(seed=n)),
        within=MAX_SEED, beyond=MAX_SEED + 1, refused="INVALID_REQUEST seed",
    ),
    Limit(
        name="image-index", what="image index", bound="0 to 2^32 - 1; the wire carries no more",
        set_by=(f"{REQUEST}:MAX_IMAGE_INDEX",),
        probe=lambda g, n: raised_by(lambda: GenerateRequest(image_index=n)),
        within=MAX_IMAGE_INDEX, beyond=MAX_IMAGE_INDEX + 1, refused="INVALID_REQUEST image_index",
    ),
    Limit(
        name="image-size", what="pixels of an image",
        bound="exactly what one component starts from, before anything is decoded",
        set_by=("the bundle",), probe=sized, within=8, beyond=9,
        refused="INVALID_REQUEST image.image",
    ),
    Limit(
        name="own-side", what="longest side of what is made of a caller's own picture",
        bound=f"{MAX_OWN_SIDE:,} pixels", set_by=("cascade/families.py:MAX_OWN_SIDE",),
        probe=lambda g, n: raised_by(lambda: check_own_size("sr16", (n, 1))),
        within=MAX_OWN_SIDE, beyond=MAX_OWN_SIDE + 1, refused="INVALID_REQUEST image",
    ),
    Limit(
        name="own-pixels", what="pixels of what is made of a caller's own picture",
        bound=f"{MAX_OWN_PIXELS:,}", set_by=("cascade/families.py:MAX_OWN_PIXELS",),
        probe=lambda g, n: raised_by(lambda: check_own_size("sr16", (n, 8192))),
        within=MAX_OWN_PIXELS // 8192, beyond=MAX_OWN_PIXELS // 8192 + 1,
        refused="INVALID_REQUEST image",
    ),
    Limit(
        name="size-side", what="longest side of a picture that is asked for by its size",
        bound=f"1 to {MAX_SIDE:,} pixels", set_by=(f"{REQUEST}:MAX_SIDE",),
        probe=lambda g, n: raised_by(lambda: GenerateRequest(size=(n, 1))),
        within=MAX_SIDE, beyond=MAX_SIDE + 1, refused="INVALID_REQUEST size",
    ),
    Limit(
        name="size-pixels", what="pixels of a picture that is asked for by its size",
        bound="as many as the first stage was made for, times the factors of the others",
        set_by=("the bundle",),
        probe=lambda g, n: generated(
            g, size=pb.PictureSize(width=n, height=8), last_stage="base", prompt=WORDS
        ),
        within=8, beyond=9, refused="INVALID_REQUEST size",
    ),
    Limit(
        name="edit-pixels", what="pixels of a picture that others are made of",
        bound="exactly those of what one component makes", set_by=("the bundle",), probe=edited,
        within=8, beyond=7, refused="INVALID_REQUEST edit.picture",
    ),
    Limit(
        name="edit-strength", what="strength of an edit", bound="0 to 1",
        set_by=("cascade/edit.py:Edit",), probe=lambda g, s: edited(g, 8, strength=s),
        within=1.0, beyond=after(1.0), refused="INVALID_REQUEST edit.strength",
    ),
    Limit(
        name="edit-resample", what="times that each step of an edit is taken",
        bound=f"1 to {MAX_RESAMPLE}, more than 1 with a mask",
        set_by=("cascade/edit.py:MAX_RESAMPLE",),
        probe=lambda g, n: edited(g, 8, mask=b"\x80" * 8, resample=n),
        within=MAX_RESAMPLE, beyond=MAX_RESAMPLE + 1, refused="INVALID_REQUEST edit.resample",
    ),
    Limit(
        name="edit-mask", what="bytes of a mask", bound="exactly a bit for each pixel",
        set_by=("the bundle",), probe=lambda g, n: edited(g, 8, mask=b"\x80" * n),
        within=8, beyond=9, refused="INVALID_REQUEST edit.mask",
    ),
    Limit(
        name="image-bytes", what="bytes of an encoded image",
        bound=f"{MAX_ENCODED_IMAGE_BYTES >> 10} KiB, of larger ones 1.01 times their raw pixels",
        set_by=("runtime_server/admission/checks.py:MAX_ENCODED_IMAGE_BYTES",), probe=padded,
        within=MAX_ENCODED_IMAGE_BYTES, beyond=MAX_ENCODED_IMAGE_BYTES + 1,
        refused="IMAGE_CODEC_ERROR image.image.data",
    ),
    Limit(
        name="raw-image-bytes", what="bytes of a raw image", bound="exactly 3 a pixel",
        set_by=("the bundle",),
        probe=lambda g, n: imaged(g, format=pb.IMAGE_FORMAT_RAW, data=bytes(n)),
        within=8 * 8 * 3, beyond=8 * 8 * 3 + 1, refused="IMAGE_CODEC_ERROR image.image.data",
    ),
    Limit(
        name="tensor-elements", what="elements of any tensor", bound=f"{MAX_ELEMENTS:,}",
        set_by=("cascade/codecs/tensor.py:MAX_ELEMENTS",), probe=unpacked,
        within=(MAX_ELEMENTS,), beyond=(MAX_ELEMENTS + 1,), refused="TENSOR_CODEC_ERROR t.shape",
    ),
    Limit(
        name="tensor-rank", what="dimensions of any tensor", bound=f"1 to {MAX_RANK}",
        set_by=("cascade/codecs/tensor.py:MAX_RANK",), probe=unpacked,
        within=(1,) * MAX_RANK, beyond=(1,) * (MAX_RANK + 1), refused="TENSOR_CODEC_ERROR t.shape",
    ),
    Limit(
        name="error-text", what="text of an error",
        bound=f"{MAX_MESSAGE_CHARACTERS} characters, what a caller wrote 64 of them",
        set_by=("runtime_server/protocol/status.py:MAX_MESSAGE_CHARACTERS",), probe=told,
        within=MAX_MESSAGE_CHARACTERS, beyond=MAX_MESSAGE_CHARACTERS + 1,
        refused=f"cut to {MAX_MESSAGE_CHARACTERS}",
    ),
]  # fmt: skip
