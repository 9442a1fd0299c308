"""The store under a budget: bounded in bytes, fair between owners, forgetful."""

from dataclasses import dataclass

from runtime_server.stores.budgeted_store import BudgetedStore


@dataclass
class FakeClock:
    """Time that passes when told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        """The time it was set to."""
        return self.now


def store(budget_bytes: int = 100, lifetime_s: float = 60) -> tuple[BudgetedStore[str], FakeClock]:
    """An empty store and its clock."""
    clock = FakeClock()
    return BudgetedStore(budget_bytes=budget_bytes, lifetime_s=lifetime_s, clock=clock), clock


def test_keys_are_their_owners() -> None:
    """The same key of two owners names two values."""
    kept, _ = store()
    kept.put("ann", "k", "hers", 10)
    kept.put("bob", "k", "his", 10)
    assert (kept.get("ann", "k"), kept.get("bob", "k"), kept.get("cyd", "k")) == (
        "hers",
        "his",
        None,
    )


def test_the_budget_is_never_exceeded() -> None:
    """Whatever is put, the sum of the sizes stays within; both sides of the bound."""
    kept, _ = store(budget_bytes=100)
    assert kept.put("ann", "all", "x", 100)
    assert kept.size_bytes == 100
    assert not kept.put("ann", "more", "x", 101)
    for number in range(50):
        kept.put(f"owner-{number % 7}", number, "x", 1 + number % 40)
        assert kept.size_bytes <= 100


def test_the_least_recently_used_of_an_owner_goes_first() -> None:
    """A use makes a value the last to go."""
    kept, _ = store(budget_bytes=20)
    kept.put("ann", 1, "one", 10)
    kept.put("ann", 2, "two", 10)
    assert kept.get("ann", 1) == "one"
    kept.put("ann", 3, "three", 10)
    assert kept.get("ann", 2) is None
    assert kept.get("ann", 1) == "one"
    assert kept.get("ann", 3) == "three"


def test_a_greedy_owner_does_not_push_out_a_modest_one() -> None:
    """However much one owner puts, the other's value stays; his own older ones go."""
    kept, _ = store(budget_bytes=100)
    kept.put("modest", "k", "dear", 30)
    for number in range(40):
        kept.put("greedy", number, "cheap", 10)
    assert kept.get("modest", "k") == "dear"
    assert kept.size_bytes == 100
    assert kept.get("greedy", 39) == "cheap"


def test_a_value_that_fits_only_at_anothers_cost_is_not_kept() -> None:
    """Half of the room is one owner's share of two."""
    kept, _ = store(budget_bytes=100)
    kept.put("ann", "k", "hers", 50)
    assert not kept.put("bob", "large", "his", 60)
    assert kept.put("bob", "half", "his", 50)
    assert kept.get("ann", "k") == "hers"


def test_replacing_takes_no_more_room() -> None:
    """A key holds one value, the newer one."""
    kept, _ = store()
    kept.put("ann", "k", "old", 60)
    kept.put("ann", "k", "new", 70)
    assert (kept.get("ann", "k"), kept.size_bytes, kept.count) == ("new", 70, 1)


def test_values_are_forgotten_a_lifetime_after_their_last_use() -> None:
    """Kept at the last moment, gone after it, and the bytes given back without another use."""
    kept, clock = store(lifetime_s=60)
    kept.put("ann", "k", "x", 10)
    clock.now += 60
    assert kept.get("ann", "k") == "x"
    clock.now += 60.5
    kept.forget_old()
    assert (kept.size_bytes, kept.count) == (0, 0)


def test_dropping_says_whether_there_was_anything() -> None:
    """Once, then no more."""
    kept, _ = store()
    kept.put("ann", "k", "x", 10)
    assert not kept.drop("bob", "k")
    assert kept.drop("ann", "k")
    assert not kept.drop("ann", "k")
    assert kept.size_bytes == 0
