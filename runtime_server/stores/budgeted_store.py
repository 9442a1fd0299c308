"""Values under their owner's keys within a budget of bytes, for a time: the least recently used go.

One owner's values never push out those of an owner who holds less. Knows sizes and a passed-in
clock; not what the values are.
"""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from runtime_server.system.clock import Clock

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Entry(Generic[V]):
    """One value."""

    value: V
    size_bytes: int
    used_at: float


class OwnedEntries(Generic[V]):
    """What one owner has here, in the order of its use."""

    def __init__(self) -> None:
        self.entries: OrderedDict[Hashable, Entry[V]] = OrderedDict()
        self.size_bytes = 0

    def take(self, key: Hashable) -> Entry[V] | None:
        """Remove an entry."""
        entry = self.entries.pop(key, None)
        if entry is not None:
            self.size_bytes -= entry.size_bytes
        return entry

    def add(self, key: Hashable, entry: Entry[V]) -> None:
        """Add an entry as the most recently used."""
        self.entries[key] = entry
        self.size_bytes += entry.size_bytes


class BudgetedStore(Generic[V]):
    """The values; safe to use from several threads."""

    def __init__(self, *, budget_bytes: int, lifetime_s: float, clock: Clock) -> None:
        """An empty store.

        Args:
            budget_bytes: never holds more; a value larger than all of it is not kept.
            lifetime_s: a value is forgotten so long after its last use.
            clock: monotonic seconds.
        """
        self._budget_bytes = budget_bytes
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._lock = threading.Lock()
        self._owned: dict[str, OwnedEntries[V]] = {}

    @property
    def size_bytes(self) -> int:
        """Bytes held now."""
        with self._lock:
            return self._total()

    @property
    def count(self) -> int:
        """Values held now."""
        with self._lock:
            return sum(len(owned.entries) for owned in self._owned.values())

    def put(self, owner: str, key: Hashable, value: V, size_bytes: int) -> bool:
        """Keep a value in place of an earlier one of the same key.

        Args:
            owner: whose it is; keys of different owners are different.
            key: its name.
            value: not changed by the caller later.
            size_bytes: what it counts in the budget.

        Returns:
            Whether it is kept: not one that only fits at the cost of owners who hold less.
        """
        with self._lock:
            self._forget_old()
            self._take(owner, key)
            if not self._make_room(owner, size_bytes):
                return False
            # At the end of the order of use, also where it was kept before.
            entry = Entry(value, size_bytes, self._clock())
            self._owned.setdefault(owner, OwnedEntries()).add(key, entry)
            return True

    def get(self, owner: str, key: Hashable) -> V | None:
        """The value of that key, now the most recently used; None when it is not held."""
        with self._lock:
            self._forget_old()
            entry = self._take(owner, key)
            if entry is None:
                return None
            fresh = Entry(entry.value, entry.size_bytes, self._clock())
            self._owned.setdefault(owner, OwnedEntries()).add(key, fresh)
            return entry.value

    def drop(self, owner: str, key: Hashable) -> bool:
        """Forget a value; returns whether it was there."""
        with self._lock:
            return self._take(owner, key) is not None

    def forget_old(self) -> None:
        """Give back what was not used for a lifetime, without waiting for the next use."""
        with self._lock:
            self._forget_old()

    def _total(self) -> int:
        return sum(owned.size_bytes for owned in self._owned.values())

    def _make_room(self, owner: str, size_bytes: int) -> bool:
        """Drop values until a new one fits: always of whoever would hold the most."""
        if size_bytes > self._budget_bytes:
            return False
        while self._total() + size_bytes > self._budget_bytes:
            held = {name: owned.size_bytes for name, owned in self._owned.items()}
            held[owner] = held.get(owner, 0) + size_bytes
            # At a tie the newcomer gives way.
            victim = max(held, key=lambda name: (held[name], name == owner))
            owned = self._owned.get(victim)
            if owned is None:
                return False
            self._take(victim, next(iter(owned.entries)))
        return True

    def _forget_old(self) -> None:
        """Drop what was not used for a lifetime; every owned is in the order of use."""
        oldest = self._clock() - self._lifetime_s
        for owner in list(self._owned):
            owned = self._owned[owner]
            while owned.entries:
                key, entry = next(iter(owned.entries.items()))
                # In the order of use: nothing behind it is older.
                if entry.used_at >= oldest:
                    break
                self._take(owner, key)

    def _take(self, owner: str, key: Hashable) -> Entry[V] | None:
        """Remove one entry if it is there, and the owned with its last one."""
        owned = self._owned.get(owner)
        entry = None if owned is None else owned.take(key)
        if owned is not None and not owned.entries:
            del self._owned[owner]
        return entry
