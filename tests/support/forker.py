"""A process that uses a client and forks: `forker.py BUNDLE private|named|none CHILD`.

What the child does is named by CHILD; the exit code is 0 when child and parent did as they should.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Run as a file, so that nothing of a test session is in this process.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cascade.bundle.bundle import open_bundle
from cascade.errors import InvalidRequest
from cascade.events import Event, Progress
from runtime_client import Client
from tests.support.serving import child_server

PROMPT = "a red apple"
REFUSED, SERVED = 11, 12
"""Exit codes of children."""
EXPECTED = {"end": 0, "close": 0, "use": REFUSED, "iterate": REFUSED, "own": SERVED}


@contextlib.contextmanager
def client_of(folder: Path, server: str) -> Iterator[Client]:
    """The parent's client."""
    bundle = open_bundle(folder)
    if server != "named":
        yield Client(bundle, cut=4 if server == "none" else 2)
        return
    with child_server(folder, "--listen", "127.0.0.1:0") as (_, read_line):
        while '"listening"' not in (line := read_line()):
            pass
        address = line.split('"address": "')[1].split('"')[0]
        yield Client(bundle, server=address)


def act(client: Client, events: Iterator[Event], what: str) -> int:
    """What a child does; returns its exit code."""
    try:
        if what == "use":
            client.generate(PROMPT)
        elif what == "iterate":
            next(events)
        elif what == "close":
            with client:
                pass
        elif what == "own":
            with Client(client.bundle, client.config) as own:
                own.generate(PROMPT)
            return SERVED
    except InvalidRequest as error:
        return REFUSED if "make a Client of its own" in str(error) else 1
    return 0


def forked(work: Callable[[], int]) -> int:
    """Fork, let the child end as any program does, and wait for it; its exit code."""
    child = os.fork()
    if not child:
        sys.exit(work())
    signal.alarm(100)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def multiprocessed(client: Client, events: Iterator[Event]) -> int:
    """The same by a pool of the standard library."""
    context: Any = multiprocessing.get_context("fork")
    child = context.Process(target=lambda: sys.exit(act(client, events, "use")))
    child.start()
    child.join(100)
    code: int = child.exitcode
    return code


def main(folder: Path, server: str, what: str) -> None:
    """Use a client, fork in the middle of a request, and go on."""
    with client_of(folder, server) as client:
        expected = client.generate(PROMPT).image
        events = client.events(client_request())
        while not isinstance(event := next(events), Progress):
            assert event is not None
        if what == "outlive":
            outlive(client)
            return
        if what == "multiprocessing":
            assert multiprocessed(client, events) == REFUSED
        else:
            assert forked(lambda: act(client, events, what)) == EXPECTED[what]
        # The request that was under way goes on as well.
        assert list(events)
        assert (client.generate(PROMPT).image == expected).all()
        client.close()
        sys.stdout.write("parent:ok\n")


def client_request() -> Any:
    """A request with more than a step of each stage."""
    from cascade.request import GenerateRequest

    return GenerateRequest(prompt=PROMPT)


def outlive(client: Client) -> None:
    """Close the client while a child lives that was forked after the private server was made."""
    private: Any = client._resources._private
    child = os.fork()
    if not child:
        signal.pause()
    client.close()
    sys.stdout.write("parent:ok\n")
    # Not -15: it ended by itself, when its standard input closed.
    sys.stdout.write(f"server:{private._child.returncode}\n")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
