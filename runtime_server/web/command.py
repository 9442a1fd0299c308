"""`cascade web`: a page for browsers, and everything behind it, on one address.

Starts a server as a child, the page's files, and Envoy in front of both. Knows how they are
started; what they do is known elsewhere.
"""

import argparse
import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cascade.addresses import UNIX_PREFIX
from cascade.bundle.bundle import open_bundle
from cascade.bundle.default_bundle import DEFAULT_WORDS, bundle_or_default
from cascade.commands.exit_codes import DONE
from cascade.errors import InvalidRequest, TransportError
from cascade.system.interruption import Interrupted
from runtime_server.web.files import FileServer, listed

PAGE = Path(__file__).parents[2] / "clients" / "web" / "dist" / "page"
START_S, STOP_S, POLL_S = 120.0, 10.0, 0.1


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `web`."""
    words = "a page for browsers: a server, its gRPC-Web proxy and the page on one address"
    parser = subparsers.add_parser("web", help=words, description=words)
    parser.add_argument(
        "--bundle", type=Path, metavar="FOLDER", help=f"of the cascade ({DEFAULT_WORDS})"
    )
    parser.add_argument(
        "--listen", default="127.0.0.1:8080", metavar="ADDR", help="host:port (%(default)s)"
    )  # fmt: skip
    parser.add_argument(
        "--server", metavar="ADDR", help="a running server of the same bundle, instead of a new one"
    )
    parser.add_argument(
        "--page", type=Path, default=PAGE, metavar="FOLDER", help="the built page (of the checkout)"
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until asked to stop."""
    if not (args.page / "index.html").is_file():
        raise InvalidRequest(
            f"page: {args.page} holds no built page: run `make web` in the checkout", field="page"
        )
    listen = with_port(args.listen)
    # Envoy is an extra, and is missed before anything is started.
    from runtime_server.web.proxy import Proxy  # noqa: PLC0415

    bundle = open_bundle(bundle_or_default(args.bundle))
    names = ("manifest.json", *(entry.name for entry in bundle.manifest.files))
    files = listed(args.page, "/") | {f"/bundle/{name}": bundle.folder / name for name in names}
    try:
        with contextlib.ExitStack() as stack:
            server = args.server or stack.enter_context(own_server(bundle.folder))
            file_server = FileServer(files)
            stack.callback(file_server.close)
            proxy = Proxy(listen, server, file_server.address)
            stack.callback(proxy.close)
            print(f"http://{listen}", flush=True)  # noqa: T201  its one result
            while proxy.is_alive:
                time.sleep(POLL_S)
    except Interrupted:
        # As a server ends: to be asked to stop is no error.
        return DONE
    raise TransportError("envoy ended")


@contextlib.contextmanager
def own_server(bundle: Path) -> Iterator[str]:
    """`cascade serve` as a child on a private socket: its address, once it accepts connections."""
    with tempfile.TemporaryDirectory(prefix="cascade-web-") as folder:
        path = Path(folder) / "cascade.sock"
        command = [sys.executable, "-m", "cascade", "serve", "--bundle", str(bundle.resolve())]
        command += ["--listen", f"{UNIX_PREFIX}{path}", "--until-stdin-closes"]
        sys.stderr.write("starting the server; the address of the page follows\n")
        child = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        try:
            wait_for_socket(path, child)
            yield f"{UNIX_PREFIX}{path}"
        finally:
            if child.stdin is not None:
                child.stdin.close()
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def wait_for_socket(path: Path, child: "subprocess.Popen[bytes]") -> None:
    """Until something accepts connections at a path.

    Raises:
        TransportError: the child ended, or took too long.
    """
    begun = time.monotonic()
    while time.monotonic() - begun < START_S:
        if child.poll() is not None:
            raise TransportError("the server did not start: its reason is above")
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(path))
            return
        time.sleep(POLL_S)
    raise TransportError(f"the server was not ready within {START_S:g} s")


def with_port(listen: str) -> str:
    """The address, with a free port in the place of 0.

    Raises:
        InvalidRequest: it is no `host:port`.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidRequest(f"listen: expected host:port, got {listen!r}", field="listen")
    if int(port):
        return listen
    with socket.socket() as probe:
        probe.bind((host, 0))
        return f"{host}:{probe.getsockname()[1]}"
