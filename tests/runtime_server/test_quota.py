"""Quotas: the arithmetic of a bucket by hand, and a server that says when to come back."""

import threading
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.bundle.bundle import Bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import QuotaExceeded
from cascade.families import cost_of, resolved
from cascade.request import GenerateRequest
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_client.client import Client
from runtime_server.admission import quota
from runtime_server.admission.quota import Bucket, Quota, filled, megapixels_of, wait_for
from runtime_server.auth.static_keys import hash_token, make_token
from runtime_server.telemetry.server_events import ignore
from tests.support.serving import PROMPT, connect, details_of, request_message, results_of, running

COST = 3 * (8 * 8 + 16 * 16 + 32 * 32) / 1e6
"""Megapixels of one request of the tiny bundle: three steps of each stage."""


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Now."""
        return self.now


def test_a_bucket_by_hand() -> None:
    """60 a minute is one a second, up to 60."""
    assert filled(Bucket(10, 5.0), 60, 12.0) == Bucket(17, 12.0)
    assert filled(Bucket(59, 5.0), 60, 100.0) == Bucket(60, 100.0)
    assert wait_for(Bucket(17, 0), 60, 17) == 0
    assert wait_for(Bucket(17, 0), 60, 20) == pytest.approx(3)
    assert wait_for(Bucket(-5, 0), 60, 1) == pytest.approx(6)


def test_more_than_a_minutes_worth_needs_a_full_bucket_and_leaves_a_debt() -> None:
    """So that a large request is slow, not impossible."""
    clock = Clock()
    kept = Quota(60, clock, ignore)
    kept.spend("a", 90)
    with pytest.raises(QuotaExceeded) as refused:
        kept.spend("a", 1)
    assert refused.value.retry_after_s == pytest.approx(31)
    clock.now += 31
    kept.spend("a", 1)
    with pytest.raises(QuotaExceeded) as refused:
        kept.spend("a", 90)
    assert refused.value.retry_after_s == pytest.approx(60)


def test_callers_do_not_share() -> None:
    """One empty bucket is nobody else's trouble, and a refusal takes nothing."""
    kept = Quota(6, Clock(), ignore)
    kept.spend("a", 6)
    for _ in range(3):
        with pytest.raises(QuotaExceeded) as refused:
            kept.spend("a", 1)
        assert refused.value.retry_after_s == pytest.approx(10)
    kept.spend("b", 6)


def test_what_was_taken_for_nothing_comes_back() -> None:
    """And never more than the bucket holds."""
    kept = Quota(6, Clock(), ignore)
    kept.spend("a", 6)
    kept.give_back("a", 6)
    kept.give_back("a", 6)
    kept.spend("a", 6)
    with pytest.raises(QuotaExceeded):
        kept.spend("a", 0.1)


def test_without_a_limit_nothing_is_kept() -> None:
    """Zero is no limit."""
    kept = Quota(0, Clock(), ignore)
    kept.spend("a", 1e9)
    kept.give_back("a", 1e9)
    assert kept.count == 0


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 30)), max_size=40),
    st.floats(0.1, 50),
)
def test_nobody_gets_more_than_the_rate(
    calls: list[tuple[float, float]], per_minute: float
) -> None:
    """However the calls fall: a full bucket, the rate, and one request's debt at the end."""
    clock = Clock()
    kept, begun = Quota(per_minute, clock, ignore), clock.now
    spent = largest = 0.0
    for cost, pause in calls:
        clock.now += pause
        try:
            kept.spend("a", cost)
        except QuotaExceeded:
            continue
        spent, largest = spent + cost, max(largest, cost)
    allowed = per_minute + (clock.now - begun) * per_minute / 60
    assert spent <= allowed + max(0, largest - per_minute) + 1e-6


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those who have least left are remembered, whoever else comes by."""
    monkeypatch.setattr(quota, "MAX_IDENTITIES", 100)
    kept = Quota(60, Clock(), ignore)
    kept.spend("greedy", 60)
    for number in range(1000):
        kept.spend(f"caller-{number}", 1)
        assert kept.count <= 100
    with pytest.raises(QuotaExceeded):
        kept.spend("greedy", 1)


def test_threads_share_a_bucket() -> None:
    """Exactly as many requests pass as it holds."""
    kept, passed = Quota(600, Clock(), ignore), []

    def work() -> None:
        for _ in range(100):
            try:
                kept.spend("a", 1)
            except QuotaExceeded:
                continue
            passed.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 600


def test_every_step_costs_its_pixels(bundle: Bundle) -> None:
    """The text encoder costs nothing."""
    components = bundle.manifest.components
    assert megapixels_of(map(cost_of, components)) == pytest.approx(COST)
    assert megapixels_of([cost_of(components[0])]) == 0
    options = {"sr32": DiffusionOptions(steps=1000)}
    long = resolved(components, GenerateRequest(options=options))
    assert megapixels_of([cost_of(components[3], long)]) == pytest.approx(1.024)


def test_a_caller_over_quota_is_told_when_to_come_back(bundle: Bundle, tmp_path: Path) -> None:
    """RESOURCE_EXHAUSTED, QUOTA_EXCEEDED and the time; the other caller is served."""
    tokens = {name: make_token() for name in ("alice", "bob")}
    keys = tmp_path / "keys.toml"
    keys.write_text("".join(f'{n} = "{hash_token(t)}"\n' for n, t in tokens.items()))
    settings = {"token_keys": keys, "quota_megapixels_per_minute": 1.5 * COST}
    with running(bundle, **settings) as server, connect(server.address) as caller:

        def generate(name: str, request_id: str) -> Any:
            message = request_message(
                bundle, prompt=pb.PromptStart(prompt=PROMPT), request_id=request_id
            )
            call = caller.channel.unary_stream(
                "/cascade.v1.CascadeService/Generate",
                response_deserializer=pb.GenerateResponse.FromString,
            )
            metadata = (("authorization", f"Bearer {tokens[name]}"),)
            return call(message.SerializeToString(), metadata=metadata, timeout=120)

        assert "sr32" in results_of(generate("alice", "a1"))
        with pytest.raises(grpc.RpcError) as refused:
            list(generate("alice", "a2"))
        code, reason, _, retry_s = details_of(refused.value)
        assert (code, reason) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
        assert retry_s is not None
        assert 0 < retry_s <= 20
        assert "sr32" in results_of(generate("bob", "b1"))
        # With time to spare the client would wait and be served.
        choices: Any = {"server": server.address, "token": tokens["alice"], "timeout_s": 2}
        with (
            Client(bundle, threads=1, **choices) as client,
            pytest.raises(QuotaExceeded) as told,
        ):
            client.generate(PROMPT)
        assert told.value.retry_after_s


def test_a_request_refused_for_another_reason_costs_nothing(bundle: Bundle) -> None:
    """A draining server takes no quota."""
    with (
        running(bundle, quota_megapixels_per_minute=1.5 * COST) as server,
        connect(server.address) as caller,
    ):
        server.core.executor.refuse_new()
        for number in range(3):
            message = request_message(
                bundle, prompt=pb.PromptStart(prompt=PROMPT), request_id=f"r{number}"
            )
            with pytest.raises(grpc.RpcError) as refused:
                list(caller.generate(message))
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
