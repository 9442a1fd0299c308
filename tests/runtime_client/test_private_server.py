"""The server of one's own: private, gone with its client, and honest when it does not start."""

import stat
from pathlib import Path

import pytest

from cascade.bundle.bundle import Bundle
from cascade.errors import TransportError
from cascade.tuning.plan import EnginePlan
from runtime_client.local.private_server import PrivateServer


def test_it_starts_serves_and_leaves_nothing(bundle: Bundle) -> None:
    """Its folder is the user's alone and goes with it."""
    server = PrivateServer(bundle.folder, EnginePlan(), ["sr16", "sr32"])
    try:
        socket_path = Path(server.wait_until_ready().removeprefix("unix:"))
        assert stat.S_IMODE(socket_path.parent.stat().st_mode) == 0o700
        assert server.is_alive
    finally:
        server.close()
    assert not server.is_alive
    assert not socket_path.parent.exists()
    server.close()


def test_a_failed_start_tells_the_childs_last_line(tmp_path: Path) -> None:
    """A bundle that is not one: the error carries the server's own message."""
    server = PrivateServer(tmp_path, EnginePlan(), ["sr16", "sr32"])
    try:
        with pytest.raises(TransportError, match=r"did not start: .*manifest\.json"):
            server.wait_until_ready()
    finally:
        server.close()
