"""What an overloaded server is asked, and the right answer, computed here before it is asked.

Of the tiny bundle a prompt, and of a true one what a device would send that ran the components
before a cut: its context and, from cut 2 on, its picture, in the request itself. Knows bundles and
messages; not who sends them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cascade.bundle.bundle import Bundle
from cascade.generate import generate
from cascade.request import GenerateRequest, Handoff
from cascade.stage_factory import open_stages
from cascade.tuning.options import parse_engine_options
from cascade.tuning.plan import plan_here
from cascade.types import Array
from protos.cascade.v1 import cascade_pb2 as pb
from tests.support.asking import answer, asking, differs
from tests.support.serving import PROMPT, pixels, raw_image, tensor_message

FAR = pb.OutputOptions(format=pb.IMAGE_FORMAT_WEBP)
"""What a client on another machine asks for."""
TINY_STEPS = (("base", 1), ("sr16", 4), ("sr32", 4))


@dataclass(frozen=True, slots=True)
class Question:
    """One request that is sent again and again, under an id of its own each time.

    Attributes:
        message: makes its bytes.
        last: the component whose picture is the answer.
        truth: that picture.
        known: encoded pictures that were compared already; decoding every one would load the
            machine as much as some servers do.
    """

    message: Callable[[], bytes]
    last: str
    truth: Array
    known: set[bytes]

    def is_answer(self, image: Any) -> bool:
        """Whether an Image message holds the right picture."""
        if image is None:
            return False
        if image.data not in self.known:
            if differs(pixels(image), self.truth):
                return False
            self.known.add(image.data)
        return True


def ask_tiny(bundle: Bundle) -> Question:
    """A prompt to the tiny bundle, with few steps."""

    def message() -> bytes:
        return bytes(asking(bundle, dict(TINY_STEPS)).SerializeToString())

    return Question(message, "sr32", answer(bundle, 0, TINY_STEPS), set())


def ask_from_cut(bundle: Bundle, cut: int) -> Question:
    """What a device sends at a cut, with the bundle's own steps and seed 0.

    Args:
        bundle: whose engines are chosen as a server's would be.
        cut: components that ran on the device; from 1 on.
    """
    count = len(bundle.manifest.components)
    plan = plan_here(bundle.manifest, parse_engine_options("auto", "auto", 0), range(count))
    stages = open_stages(bundle, range(count), plan)
    try:
        request = GenerateRequest(prompt=PROMPT)
        ends = [e.handoff for e in generate(stages, request) if hasattr(e, "handoff")]
    finally:
        for stage in stages:
            stage.close()
    start = start_of(ends[cut - 1])
    last = bundle.manifest.components[-1].name
    truth = ends[-1].image
    assert truth is not None

    def message() -> bytes:
        return bytes(asking(bundle, {}, prompt=None, output=FAR, **start).SerializeToString())

    return Question(message, last, truth, set())


def start_of(handoff: Handoff) -> dict[str, Any]:
    """The starting point of a request, as a field of its message."""
    assert handoff.context is not None
    reference = pb.ContextReference(tensor=tensor_message(np.asarray(handoff.context)))
    if handoff.image is None:
        return {"context": pb.ContextStart(context=reference)}
    return {"image": pb.ImageStart(context=reference, image=raw_image(handoff.image))}
