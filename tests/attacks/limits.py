"""The limits of the product as a list: what is bounded, by what, and a probe for both sides of it.

`test_limits.py` runs every probe; the documents' table of limits is made from the same list, by
`python -m tests.attacks.tables`. Knows how a probe looks; the limits are in the modules beside it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from cascade.bundle.bundle import Bundle
from cascade.engines.factory import EngineChoice, open_engine
from cascade.errors import CascadeError
from cascade.types import Array
from protos.cascade.v1 import cascade_pb2 as pb
from tests.support.serving import (
    PROMPT,
    Caller,
    RunningServer,
    connect,
    details_of,
    request_message,
)

OK = "OK"


@dataclass(frozen=True)
class Ground:
    """What probes stand on."""

    bundle: Bundle
    server: RunningServer
    """Of that bundle, with the defaults."""
    folder: Path
    """An empty one."""

    @contextmanager
    def caller(self) -> Iterator[Caller]:
        """A connection of its own to the server."""
        with connect(self.server.address) as connected:
            yield connected


Probe = Callable[[Ground, Any], str]
"""Tries a value, and returns `OK` or what refused it."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One bound."""

    name: str
    """Of its two tests."""
    what: str
    bound: str
    set_by: tuple[str, ...]
    """Settings of the server, or constants as `path/of/module.py:NAME`."""
    probe: Probe
    within: Any
    """The largest, or smallest, value that passes."""
    beyond: Any
    """The next one."""
    passes: str = OK
    """What the probe answers within, where something further on refuses the value anyway."""
    refused: str
    """What it answers beyond."""


def answer_of(responses: Any) -> str:
    """`OK` for a stream that ends well, else reason and field, or the bare code of gRPC."""
    try:
        for _ in responses:
            pass
    except grpc.RpcError as exc:
        code, reason, field, _ = details_of(exc)
        return f"{reason} {field}".strip() if reason else code
    return OK


def once(call: Callable[[], Any]) -> Iterator[Any]:
    """A unary call as a stream of one."""
    yield call()


def raised_by(call: Callable[[], object]) -> str:
    """`OK`, or reason and field of the error that a call raises here."""
    try:
        call()
    except CascadeError as exc:
        return f"{exc.reason} {exc.field}".strip()
    return OK


def generated(ground: Ground, **fields: Any) -> str:
    """What a Generate request gets; from a good prompt up to the base stage where nothing is said.

    Args:
        ground: whose server.
        **fields: of the message.
    """
    if not {"prompt", "context", "image"} & set(fields):
        fields["prompt"] = pb.PromptStart(prompt=PROMPT)
    message = request_message(ground.bundle, **{"last_stage": "base", **fields})
    with ground.caller() as caller:
        return answer_of(caller.generate(message))


class Holding:
    """An engine that waits before every run, while its kind is held."""

    free = threading.Event()
    free.set()

    def __init__(self, graph: bytes, choice: EngineChoice) -> None:
        self._engine = open_engine(graph, choice)

    def run(self, inputs: Any) -> dict[str, Array]:
        """Wait, and run."""
        Holding.free.wait(60)
        return self._engine.run(inputs)

    def terminate(self) -> None:
        """End a run."""
        self._engine.terminate()

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()


@contextmanager
def held() -> Iterator[None]:
    """Nothing is computed in this block."""
    Holding.free.clear()
    try:
        yield
    finally:
        Holding.free.set()
