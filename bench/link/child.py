"""A shaped link in a process of its own, so that its work is counted to neither side.

The child ends when its standard input closes, hence with this process however that ends. Knows
`cascade bench link` by its command line.
"""

import contextlib
import json
import subprocess
import sys
from types import TracebackType
from typing import Self

from bench.link.shape import LinkShape
from cascade.errors import TransportError

STOP_PATIENCE_S = 5.0


class LinkChild:
    """One child; a context manager."""

    def __init__(self, shape: LinkShape, target: str) -> None:
        """Start it and wait until it listens.

        Args:
            shape: of the link.
            target: `host:port` or `unix:PATH` of the server.

        Raises:
            TransportError: it ended instead.
        """
        command = [sys.executable, "-m", "bench.link", json.dumps(shape.as_json()), target]
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        self.address = self._answer()

    def reshape(self, shape: LinkShape) -> None:
        """Another link from now on, for the connections that are open too.

        Raises:
            TransportError: the child is gone.
        """
        if self._child.stdin is not None:
            with contextlib.suppress(OSError):
                self._child.stdin.write(json.dumps(shape.as_json()) + "\n")
                self._child.stdin.flush()
        self._answer()

    def _answer(self) -> str:
        """A line of the child's."""
        out = self._child.stdout
        words = out.readline().strip() if out is not None else ""
        if not words:
            self.close()
            raise TransportError("the process of the shaped link ended")
        return words

    def close(self) -> None:
        """End it."""
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        for insist in (self._child.poll, self._child.terminate, self._child.kill):
            insist()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(STOP_PATIENCE_S)
                break

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.close()
