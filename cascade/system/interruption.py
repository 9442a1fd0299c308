"""The signals that end a command: Ctrl-C, SIGTERM and SIGHUP, each with its own exit code.

Until a command has something to clean up they end the process at once, without a traceback;
afterwards the first one is raised in the main thread, so that every `finally` runs. A signal that
was ignored when the process began (`nohup`, a job in the background) stays ignored. Imports next to
nothing: whatever is imported before it runs could still be interrupted with a traceback.
"""

import _thread
import os
import signal
import sys
import time
from types import FrameType
from typing import Any

ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
SIGNALLED = 128
"""As in `cascade.commands.exit_codes`."""
LATER_S = 0.01
TAKING_A_LOCK = frozenset({"__enter__", "__exit__", "_release_save", "_acquire_restore"})
"""Functions of `threading.Condition` and its like between which and their caller a lock that is
taken belongs to nobody yet: an exception there leaves it locked for ever."""


class Interrupted(KeyboardInterrupt):
    """One of the signals came; `exit_code` is what the process then returns."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(self.signal.name)
        self.exit_code = SIGNALLED + number


class EndingSignals:
    """What this process does when it is asked to end. Made in its main thread."""

    def __init__(self) -> None:
        # Ignored when the process began, as under nohup: it stays ignored.
        self._numbers = [n for n in ENDING if signal.getsignal(n) is not signal.SIG_IGN]
        self._raised = False
        self._main = _thread.get_ident()

    def exit_at_once(self) -> None:
        """End without a word: there is nothing to clean up.

        What a command left ignored stays so: a server that has drained exits with its own code.
        """
        for number in self._numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, leave)

    def raise_first(self) -> None:
        """Raise `Interrupted` once; then only a second Ctrl-C ends the process, and at once."""
        self._raised = False
        for number in self._numbers:
            signal.signal(number, self._raise)
        sys.unraisablehook = self._deliver_again

    def _raise(self, number: int, frame: FrameType | None) -> None:
        # Once: a second exception inside the clean-up of the first would cut it short.
        if not self._raised:
            self._raised = True
            if frame is not None and frame.f_code.co_name in TAKING_A_LOCK:
                # Whoever waits for that lock, a thread that is joined at the end, would hang.
                _thread.start_new_thread(self._once_more, (signal.Signals(number),))
                return
            raise Interrupted(number)
        if number == signal.SIGINT:
            leave(number, frame)

    def _deliver_again(self, lost: Any) -> None:
        """Python drops what a handler raises inside a `__del__` or a callback: raise it anew."""
        if isinstance(lost.exc_value, Interrupted):
            _thread.start_new_thread(self._once_more, (lost.exc_value.signal,))
        else:
            sys.__unraisablehook__(lost)

    def _once_more(self, number: signal.Signals) -> None:
        """From another thread, and a moment later: the main one must first leave where it is."""
        time.sleep(LATER_S)
        self._raised = False
        if hasattr(signal, "pthread_kill"):
            # A true signal: `interrupt_main` only leaves a note, which a main thread that waits for
            # a lock reads when the wait is over.
            signal.pthread_kill(self._main, number)
        else:
            _thread.interrupt_main(number)


def interruption_behind(error: BaseException) -> KeyboardInterrupt | None:
    """The signal that something was unwound by when it failed; None where there was none.

    An exception that arrives between any two instructions may leave a lock half taken or a
    generator half closed, so that cleaning up fails with an error of its own.
    """
    seen: set[int] = set()
    behind: BaseException | None = error
    # Chains of exceptions may be cyclic: each is looked at once.
    while behind is not None and id(behind) not in seen:
        if isinstance(behind, KeyboardInterrupt):
            return behind
        seen.add(id(behind))
        behind = behind.__cause__ or behind.__context__
    return None


def leave(number: int, frame: FrameType | None) -> None:
    """End this process with the signal's exit code, whatever it is doing."""
    del frame
    # No handlers, no destructors: those of inference engines may wait for ever.
    os._exit(SIGNALLED + number)
