"""What faults are tried with: requests that are quick, long, or of any start, and their pictures.

Values only; who sends them is the test's business.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from cascade.bundle.bundle import Bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.request import GenerateRequest
from cascade.types import Array
from protos.cascade.v1 import cascade_pb2 as pb
from tests.support.serving import PROMPT, local_results, raw_image, request_message, tensor_message
from tests.support.tiny_bundle import WIDTH

START = pb.PromptStart(prompt=PROMPT)
QUICK_STEPS: Mapping[str, int] = {"base": 1, "sr16": 2, "sr32": 2}
LONG_STEPS: Mapping[str, int] = {"sr16": 1000, "sr32": 1000}
CONTEXT = np.linspace(-1, 1, 4 * WIDTH, dtype=np.float16).reshape(4, WIDTH)
PICTURE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
QUICK: "Steps" = tuple(QUICK_STEPS.items())
NUMBERS = itertools.count()
Steps = tuple[tuple[str, int], ...]
ANSWERS: dict[tuple[str, int, Steps], Array] = {}


LITTLE = sum(LONG_STEPS.values()) // 2
"""Fewer steps than this were done of a long request that was ended, however busy the machine."""

DOOMED = """
import sys, grpc
channel = grpc.insecure_channel(sys.argv[1])
call = channel.unary_stream("/cascade.v1.CascadeService/Generate")(sys.stdin.buffer.read())
next(call)
print("begun", flush=True)
for _ in call:
    pass
"""
"""A program whose call is given up by its death, once the first event has come."""


def asking(bundle: Bundle, steps: Mapping[str, int] = QUICK_STEPS, **fields: Any) -> Any:
    """A request from a prompt under an id of its own."""
    options = {name: pb.StageOptions(steps=count) for name, count in steps.items()}
    fields = {"request_id": f"fault-{next(NUMBERS)}", "prompt": START, **fields}
    return request_message(bundle, options=options, **fields)


def asking_long(bundle: Bundle, **fields: Any) -> Any:
    """A request that takes many seconds with a slow bundle."""
    return asking(bundle, LONG_STEPS, **fields)


def starts() -> list[dict[str, Any]]:
    """One of every way to begin, as fields of a request."""
    reference = pb.ContextReference(tensor=tensor_message(CONTEXT))
    return [
        {"prompt": START},
        {"context": pb.ContextStart(context=reference)},
        {"image": pb.ImageStart(context=reference, image=raw_image(PICTURE))},
    ]


def answer(bundle: Bundle, seed: int = 0, steps: Steps = QUICK) -> Array:
    """The right picture for `asking(bundle, dict(steps), seed=seed)`, computed in this process."""
    key = (bundle.bundle_id, seed, steps)
    if key not in ANSWERS:
        options = {name: DiffusionOptions(steps=count) for name, count in steps}
        request = GenerateRequest(prompt=PROMPT, seed=seed, options=options)
        image = local_results(bundle, request)["sr32"].handoff.image
        assert image is not None
        ANSWERS[key] = image
    return ANSWERS[key]


def differs(picture: Array, truth: Array) -> bool:
    """Whether a picture is another one than it should be: more than one level on one in 1000."""
    apart = np.abs(picture.astype(np.int16) - truth.astype(np.int16))
    return bool(apart.max() > 1 or (apart > 0).mean() > 1e-3)
