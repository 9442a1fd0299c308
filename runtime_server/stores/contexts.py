"""Text embeddings kept under the sha256 of their content, for requests that name them.

Every caller has its own: a handle opens nothing that somebody else uploaded. Knows arrays and whose
they are; the budget and the time are the store's business.
"""

from cascade.types import ContextF16
from runtime_server.protocol.callers import ANONYMOUS
from runtime_server.stores.budgeted_store import BudgetedStore
from runtime_server.system.clock import Clock
from wire.contexts import context_handle


class ContextStore:
    """The contexts of recent requests; safe to use from several threads."""

    def __init__(self, *, budget_bytes: int, lifetime_s: float, clock: Clock) -> None:
        """An empty store.

        Args:
            budget_bytes: never holds more; a context larger than all of it is not kept.
            lifetime_s: an entry is forgotten so long after its last use.
            clock: monotonic seconds.
        """
        self._kept: BudgetedStore[ContextF16] = BudgetedStore(
            budget_bytes=budget_bytes, lifetime_s=lifetime_s, clock=clock
        )

    @property
    def size_bytes(self) -> int:
        """Bytes held now."""
        return self._kept.size_bytes

    @property
    def count(self) -> int:
        """Contexts held now."""
        return self._kept.count

    def put(self, context: ContextF16, identity: str = ANONYMOUS) -> bytes:
        """Keep a context; keeping it again only refreshes it.

        Args:
            context: `[tokens, width]` float16; not changed by the caller later.
            identity: whose it is.

        Returns:
            Its handle, also when there is no room to keep it.
        """
        # The content's own hash: a client knows it before the upload is through.
        handle = context_handle(context)
        self._kept.put(identity, handle, context, context.nbytes)
        return handle

    def get(self, handle: bytes, identity: str = ANONYMOUS) -> ContextF16 | None:
        """The caller's context of that handle; None when it is not held."""
        return self._kept.get(identity, handle)

    def forget_old(self) -> None:
        """Give back what was not used for a lifetime."""
        self._kept.forget_old()
