"""The page's files and the bundle's over HTTP, with the headers that isolate a page.

Serves a fixed list of files by their paths and nothing else. Knows files; no page and no bundle.
"""

import mimetypes
import os
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copyfileobj

HEADERS = {
    # Threads of WebAssembly and exact clocks need a page that is isolated from other origins.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    # Asked every time, answered without content where nothing is new.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; "
    "img-src 'self' blob: data:; worker-src 'self'; base-uri 'none'; form-action 'none'",
}
TYPES = {".wasm": "application/wasm", ".js": "text/javascript", ".onnx": "application/octet-stream"}
INDEX = "/index.html"


class FileServer:
    """A file server on a free port of this machine."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        """Start it.

        Args:
            files: by path of the URL; `/` is `/index.html`.
        """

        class Handler(BaseHTTPRequestHandler):
            """One request."""

            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                """A listed file, or 404."""
                path = self.path.partition("?")[0]
                send(self, files.get(INDEX if path == "/" else path))

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """No line per request."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Accept no more."""
        self._server.shutdown()
        self._server.server_close()


def send(request: BaseHTTPRequestHandler, file: Path | None) -> None:
    """A file with its headers; 404 for None."""
    if file is None or not file.is_file():
        request.send_error(HTTPStatus.NOT_FOUND)
        return
    kind = TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0]
    with file.open("rb") as source:
        state = os.fstat(source.fileno())
        # A weak tag: Envoy drops a strong one where it compresses.
        tag = f'W/"{state.st_mtime_ns:x}-{state.st_size:x}"'
        if request.headers.get("If-None-Match") == tag:
            request.send_response(HTTPStatus.NOT_MODIFIED)
            request.end_headers()
            return
        request.send_response(HTTPStatus.OK)
        request.send_header("ETag", tag)
        request.send_header("Content-Type", kind or "application/octet-stream")
        request.send_header("Content-Length", str(state.st_size))
        for name, value in HEADERS.items():
            request.send_header(name, value)
        request.end_headers()
        copyfileobj(source, request.wfile)


def listed(folder: Path, prefix: str) -> dict[str, Path]:
    """Every file of a folder by its path of the URL, `prefix` first.

    Args:
        folder: with its subfolders.
        prefix: begins and ends with `/`.
    """
    every = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {prefix + path.relative_to(folder).as_posix(): path for path in every}
