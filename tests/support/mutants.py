"""Real requests with bytes changed: flips, cuts, copies, splices, lengths that lie.

Seeded and endless. Knows bytes; the server that gets them is elsewhere.
"""

import itertools
import random
from collections.abc import Callable, Iterator

import numpy as np

from cascade.bundle.bundle import Bundle
from cascade.codecs.image import encode_image
from protos.cascade.v1 import cascade_pb2 as pb
from tests.support.asking import CONTEXT, PICTURE, asking, starts
from tests.support.serving import tensor_message

NASTY = (
    b"\x00",
    b"\xff" * 10,
    b"\x80" * 9 + b"\x01",
    b"\x7f",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\r\n\0",
    np.array([np.nan, np.inf], np.float16).tobytes(),
    b"\xff\xff\xff\xff\x0f",
)
"""Varints that overflow, text that is not UTF-8, halves that are no numbers."""

Message = tuple[str, bytes]
"""Method and body."""

ID = b"mutant-000000000000"
"""Stands in every request of the corpus; each mutant begins with an id of its own in its place."""


def corpus(bundle: Bundle) -> list[Message]:
    """Real requests of every kind: each start, each format, options, contexts."""
    reference = pb.ContextReference(tensor=tensor_message(CONTEXT))
    name_it = {"request_id": ID.decode()}
    found = [("Generate", asking(bundle, **name_it, **start)) for start in starts()]
    for name, number in (
        ("png", pb.IMAGE_FORMAT_PNG),
        ("webp", pb.IMAGE_FORMAT_WEBP),
        ("jpeg", pb.IMAGE_FORMAT_JPEG),
    ):
        data = encode_image(PICTURE, name)  # type: ignore[arg-type]
        image = pb.Image(width=8, height=8, format=number, data=data)
        start = pb.ImageStart(context=reference, image=image)
        output = pb.OutputOptions(format=number, preview_every=1)
        found.append(("Generate", asking(bundle, image=start, output=output, **name_it)))
    full = asking(bundle, seed=2**64 - 1, image_index=7, last_stage="sr16", **name_it)
    full.options["sr16"].CopyFrom(pb.StageOptions(steps=3, guidance=1.5, augmentation=0.2))
    full.precisions["sr16"] = pb.PRECISION_FP32
    found.append(("Generate", full))
    context = tensor_message(CONTEXT)
    found.append(("PutContext", pb.PutContextRequest(bundle_id=bundle.bundle_id, context=context)))
    found.append(("GetServerInfo", pb.GetServerInfoRequest()))
    return [(method, message.SerializeToString()) for method, message in found]


def mutants(bundle: Bundle, seed: int) -> Iterator[Message]:
    """Changed requests without end; the same for the same seed."""
    chance = random.Random(seed)
    whole = corpus(bundle)
    for number in itertools.count(seed * 10**8):
        method, data = chance.choice(whole)
        body = bytearray(data.replace(ID, b"mutant-%012d" % number))
        for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
            chance.choice(CHANGES)(body, chance)
        if chance.random() < 0.05:
            body += chance.choice(whole)[1]
        yield method, bytes(body)


def flip(body: bytearray, chance: random.Random) -> None:
    """One bit."""
    if body:
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)


def put(body: bytearray, chance: random.Random) -> None:
    """One byte, any."""
    if body:
        body[chance.randrange(len(body))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, 42))


def insert(body: bytearray, chance: random.Random) -> None:
    """Something nasty, or noise."""
    at = chance.randint(0, len(body))
    body[at:at] = chance.choice((*NASTY, chance.randbytes(chance.randint(1, 40))))


def cut(body: bytearray, chance: random.Random) -> None:
    """A piece away."""
    at = chance.randint(0, len(body))
    del body[at : at + chance.randint(1, 1 + len(body) // 4)]


def end(body: bytearray, chance: random.Random) -> None:
    """All from here on away."""
    del body[chance.randint(0, len(body)) :]


def copy(body: bytearray, chance: random.Random) -> None:
    """A piece twice."""
    at = chance.randint(0, len(body))
    body[at:at] = body[at : at + chance.randint(1, 64)]


def move(body: bytearray, chance: random.Random) -> None:
    """A piece elsewhere."""
    at = chance.randint(0, len(body))
    piece = body[at : at + chance.randint(1, 32)]
    del body[at : at + len(piece)]
    to = chance.randint(0, len(body))
    body[to:to] = piece


CHANGES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip,
    flip,
    put,
    put,
    insert,
    cut,
    end,
    copy,
    move,
)
