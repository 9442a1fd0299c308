"""Progress for people: a bar per stage on a terminal, one line per stage elsewhere.

Knows events and a text stream; nothing of how pictures are made.
"""

import shutil
from typing import TextIO

from cascade.events import Accepted, Event, FellBack, Progress, Resumed, StageFinished

BAR_WIDTH = 30
CLEAR_LINE = "\r\x1b[K"


class ProgressBars:
    """Shows the events of one request."""

    def __init__(self, out: TextIO, *, interactive: bool, silent: bool = False) -> None:
        """Nothing is shown yet.

        Args:
            out: usually standard error.
            interactive: whether lines may be redrawn.
            silent: show nothing; what is said is said all the same.
        """
        self._out = out
        self._interactive = interactive and not silent
        self._silent = silent
        self._open = False

    def begin(self) -> None:
        """Show that something happens: before the first event engines and a server start."""
        if self._interactive:
            self._draw("starting")

    def say(self, line: str) -> None:
        """A line that the user should see whatever else is shown."""
        self.close()
        self._write(line + "\n")

    def show(self, event: Event) -> None:
        """Show one event."""
        if self._silent:
            return
        if isinstance(event, Progress) and self._interactive:
            self._draw(bar(event))
        elif isinstance(event, Accepted) and self._interactive and event.queue_position:
            self._draw(
                f"waiting in the server's queue: {event.queue_position} ahead, "
                f"about {event.estimated_wait_s:.1f} s"
            )
        elif isinstance(event, StageFinished):
            # Waiting behind others is no time of the stage: the table at the end has it in a row of
            # its own.
            own = sum(event.seconds.values()) - event.seconds.get("queue", 0.0)
            self.say(f"{event.stage:<12} {1000 * own:8.0f} ms")
        elif isinstance(event, Resumed):
            self.say("the connection broke; the server goes on; resuming")
        elif isinstance(event, FellBack):
            self.say(f"the server is gone, {event.stage} and the rest run here: {event.reason}")

    def close(self) -> None:
        """Leave the cursor on a line of its own."""
        if self._open:
            self._write(CLEAR_LINE)
            self._open = False

    def _draw(self, text: str) -> None:
        # A line that wraps could not be redrawn.
        width = shutil.get_terminal_size().columns - 1
        self._write(CLEAR_LINE + text[:width])
        self._open = True

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def bar(event: Progress) -> str:
    """`base         [######----]  6/10`."""
    filled = BAR_WIDTH * event.done // max(1, event.total)
    return f"{event.stage:<12} [{'#' * filled:-<{BAR_WIDTH}}] {event.done:>3}/{event.total}"
