"""Anything as a message: typed nonsense in every field, and real requests with bytes changed."""

from itertools import islice
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings

from cascade.bundle.bundle import Bundle
from protos.cascade.v1 import cascade_pb2 as pb
from tests.faults.arbitrary import messages, near
from tests.support.asking import CONTEXT, answer, asking, differs
from tests.support.leaks import Probe
from tests.support.mutants import mutants
from tests.support.server_process import Victim
from tests.support.serving import Caller, connect, pixels, results_of, tensor_message

MUTANTS = 1000
"""Of `make test`; `benchmarks/mutations.py` sends 100,000."""
GROWTH_MIB = 50
TRIED = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def probed(quick: Victim) -> Any:
    """A judge of the answers; after everything a good request still gets its picture."""
    before = quick.rss_mib
    with connect(quick.address) as caller:
        yield Probe(caller)
        picture = pixels(results_of(caller.generate(asking(quick.bundle)))["sr32"].image)
    assert not differs(picture, answer(quick.bundle))
    assert quick.rss_mib - before < GROWTH_MIB


@TRIED
@given(message=messages(pb.GenerateRequest))
def test_any_generate_request_gets_an_answer(probed: Probe, message: Message) -> None:
    """17. Any value in every field of GenerateRequest: an answer, at once, of nothing inside."""
    probed.send("Generate", message.SerializeToString())


@TRIED
@given(message=messages(pb.PutContextRequest))
def test_any_put_context_request_gets_an_answer(probed: Probe, message: Message) -> None:
    """17. The same for PutContextRequest."""
    probed.send("PutContext", message.SerializeToString())


def test_good_requests_with_one_wrong_field_get_an_answer(quick: Victim, probed: Probe) -> None:
    """17. So that what is wrong is reached behind the checks that come before it."""
    context = tensor_message(CONTEXT)
    store = pb.PutContextRequest(bundle_id=quick.bundle.bundle_id, context=context)

    @TRIED
    @given(message=near(asking(quick.bundle, last_stage="base")))
    def generate(message: Message) -> None:
        probed.send("Generate", message.SerializeToString())

    @TRIED
    @given(message=near(store))
    def put_context(message: Message) -> None:
        probed.send("PutContext", message.SerializeToString())

    generate()
    put_context()


def test_changed_bytes_get_an_answer(bundle: Bundle, quick: Victim, quick_caller: Caller) -> None:
    """17. Mutated real requests over raw gRPC: no crash, no hang over 1 s, memory bounded."""
    before = quick.rss_mib
    probe = Probe(quick_caller)
    for method, body in islice(mutants(bundle, seed=17), MUTANTS):
        probe.send(method, body)
    assert quick.rss_mib - before < GROWTH_MIB
    assert {"OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION"} <= set(probe.codes)
