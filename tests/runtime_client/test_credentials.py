"""The client's token: where it comes from, where it may go, and that nobody gets to see it."""

import logging
from pathlib import Path
from typing import Any

import pytest

from cascade.bundle.bundle import Bundle
from cascade.errors import InvalidRequest, Unauthenticated
from runtime_client.client import Client
from runtime_client.config import ClientConfig
from runtime_client.credentials import TOKEN_VARIABLE, BearerToken
from runtime_server.auth.static_keys import hash_token, make_token
from tests.support.certificates import Authority
from tests.support.serving import running
from wire.limits import MAX_TOKEN_CHARACTERS

FAR, NEAR = "example.org:443", "127.0.0.1:7860"


@pytest.mark.parametrize(
    ("choices", "field"),
    [
        ({"server": FAR, "token": "t"}, "token"),
        ({"server": FAR, "token_file": Path("/t")}, "token"),
        ({"token": "t"}, "token"),
        ({"server": NEAR, "token": "t", "token_file": Path("/t")}, "token"),
        ({"server": NEAR, "token": "two words"}, "token"),
        ({"server": NEAR, "token": "line\nbreak"}, "token"),
        ({"server": NEAR, "token": "x" * (MAX_TOKEN_CHARACTERS + 1)}, "token"),
        ({"server": NEAR, "tls": True, "client_cert": Path("/c")}, "client_cert"),
        ({"server": NEAR, "client_cert": Path("/c"), "client_key": Path("/k")}, "client_cert"),
        (
            {"server": NEAR, "tls": True, "client_cert": Path("/no"), "client_key": Path("/no")},
            "client_cert",
        ),
    ],
)
def test_wrong_choices_name_their_field(choices: dict[str, Any], field: str) -> None:
    """Above all a token that others could read on its way."""
    with pytest.raises(InvalidRequest) as found:
        ClientConfig(**choices)
    assert found.value.field == field


@pytest.mark.parametrize(
    "choices",
    [
        {"server": NEAR},
        {"server": "unix:/run/a.sock"},
        {"server": FAR, "tls": True},
        {"server": FAR, "token_over_plaintext": True},
    ],
)
def test_where_a_token_may_go(choices: dict[str, Any]) -> None:
    """This machine, encrypted, or where somebody insists."""
    longest = "x" * MAX_TOKEN_CHARACTERS
    assert ClientConfig(**choices, token=longest).token == longest


def test_a_token_is_not_shown() -> None:
    """Whoever prints a configuration prints no secret."""
    config = ClientConfig(server=NEAR, token="open-sesame")  # noqa: S106
    assert "sesame" not in repr(config)
    assert "sesame" not in repr(BearerToken(token="open-sesame"))  # noqa: S106


def test_a_token_file_is_read_for_every_call(tmp_path: Path) -> None:
    """Whoever renews the token replaces the file."""
    path = tmp_path / "token"
    path.write_text(" first\n")
    token = BearerToken(file=path)
    assert token.metadata() == (("authorization", "Bearer first"),)
    path.write_text("second")
    assert token.metadata() == (("authorization", "Bearer second"),)
    for bad in (b"", b"two words", b"\xff", b"x" * (MAX_TOKEN_CHARACTERS + 1)):
        path.write_bytes(bad)
        with pytest.raises(InvalidRequest, match="token_file") as found:
            token.metadata()
        assert "two words" not in str(found.value)
    path.unlink()
    with pytest.raises(InvalidRequest, match="No such file"):
        token.metadata()


def test_a_picture_with_a_token_and_none_without(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Over TLS with a client certificate, the token in a file; the wrong one is a typed error."""
    authority, token = Authority(tmp_path / "tls", "authority"), make_token()
    server_pair, client_pair = authority.issue("server"), authority.issue("client")
    keys, file = tmp_path / "keys.toml", tmp_path / "token"
    keys.write_text(f'alice = "{hash_token(token)}"')
    file.write_text(token)
    settings = {
        "token_keys": keys,
        "tls_cert": server_pair.certificate,
        "tls_key": server_pair.key,
        "tls_client_ca": authority.certificate,
    }
    with running(bundle, **settings) as server, caplog.at_level(logging.DEBUG):
        common = ClientConfig(
            server=server.address,
            threads=1,
            tls=True,
            ca_file=authority.certificate,
            client_cert=client_pair.certificate,
            client_key=client_pair.key,
        )
        with Client(bundle, common, token_file=file) as client:
            assert client.generate("a red apple").image.shape == (32, 32, 3)
        for wrong in ({"token": make_token()}, {}):
            with Client(bundle, common, **wrong) as client, pytest.raises(Unauthenticated):
                client.generate("a red apple")
    assert token not in caplog.text


def test_the_command_takes_the_token_from_the_environment(
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """For a server that is named; `--token-file` goes over it."""
    from cascade.commands.cli import main

    token = make_token()
    keys, file, picture = tmp_path / "keys.toml", tmp_path / "token", tmp_path / "picture.png"
    keys.write_text(f'alice = "{hash_token(token)}"')
    file.write_text(token)
    with running(bundle, token_keys=keys) as server:
        command = ["generate", "a red apple", "-o", str(picture), "--threads", "1"]
        command += ["--bundle", str(bundle.folder), "--server", server.address]
        monkeypatch.setenv(TOKEN_VARIABLE, "wrong")
        assert main(command) == 3
        said = capsys.readouterr().err
        assert "token" in said
        assert "wrong" not in said
        assert main([*command, "--token-file", str(file)]) == 0
        monkeypatch.setenv(TOKEN_VARIABLE, token)
        assert main(command) == 0
    assert picture.stat().st_size
