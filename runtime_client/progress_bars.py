"""Progress for people: a bar per stage on a terminal, one line per stage elsewhere.

Knows events and a text stream; nothing of how pictures are made.
"""

from typing import TextIO

from cascade.events import Accepted, Event, FellBack, Progress, Resumed, StageFinished

BAR_WIDTH = 30
CLEAR_LINE = "\r\x1b[K"


class ProgressBars:
    """Shows the events of one request."""

    def __init__(self, out: TextIO, *, interactive: bool) -> None:
        """Nothing is shown yet.

        Args:
            out: usually standard error.
            interactive: whether lines may be redrawn.
        """
        self._out = out
        self._interactive = interactive
        self._open = False

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Progress) and self._interactive:
            self._draw(bar(event))
        elif isinstance(event, Accepted) and self._interactive and event.queue_position:
            self._draw(
                f"waiting in the server's queue: {event.queue_position} ahead, "
                f"about {event.estimated_wait_s:.1f} s"
            )
        elif isinstance(event, StageFinished):
            own = sum(event.seconds.values()) - event.seconds.get("queue", 0.0)
            self._line(f"{event.stage:<12} {1000 * own:8.0f} ms")
        elif isinstance(event, Resumed):
            self._line("the connection broke; the server goes on, and so do we")
        elif isinstance(event, FellBack):
            self._line(f"the server is gone, {event.stage} and the rest run here: {event.reason}")

    def close(self) -> None:
        """Leave the cursor on a line of its own."""
        if self._open:
            self._write(CLEAR_LINE)
            self._open = False

    def _draw(self, text: str) -> None:
        self._write(CLEAR_LINE + text)
        self._open = True

    def _line(self, text: str) -> None:
        self.close()
        self._write(text + "\n")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def bar(event: Progress) -> str:
    """`base         [######----]  6/10`."""
    filled = BAR_WIDTH * event.step // max(1, event.of)
    return f"{event.stage:<12} [{'#' * filled:-<{BAR_WIDTH}}] {event.step:>3}/{event.of}"
