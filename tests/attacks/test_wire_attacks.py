"""Bad requests over a real socket: each gets its typed answer, and the server goes on."""

import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.codecs.image import encode_image
from cascade.request import GenerateRequest
from protos.cascade.v1 import cascade_pb2 as pb
from tests.support.latent_bundle import LOW, write_latent_bundle
from tests.support.serving import (
    PROMPT,
    SERVICE,
    Caller,
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
from wire.limits import MAX_MESSAGE_BYTES, MAX_METADATA_BYTES

BAD = ("INVALID_ARGUMENT", "INVALID_REQUEST")
BAD_TENSOR = ("INVALID_ARGUMENT", "TENSOR_CODEC_ERROR")
BAD_IMAGE = ("INVALID_ARGUMENT", "IMAGE_CODEC_ERROR")
MISMATCH = ("FAILED_PRECONDITION", "BUNDLE_MISMATCH")
UNKNOWN = ("NOT_FOUND", "UNKNOWN_REQUEST")
FORGOTTEN = ("NOT_FOUND", "UNKNOWN_CONTEXT")
PNG = pb.IMAGE_FORMAT_PNG
CONTEXT = np.linspace(-1, 1, 4 * WIDTH, dtype=np.float16).reshape(4, WIDTH)
PICTURE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle in miniature."""
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="module")
def server(bundle: Bundle) -> Iterator[RunningServer]:
    """The one server that all attacks go to; nothing of them may be left in it."""
    with running(bundle) as attacked:
        yield attacked
        wait_until(lambda: attacked.core.executor.counts.idle)


@pytest.fixture
def caller(server: RunningServer) -> Iterator[Caller]:
    """A connection of its own."""
    with connect(server.address) as connected:
        yield connected


@dataclass(frozen=True)
class Attack:
    """One bad message and the answer it must get."""

    name: str
    message: Callable[[Bundle], Any]
    answer: tuple[str, str]
    field: str
    method: str = "generate"


def generate(name: str, answer: tuple[str, str], field: str, **fields: Any) -> Attack:
    """A Generate request; starts from a good prompt where no start is given."""
    if not {"prompt", "context", "image", "kept", "tensor"} & set(fields):
        fields["prompt"] = pb.PromptStart(prompt=PROMPT)
    return Attack(name, lambda bundle: request_message(bundle, **fields), answer, field)


def options(name: str, answer: tuple[str, str], field: str, **chosen: Any) -> Attack:
    """A Generate request with options per component."""
    return generate(name, answer, field, options=chosen)


def prompted(name: str, prompt: str) -> Attack:
    """A Generate request with a bad prompt."""
    return generate(name, BAD, "prompt", prompt=pb.PromptStart(prompt=prompt))


def imaged(name: str, answer: tuple[str, str], field: str, **image: Any) -> Attack:
    """A Generate request from a bad image, its context inline and good."""
    message = pb.Image(**{"width": 8, "height": 8, "format": PNG, **image})
    reference = pb.ContextReference(tensor=tensor_message(CONTEXT))
    return generate(name, answer, field, image=pb.ImageStart(context=reference, image=message))


def edited(name: str, answer: tuple[str, str], field: str, **edit: Any) -> Attack:
    """A Generate request with a bad edit; its picture is good unless another is given."""
    picture = raw_image(PICTURE)
    return generate(name, answer, field, edit=pb.Edit(**{"picture": picture, **edit}))


def beside_image(name: str, field: str, **fields: Any) -> Attack:
    """A Generate request from a good image, with what does not go with one."""
    reference = pb.ContextReference(tensor=tensor_message(CONTEXT))
    start = pb.ImageStart(context=reference, image=raw_image(PICTURE))
    return generate(name, BAD, field, image=start, **fields)


def latent(name: str, answer: tuple[str, str], field: str, **tensor: Any) -> Attack:
    """A Generate request from a bad latent, its context inline and good."""
    good = tensor_message(np.ones(LOW.shape, np.float32))
    values = {"shape": list(good.shape), "dtype": good.dtype, "data": good.data, **tensor}
    reference = pb.ContextReference(tensor=tensor_message(CONTEXT))
    start = pb.TensorStart(context=reference, tensor=pb.Tensor(**values))
    return generate(name, answer, field, first_stage="up", tensor=start)


def contextual(name: str, answer: tuple[str, str], field: str, **reference: Any) -> Attack:
    """A Generate request from a bad reference to a context."""
    start = pb.ContextStart(context=pb.ContextReference(**reference))
    return generate(name, answer, field, context=start)


def stored(name: str, answer: tuple[str, str], field: str, **tensor: Any) -> Attack:
    """A PutContext request with a bad tensor."""
    good = {"shape": [4, WIDTH], "dtype": pb.DTYPE_FLOAT16, "data": CONTEXT.tobytes()}

    def message(bundle: Bundle) -> Any:
        context = pb.Tensor(**{**good, **tensor})
        return pb.PutContextRequest(bundle_id=bundle.bundle_id, context=context)

    return Attack(name, message, answer, field, "put_context")


def raw_bytes(name: str, data: bytes, method: str = "generate") -> Attack:
    """Bytes that are no message."""
    return Attack(name, lambda _: data, BAD, "message", method)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_file(width: int, height: int, *chunks: bytes) -> bytes:
    """A PNG that claims a size, with whatever chunks follow."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    end = png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + b"".join(chunks) + end


PIXELS_CHUNK = png_chunk(b"IDAT", zlib.compress(bytes(8 * (1 + 8 * 3))))
GOOD_PNG = encode_image(PICTURE, "png")
NAN = np.array([[np.nan] * WIDTH], np.float16)
INFINITE = np.array([[np.inf] * WIDTH], np.float16)

ATTACKS = [
    # Bytes that are no message.
    raw_bytes("malformed-protobuf", b"\xff\xff\xff"),
    raw_bytes("truncated-protobuf", b"\x0a\x7fabc"),
    raw_bytes("malformed-put-context", b"\x0a" + b"\xff" * 10, "put_context"),
    raw_bytes("prompt-not-utf8", b"\x1a\x04\x0a\x02\xff\xfe"),
    # Names.
    generate("no-request-id", BAD, "request_id", request_id=""),
    generate("long-request-id", BAD, "request_id", request_id="x" * 65),
    generate("request-id-with-newline", BAD, "request_id", request_id="a\nb"),
    generate("request-id-of-other-letters", BAD, "request_id", request_id="é"),
    generate("unknown-bundle", MISMATCH, "bundle_id", bundle_id="0" * 64),
    generate("no-bundle", MISMATCH, "bundle_id", bundle_id=""),
    generate("unknown-last-stage", BAD, "last_stage", last_stage="sr4096"),
    generate(
        "last-stage-before-start", BAD, "last_stage", last_stage="text_encoder",
        context=pb.ContextStart(context=pb.ContextReference(tensor=tensor_message(CONTEXT))),
    ),
    Attack("missing-start", request_message, BAD, "start"),
    # Prompts.
    prompted("empty-prompt", ""),
    prompted("blank-prompt", " \n\t "),
    prompted("prompt-of-10000-characters", "apple " * 1700),
    prompted("prompt-with-nul", "a red\0apple"),
    prompted("too-many-tokens", "apple " * 17),
    # Options.
    options("steps-0", BAD, "options.base.steps", base=pb.StageOptions(steps=0)),
    options("steps-1001", BAD, "options.base.steps", base=pb.StageOptions(steps=1001)),
    options("steps-2-to-the-31", BAD, "options.sr16.steps", sr16=pb.StageOptions(steps=2**31)),
    options("guidance-nan", BAD, "options.base.guidance", base=pb.StageOptions(guidance=np.nan)),
    options("guidance-inf", BAD, "options.base.guidance", base=pb.StageOptions(guidance=np.inf)),
    options("guidance-negative", BAD, "options.base.guidance", base=pb.StageOptions(guidance=-1)),
    options(
        "augmentation-2", BAD, "options.sr16.augmentation",
        sr16=pb.StageOptions(augmentation=2),
    ),
    options(
        "augmentation-beyond-the-manifest", BAD, "options.sr32.augmentation",
        sr32=pb.StageOptions(augmentation=0.6),
    ),
    options(
        "augmentation-of-the-base-stage", BAD, "options.base.augmentation",
        base=pb.StageOptions(augmentation=0.1),
    ),
    options("unknown-component", BAD, "options", nonsense=pb.StageOptions(steps=1)),
    generate("previews-every-4-billion", BAD, "preview_every",
             output=pb.OutputOptions(preview_every=2**32 - 1)),
    generate("unknown-output-format", BAD, "output.format", output=pb.OutputOptions(format=77)),  # type: ignore[arg-type]
    # Edits.
    edited("edit-strength-nan", BAD, "edit.strength", strength=np.nan),
    edited("edit-strength-inf", BAD, "edit.strength", strength=np.inf),
    edited("edit-strength-negative", BAD, "edit.strength", strength=-0.1),
    edited("edit-strength-above-1", BAD, "edit.strength", strength=1.1),
    edited("edit-resample-of-the-whole", BAD, "edit.resample", resample=2),
    edited("edit-resample-4-billion", BAD, "edit.resample", resample=2**32 - 1, mask=b"\x80" * 8),
    edited("edit-mask-of-another-size", BAD, "edit.mask", mask=b"\x80" * 32),
    edited("edit-mask-too-short", BAD, "edit.mask", mask=b"\x80"),
    edited("edit-mask-of-nothing", BAD, "edit.mask", mask=bytes(8)),
    edited("edit-without-a-picture", BAD, "edit.picture.format", picture=pb.Image()),
    edited("edit-of-no-pixels", BAD, "edit.picture", picture=pb.Image(format=PNG, height=8)),
    edited(
        "edit-of-2-to-the-64-pixels", BAD, "edit.picture",
        picture=pb.Image(format=PNG, width=2**32 - 1, height=2**32 - 1),
    ),
    edited("edit-of-another-size", BAD, "edit.picture", picture=raw_image(PICTURE[:7])),
    edited(
        "edit-without-a-mask-of-a-later-size", BAD, "edit.picture",
        picture=raw_image(np.zeros((16, 16, 3), np.uint8)),
    ),
    edited(
        "edit-of-a-damaged-file", BAD_IMAGE, "edit.picture.data",
        picture=pb.Image(width=8, height=8, format=PNG, data=GOOD_PNG[:50]),
    ),
    generate(
        "edit-of-words-alone", BAD, "edit.picture", last_stage="text_encoder",
        edit=pb.Edit(picture=raw_image(PICTURE), mask=b"\x80" * 8),
    ),
    beside_image(
        "edit-beside-a-picture-to-start-from", "edit.mask", last_stage="sr16",
        edit=pb.Edit(picture=raw_image(np.zeros((16, 16, 3), np.uint8)), strength=0.5),
    ),
    # Sizes.
    generate("size-of-nothing", BAD, "size", size=pb.PictureSize()),
    generate("size-4-billion", BAD, "size", size=pb.PictureSize(width=2**32 - 1, height=4)),
    generate("size-between-pixels", BAD, "size", size=pb.PictureSize(width=31, height=32)),
    generate("size-of-too-many-pixels", BAD, "size", size=pb.PictureSize(width=64, height=64)),
    generate(
        "size-of-words-alone", BAD, "size", last_stage="text_encoder",
        size=pb.PictureSize(width=8, height=8),
    ),
    beside_image(
        "size-beside-a-picture-to-start-from", "size", size=pb.PictureSize(width=16, height=32)
    ),
    # Kept pictures.
    generate(
        "kept-of-an-unknown-request", UNKNOWN, "kept.request_id", first_stage="sr16",
        kept=pb.KeptStart(request_id="nobody-s", stage="base", width=8, height=8),
    ),
    generate(
        "kept-of-no-request", UNKNOWN, "kept.request_id", first_stage="sr16", kept=pb.KeptStart(),
    ),
    generate(
        "kept-with-another-bundle", MISMATCH, "bundle_id", bundle_id="0" * 64, first_stage="sr16",
        kept=pb.KeptStart(request_id="nobody-s", stage="base", width=8, height=8),
    ),
    # Contexts.
    contextual("no-reference", BAD, "context.context"),
    contextual("unknown-handle", FORGOTTEN, "context.context.handle", handle=b"\x01" * 32),
    contextual("short-handle", BAD, "context.context.handle", handle=b"\x01" * 31),
    contextual("inline-nan", BAD_TENSOR, "context.context.tensor.data", tensor=tensor_message(NAN)),
    stored("wrong-width", BAD_TENSOR, "context.shape", shape=[8, WIDTH // 2]),
    stored("wrong-rank", BAD_TENSOR, "context.shape", shape=[4 * WIDTH]),
    stored("no-tokens", BAD_TENSOR, "context.shape", shape=[0, WIDTH], data=b""),
    stored("no-shape", BAD_TENSOR, "context.shape", shape=[]),
    stored("too-many-rows", BAD_TENSOR, "context.shape", shape=[513, WIDTH]),
    stored("huge-shape", BAD_TENSOR, "context.shape", shape=[2**32 - 1, 2**32 - 1]),
    stored("wrong-dtype", BAD_TENSOR, "context.dtype", dtype=pb.DTYPE_FLOAT32),
    stored("unknown-dtype", BAD_TENSOR, "context.dtype", dtype=99),
    stored("byte-missing", BAD_TENSOR, "context.data", data=CONTEXT.tobytes()[:-1]),
    stored("byte-too-many", BAD_TENSOR, "context.data", data=CONTEXT.tobytes() + b"\0"),
    stored("nan", BAD_TENSOR, "context.data", shape=[1, WIDTH], data=NAN.tobytes()),
    stored("infinity", BAD_TENSOR, "context.data", shape=[1, WIDTH], data=INFINITE.tobytes()),
    stored("five-megabytes", BAD_TENSOR, "context.data", data=bytes(5 << 20)),
    # Images.
    imaged("size-that-fits-no-stage", BAD, "image.image", width=9, height=9, data=GOOD_PNG),
    imaged("not-square", BAD, "image.image", width=8, height=16, data=GOOD_PNG),
    imaged("final-size", BAD, "image.image", width=32, height=32, data=GOOD_PNG),
    imaged("huge-size", BAD, "image.image", width=2**32 - 1, height=2**32 - 1, data=GOOD_PNG),
    imaged("format-unspecified", BAD, "image.image.format", format=0, data=GOOD_PNG),
    imaged("format-unknown", BAD, "image.image.format", format=9, data=GOOD_PNG),
    imaged("format-of-results", BAD, "image.image.format", format=pb.IMAGE_FORMAT_AVIF),
    imaged("no-data", BAD_IMAGE, "image.image.data"),
    imaged("truncated-png", BAD_IMAGE, "image.image.data", data=GOOD_PNG[:-30]),
    imaged("other-format", BAD_IMAGE, "image.image.data", data=encode_image(PICTURE, "webp")),
    imaged("png-of-other-size", BAD_IMAGE, "image.image.data", data=png_file(9, 9, PIXELS_CHUNK)),
    imaged("bomb-header", BAD_IMAGE, "image.image.data", data=png_file(65500, 65500, PIXELS_CHUNK)),
    imaged("bomb-below-pillows-limit", BAD_IMAGE, "image.image.data",
           data=png_file(10000, 10000, PIXELS_CHUNK)),
    imaged("bomb-text", BAD_IMAGE, "image.image.data",
           data=png_file(8, 8, png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(64 << 20), 9)),
                         PIXELS_CHUNK)),
    imaged("too-many-image-bytes", BAD_IMAGE, "image.image.data", data=GOOD_PNG + bytes(256 << 10)),
    imaged("raw-of-other-length", BAD_IMAGE, "image.image.data",
           format=pb.IMAGE_FORMAT_RAW, data=bytes(8 * 8 * 3 - 1)),
    generate("image-without-context", BAD, "image.context",
             image=pb.ImageStart(image=raw_image(PICTURE))),
]  # fmt: skip


LATENTS = [
    latent("latent-of-nothing", BAD_TENSOR, "tensor.tensor.dtype", shape=[], dtype=0, data=b""),
    latent("latent-of-another-dtype", BAD_TENSOR, "tensor.tensor.dtype", dtype=pb.DTYPE_FLOAT16),
    latent("latent-of-an-unknown-dtype", BAD_TENSOR, "tensor.tensor.dtype", dtype=99),
    latent("latent-of-another-shape", BAD_TENSOR, "tensor.tensor.shape", shape=[4, 6, 8]),
    latent("latent-of-2-to-the-96", BAD_TENSOR, "tensor.tensor.shape", shape=[2**32 - 1] * 3),
    latent("latent-of-1000-axes", BAD_TENSOR, "tensor.tensor.shape", shape=[1] * 1000),
    latent("latent-byte-missing", BAD_TENSOR, "tensor.tensor.data", data=bytes(4 * 192 - 1)),
    latent("latent-byte-too-many", BAD_TENSOR, "tensor.tensor.data", data=bytes(4 * 192 + 1)),
    latent("latent-nan", BAD_TENSOR, "tensor.tensor.data",
           data=np.full(LOW.shape, np.nan, "<f4").tobytes()),
    latent("latent-infinity", BAD_TENSOR, "tensor.tensor.data",
           data=np.full(LOW.shape, -np.inf, "<f4").tobytes()),
    generate("latent-without-words", BAD, "tensor.context", first_stage="up",
             tensor=pb.TensorStart(tensor=tensor_message(np.ones(LOW.shape, np.float32)))),
    generate("latent-for-a-component-of-none", BAD, "first_stage", first_stage="low",
             tensor=pb.TensorStart(tensor=tensor_message(np.ones(LOW.shape, np.float32)))),
    generate("latent-for-several", BAD, "first_stage",
             tensor=pb.TensorStart(tensor=tensor_message(np.ones(LOW.shape, np.float32)))),
]  # fmt: skip


def answer_to(attack: Attack, caller: Caller, bundle: Bundle) -> tuple[str, str, str]:
    """Code, reason and field that an attack gets."""
    send = caller.put_context if attack.method == "put_context" else caller.generate
    with pytest.raises(grpc.RpcError) as refused:
        list(send(attack.message(bundle)))
    return details_of(refused.value)[:3]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_gets_its_typed_answer(attack: Attack, caller: Caller, bundle: Bundle) -> None:
    """Code, reason, and the very field that is wrong."""
    assert answer_to(attack, caller, bundle) == (*attack.answer, attack.field)


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bundle, Caller]]:
    """A bundle that has latents, and a connection to a server of it."""
    latents = write_latent_bundle(tmp_path_factory.mktemp("latents") / "bundle")
    with running(latents, cut=0) as attacked, connect(attacked.address) as connected:
        yield latents, connected


