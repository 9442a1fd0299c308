"""Things belong to the process that made them: a forked child neither uses nor ends them.

A fork copies what an object knows, not the threads, sockets and children behind it. Knows
processes; nothing of what is owned.
"""

import contextlib
import ctypes
import os
import weakref
from collections.abc import Callable
from typing import Any

from cascade.errors import InvalidRequest

_in_children: "weakref.WeakKeyDictionary[Any, Callable[[Any], None]]" = weakref.WeakKeyDictionary()
"""What is done, in a forked child, with its copies of things."""
_watching = False


class OwningProcess:
    """The process where something was made."""

    def __init__(self) -> None:
        """This one."""
        # Threads, locks and connections do not survive a fork; only the number tells.
        self._id = os.getpid()

    @property
    def is_this(self) -> bool:
        """Whether that is the process which asks."""
        return os.getpid() == self._id

    def check(self, what: str) -> None:
        """Raise in any other process.

        Args:
            what: names the thing for people; begins with its article.

        Raises:
            InvalidRequest: naming the remedy.
        """
        if not self.is_this:
            raise InvalidRequest(
                f"process: {what} belongs to process {self._id}, which made it, and this is "
                f"{os.getpid()}, forked from it: make a Client of its own in this process",
                field="process",
            )


def do_in_children(thing: Any, action: Callable[[Any], None]) -> None:
    """Have something done with the copy of a thing in every child that this process forks.

    Args:
        thing: is not kept alive by this.
        action: gets the thing; what it raises is lost.
    """
    global _watching  # noqa: PLW0603  nothing is registered at import
    _in_children[thing] = action
    if not _watching:
        _watching = True
        os.register_at_fork(after_in_child=_act_in_child)


def never_free(thing: Any) -> None:
    """Keep a thing and what it refers to for the rest of the process, its end included.

    Destructors of inference engines wait for threads that a forked child does not have.
    """
    # One reference that nobody gives back: Python never gets to the destructor.
    for held in (thing, *vars(thing).values()):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))


def _act_in_child() -> None:
    for thing, action in list(_in_children.items()):
        with contextlib.suppress(Exception):
            action(thing)
