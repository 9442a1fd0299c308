"""A port for a server that is to come, or to come back: kept from everybody else meanwhile.

A port that was found free and let go is soon another test's, on a machine that opens many
connections. Knows sockets; not what will listen.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved_address() -> Iterator[str]:
    """`127.0.0.1:PORT`, where nothing listens and only who names the port can.

    A bound socket that does not listen: the kernel gives its port to no outgoing connection, and
    SO_REUSEADDR, which gRPC sets too, lets a server listen beside it.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"