@pytest.mark.parametrize("attack", LATENTS, ids=lambda attack: attack.name)
def test_a_bad_latent_gets_its_typed_answer(attack: Attack, latents: tuple[Bundle, Caller]) -> None:
    """Code, reason and field; nothing of its claimed size is allocated."""
    assert answer_to(attack, latents[1], latents[0]) == (*attack.answer, attack.field)


def test_after_bad_latents_a_good_one_is_decoded(latents: tuple[Bundle, Caller]) -> None:
    """By the same server."""
    reference = pb.ContextReference(tensor=tensor_message(CONTEXT))
    good = tensor_message(np.ones(LOW.shape, np.float32))
    start = pb.TensorStart(context=reference, tensor=good)
    message = request_message(latents[0], first_stage="up", last_stage="decode", tensor=start)
    results = results_of(latents[1].generate(message))
    assert list(results["up"].tensor.shape) == [4, 16, 12]
    assert pixels(results["decode"].image).shape == (32, 24, 3)


def test_after_all_attacks_at_once_a_good_request_is_answered(
    server: RunningServer, caller: Caller, bundle: Bundle
) -> None:
    """Four callers attack together; the picture after that is the right one."""
    wrong: list[str] = []

    def attack_all(order: int) -> None:
        with connect(server.address) as attacker:
            wrong.extend(
                attack.name
                for attack in ATTACKS[::order]
                if answer_to(attack, attacker, bundle) != (*attack.answer, attack.field)
            )

    threads = [threading.Thread(target=attack_all, args=(order,)) for order in (1, -1, 1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    message = request_message(bundle, prompt=pb.PromptStart(prompt=PROMPT), seed=3)
    picture = pixels(results_of(caller.generate(message))["sr32"].image)
    expected = local_results(bundle, GenerateRequest(prompt=PROMPT, seed=3))["sr32"].handoff.image
    assert expected is not None
    assert np.array_equal(picture, expected)


def test_a_message_over_the_limit_is_refused_by_the_transport(caller: Caller) -> None:
    """GRPC itself answers, before anything of ours holds the bytes."""
    for data in (bytes(MAX_MESSAGE_BYTES + 1), bytes(3 * MAX_MESSAGE_BYTES)):
        with pytest.raises(grpc.RpcError) as refused:
            caller.put_context(data)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caller.server_info().components


def test_metadata_over_the_limit_is_refused_by_the_transport(caller: Caller) -> None:
    """As for messages."""
    call = caller.channel.unary_unary(SERVICE + "GetServerInfo")
    with pytest.raises(grpc.RpcError) as refused:
        call(b"", metadata=(("x-junk", "j" * 3 * MAX_METADATA_BYTES),), timeout=60)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caller.server_info().components


def test_an_expired_deadline_costs_no_work(
    server: RunningServer, caller: Caller, bundle: Bundle
) -> None:
    """Whoever notices first, the caller is told the same and nothing stays."""
    message = request_message(bundle, prompt=pb.PromptStart(prompt=PROMPT))
    for timeout_s in (1e-6, 1e-4, 1e-3):
        with pytest.raises(grpc.RpcError) as late:
            list(caller.generate(message, timeout_s=timeout_s))
        assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: server.core.executor.counts.idle)


@pytest.mark.parametrize("path", [SERVICE + "Nonsense", "/other.Service/Generate"])
def test_unknown_methods_are_unimplemented(path: str, caller: Caller) -> None:
    """And nothing else happens."""
    with pytest.raises(grpc.RpcError) as unknown:
        caller.channel.unary_unary(path)(b"", timeout=60)
    assert unknown.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_opening_and_cancelling_hundreds_of_calls_leaves_the_server_quick(
    server: RunningServer, caller: Caller, bundle: Bundle
) -> None:
    """A rapid reset holds nothing: counters return to zero and another caller is answered."""
    message = request_message(bundle, prompt=pb.PromptStart(prompt=PROMPT)).SerializeToString()
    with connect(server.address) as attacker:
        for _ in range(500):
            attacker.generate(message).cancel()
    assert caller.server_info().components
    wait_until(lambda: server.core.executor.counts.idle)
