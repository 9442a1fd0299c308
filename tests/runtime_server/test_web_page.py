"""`cascade web`: what its file server gives, how Envoy is configured, what is refused."""

import json
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from cascade.commands.cli import main
from cascade.commands.exit_codes import BAD_INPUT
from runtime_server.web.files import FileServer, listed
from runtime_server.web.proxy_config import proxy_config
from tests import web_errors
from tests.support.serving import HANG_S


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    """Serves a page of two files beside a secret."""
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("<p>page</p>")
    (tmp_path / "page" / "engine.wasm").write_bytes(b"\0asm")
    (tmp_path / "secret").write_text("no")
    running = FileServer(listed(tmp_path / "page", "/"))
    yield running
    running.close()


def get(server: FileServer, path: str, **headers: str) -> tuple[HTTPResponse, bytes]:
    """One answer and its body."""
    connection = HTTPConnection(server.address, timeout=HANG_S)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_listed_files_come_with_the_headers_that_isolate_a_page(server: FileServer) -> None:
    """`/` is the index; WebAssembly has its own type."""
    response, body = get(server, "/?again")
    assert (response.status, body) == (200, b"<p>page</p>")
    assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert response.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    response, body = get(server, "/engine.wasm")
    assert (response.headers["Content-Type"], body) == ("application/wasm", b"\0asm")


def test_nothing_else_comes(server: FileServer) -> None:
    """Paths are looked up in a list: none leads out of the folder."""
    for path in ("/secret", "/../secret", "/%2e%2e/secret", "/page/index.html", "//secret"):
        assert get(server, path)[0].status == 404


def test_an_unchanged_file_is_not_sent_again(server: FileServer) -> None:
    """Its tag is the answer; a weak one, which a compressing proxy leaves there."""
    tag = get(server, "/")[0].headers["ETag"]
    assert tag.startswith("W/")
    response, body = get(server, "/", **{"If-None-Match": tag})
    assert (response.status, body) == (304, b"")
    assert get(server, "/", **{"If-None-Match": 'W/"other"'})[0].status == 200


def test_a_page_that_is_not_built_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the command that builds it."""
    assert main(["web", "--page", str(tmp_path)]) == BAD_INPUT
    assert "make web" in capsys.readouterr().err


@pytest.mark.parametrize("listen", ["nope", "127.0.0.1:", ":x", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_refused(
    tmp_path: Path, listen: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is started."""
    (tmp_path / "index.html").touch()
    assert main(["web", "--page", str(tmp_path), "--listen", listen]) == BAD_INPUT
    assert "listen: expected host:port" in capsys.readouterr().err


def test_the_service_goes_to_the_server_and_all_else_to_the_files() -> None:
    """Nothing bounds a call but its own deadline."""
    config = proxy_config("127.0.0.1:1", "unix:/tmp/x.sock", "127.0.0.1:2")
    (listener,) = config["static_resources"]["listeners"]
    (chain,) = listener["filter_chains"]
    (hosts,) = chain["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    service, files = hosts["routes"]
    assert service["match"] == {"prefix": "/cascade.v1.CascadeService/"}
    assert service["route"]["timeout"] == "0s"
    assert files["route"]["cluster"] == "files"
    assert '"path": "/tmp/x.sock"' in json.dumps(config)


def test_the_errors_of_the_web_client_are_those_of_the_tree() -> None:
    """The generated file is what the generator writes."""
    assert web_errors.FILE.read_text() == web_errors.text()
