"""The JavaScript client over TLS with a token; its tutorial runs the rest, as Kotlin's does."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents.workspace import make_workspace, serving, shell
from tests.examples.npm import install
from tests.support.certificates import Authority

TOKEN = "token-of-alice"  # noqa: S105


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server that requires a token over TLS."""
    make_workspace(tmp_path)
    pair = Authority(tmp_path / "ca", "authority").issue("server", hosts=("localhost",))
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    (tmp_path / "keys.toml").write_text(f'"alice" = "{digest}"\n')
    command = (
        f"cascade serve --listen 127.0.0.1:0 --tls-cert {pair.certificate} --tls-key {pair.key} "
        "--token-keys keys.toml"
    )
    with serving(command, tmp_path) as address:
        yield address.replace("127.0.0.1", "localhost")


def test_javascript_over_tls(tmp_path: Path, server: str) -> None:
    """With the authority and the token a picture comes; another token is refused by name."""
    install(tmp_path / "client")
    line = f'node client/picture.mjs {server} "a red circle" out.png'
    trusted = f"CASCADE_CA={tmp_path}/ca/authority.pem"
    drawn = shell(f"{trusted} CASCADE_TOKEN={TOKEN} {line}", tmp_path)
    assert drawn.returncode == 0, drawn.stderr
    assert "sr32: 32x32" in drawn.stdout
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    refused = shell(f"{trusted} CASCADE_TOKEN=another {line}", tmp_path)
    assert (refused.returncode, refused.stderr) == (
        1, "error: 16 UNAUTHENTICATED: token: it is not accepted\n"
    )  # fmt: skip
