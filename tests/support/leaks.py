"""What an answer must never carry, and how long one may take.

Knows texts and calls; not which fault was tried.
"""

import re
import time
from typing import Any

import grpc

from tests.support.serving import SERVICE, Caller

LONGEST_S = 60.0
"""Until the first answer to anything; a request that was taken may then run as long as it asked.

A hang lasts until the call's deadline, three times this; an answer on a busy machine does not.
"""

INTERNALS = re.compile(
    rb"Traceback|\.py\b|site-packages|/home/|/work/|/tmp/|/usr/|/lib/|<class|<object| at 0x"
    rb"|\b[A-Z][A-Za-z]+(?:Error|Exception|Warning)\b|protobuf|onnx|numpy|PIL\b|libc"
)
"""Paths, frames, names of exception classes and of libraries, addresses."""

BROKEN = ("UNKNOWN", "INTERNAL", "DATA_LOSS", "ABORTED")
"""Codes that no input may bring about."""


class Probe:
    """Sends anything to a server and judges the answers."""

    def __init__(self, caller: Caller) -> None:
        self._channel = caller.channel
        self.slowest_s = 0.0
        self.codes: dict[str, int] = {}

    def send(self, method: str, data: bytes) -> str:
        """The code of the answer; a stream that begins is given up and counts as OK.

        A late answer is asked for again: a hang comes back, a busy machine passes.

        Raises:
            AssertionError: it took too long, told of the inside, or is a code of failure.
        """
        took_s, code = self._attempt(method, data)
        for _ in range(2):
            if took_s >= LONGEST_S:
                took_s, code = self._attempt(method, data)
        self.slowest_s = max(self.slowest_s, took_s)
        self.codes[code] = self.codes.get(code, 0) + 1
        assert took_s < LONGEST_S, f"{took_s:.2f} s until the answer to {method} {data[:200]!r}"
        assert code not in BROKEN, f"{code} for {method} {data!r}"
        return code

    def _attempt(self, method: str, data: bytes) -> tuple[float, str]:
        """Seconds and code."""
        begun = time.monotonic()
        call: Any
        if method == "Generate":
            call = self._channel.unary_stream(SERVICE + method)(data, timeout=3 * LONGEST_S)
        else:
            call = self._channel.unary_unary(SERVICE + method).future(data, timeout=3 * LONGEST_S)
        code = "OK"
        try:
            next(call) if method == "Generate" else call.result()
        except grpc.RpcError:
            code = call.code().name
        took_s = time.monotonic() - begun
        if code == "OK":
            call.cancel()
        else:
            check_silence(call)
        return took_s, code


def check_silence(call: Any) -> None:
    """Raise `AssertionError` where a failed call's message or trailers tell of the inside."""
    told = [(call.details() or "").encode()]
    for _, value in call.trailing_metadata() or ():
        told.append(value if isinstance(value, bytes) else value.encode())
    for text in told:
        found = INTERNALS.search(text)
        assert found is None, f"the answer tells {found!r}: {text[:400]!r}"
