"""The context store: content-addressed, bounded in bytes, forgetful."""

import numpy as np

from cascade.types import ContextF16
from runtime_server.stores.contexts import ContextStore
from wire.contexts import context_handle


class FakeClock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time it was set to."""
        return self.now


def context(fill: float, tokens: int = 4) -> ContextF16:
    """A `[tokens, 8]` context, 16 bytes per token."""
    return np.full((tokens, 8), fill, np.float16)


def store(budget_bytes: int = 1000, lifetime_s: float = 60) -> tuple[ContextStore, FakeClock]:
    """An empty store and its clock."""
    clock = FakeClock()
    return ContextStore(budget_bytes=budget_bytes, lifetime_s=lifetime_s, clock=clock), clock


def test_a_context_is_found_by_the_hash_of_its_content() -> None:
    """`put` answers the agreed handle, `get` the very values."""
    kept, _ = store()
    handle = kept.put(context(1))
    assert handle == context_handle(context(1))
    found = kept.get(handle)
    assert found is not None
    assert np.array_equal(found, context(1))
    assert kept.get(b"\0" * 32) is None


def test_putting_again_takes_no_more_room() -> None:
    """The same content is one entry."""
    kept, _ = store()
    assert kept.put(context(1)) == kept.put(context(1))
    assert kept.size_bytes == 64


def test_the_least_recently_used_goes_first() -> None:
    """Under a budget of two, using the first one makes the second one leave."""
    kept, _ = store(budget_bytes=128)
    first, second = kept.put(context(1)), kept.put(context(2))
    assert kept.get(first) is not None
    third = kept.put(context(3))
    assert kept.get(second) is None
    assert kept.get(first) is not None
    assert kept.get(third) is not None
    assert kept.size_bytes == 128


def test_a_context_larger_than_the_budget_is_not_kept_and_evicts_nothing() -> None:
    """An oversized one costs the others nothing."""
    kept, _ = store(budget_bytes=100)
    small = kept.put(context(1))
    large = kept.put(context(2, tokens=64))
    assert kept.get(large) is None
    assert kept.get(small) is not None


def test_unused_contexts_are_forgotten_after_their_lifetime() -> None:
    """Every use starts the lifetime anew; without one the bytes are given back."""
    kept, clock = store(lifetime_s=60)
    handle = kept.put(context(1))
    clock.now += 50
    assert kept.get(handle) is not None
    clock.now += 50
    assert kept.get(handle) is not None
    clock.now += 61
    assert kept.get(handle) is None
    assert kept.size_bytes == 0
