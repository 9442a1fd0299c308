"""Frames between a server and a replica: what goes in comes out, and nothing else can."""

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

from cascade import errors
from cascade.cost import Cost
from cascade.diffusion.options import DiffusionOptions
from cascade.errors import CascadeError, StageError
from cascade.precision import Precision
from cascade.request import GenerateRequest, Handoff, KeptPicture
from runtime_server.admission.checks import RequestPlan
from runtime_server.executors.frames import LENGTH_BYTES, Malformed, decode, encode
from runtime_server.executors.replica_work import Work
from runtime_server.runtime.job import Ended
from runtime_server.telemetry.server_events import TracedRequest


def sent(value: object) -> bytes:
    """A frame in one piece."""
    return b"".join(encode(value))


def framed(tree: object) -> bytes:
    """A frame with this JSON, and nothing beside it."""
    data = json.dumps([tree, []]).encode()
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def kind_of(value: object) -> str:
    """A case's name: the same in every process."""
    return type(value).__name__


def work() -> Work:
    """An attempt with something of everything."""
    start = Handoff(
        context=np.linspace(-2, 2, 24).astype(np.float16).reshape(3, 8),
        vectors={"shade": np.float32([0.1, np.inf, -0.0])},
    )
    request = GenerateRequest(
        prompt="größe",
        seed=2**63 - 1,
        options={"base": DiffusionOptions(steps=3, guidance=1 / 3)},
    )
    plan = RequestPlan(
        request_id="r1",
        request=request,
        start=start,
        first=0,
        last=2,
        costs={1: Cost(runs={"net": 3}, units=3, pixels=12, result_bytes=48)},
        format="png",
    )
    return Work(
        number=7,
        plan=plan,
        position=1,
        handoff=start,
        allowed_s=0.1,
        request=TracedRequest("r1"),
    )


def test_an_attempt_comes_out_as_it_went_in() -> None:
    """Every number to the bit, and classes, keys and shapes as they were."""
    first = work()
    second = decode(sent(first))
    assert type(second) is Work
    assert sent(second) == sent(first)
    assert second.plan.request == first.plan.request
    assert second.plan.costs == first.plan.costs
    assert second.handoff.context.tobytes() == first.handoff.context.tobytes()
    assert second.handoff.context.shape == (3, 8)
    assert np.signbit(second.handoff.vectors["shade"][2])


@pytest.mark.parametrize(
    "value",
    [
        None,
        (1, [2.5, {"a"}], frozenset({3})),
        {1: b"\x00\xff", "k": ()},
        Precision.INT8,
        np.zeros((0, 3), np.uint8),
        np.float32(0.1),
        KeptPicture(request_id="r", stage="base", size=(64, 48)),
        float("inf"),
        2**70,
    ],
    ids=kind_of,
)
def test_values_keep_their_kind(value: Any) -> None:
    """Also those that JSON has none of."""
    found = decode(sent(value))
    np.testing.assert_equal(found, value)
    assert sent(found) == sent(value)


def test_arrays_may_be_written_to() -> None:
    """They are the receiver's own, whatever they were made from."""
    found = decode(sent(np.arange(6, dtype=np.int16)[::2]))
    found += 1
    assert found.tolist() == [1, 3, 5]


TREE = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, CascadeError)]


@pytest.mark.parametrize("kind", TREE)
def test_every_error_of_the_tree_is_carried(kind: type[CascadeError]) -> None:
    """With its message, field, delay and request."""
    error = kind("full: wait", field="a.b", retry_after_s=0.25)
    error.request_id = "r9"
    found = decode(sent(Ended(error))).error
    assert type(found) is kind
    assert (str(found), vars(found)) == (str(error), vars(error))


def test_another_error_becomes_one_of_the_tree() -> None:
    """Its kind is told, and its words are not."""
    found = decode(sent(Ended(ZeroDivisionError("secret")))).error
    assert isinstance(found, StageError)
    assert "ZeroDivisionError" in str(found)
    assert "secret" not in str(found)


class Named(NamedTuple):
    """A tuple with names."""

    one: int


@dataclass
class Elsewhere:
    """A record that is none of the product's."""

    one: int


@pytest.mark.parametrize(
    "value", [print, object(), Named(1), Elsewhere(1), np.array([None]), range(3)], ids=kind_of
)
def test_what_is_no_data_is_not_sent(value: object) -> None:
    """It is refused where it is made."""
    with pytest.raises(TypeError):
        encode(value)


@pytest.mark.parametrize(
    "tree",
    [
        ["record", "os:stat_result", {}],
        ["record", "subprocess:Popen", {"args": "true"}],
        ["record", "cascade.commands.cli:main", {}],
        ["record", "cascade.request:GenerateRequest.__init__", {}],
        ["record", "cascade.request:Handoff", {"prompt": "a"}],
        ["record", "cascade.not_loaded:Thing", {}],
        ["record", "cascade.request:dataclass", {}],
        ["error", "cascade.request:Handoff", "a", {}],
        ["error", "builtins:SystemExit", "a", {}],
        ["enum", "cascade.request:Handoff", "a"],
        ["enum", "cascade.precision:Precision", "INT3"],
        ["array", 0, "|O", [1]],
        ["bytes", 4],
        ["call", "print"],
        [],
    ],
    ids=str,
)
def test_what_is_no_frame_of_ours_ends_the_connection(tree: object) -> None:
    """Only classes of this project that are loaded, as what they are, with all their fields."""
    with pytest.raises(Malformed):
        decode(framed(tree))


@pytest.mark.parametrize("length", [0, 3, 40, -1])
def test_a_piece_of_a_frame_is_none(length: int) -> None:
    """Nor is one with bytes left over."""
    whole = sent((b"abc", np.arange(9)))
    with pytest.raises(Malformed):
        decode(whole[:length])
    with pytest.raises(Malformed):
        decode(whole + b"\x00")
