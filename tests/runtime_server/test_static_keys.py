"""Static tokens: what a file of keys may hold, and how a token is made and found."""

import tomllib

import pytest

from cascade.commands.cli import main
from cascade.errors import InvalidRequest
from runtime_server.auth.static_keys import (
    MAX_KEYS,
    TOKEN_PREFIX,
    hash_token,
    make_token,
    match_token,
    read_keys,
)


def test_a_token_is_found_under_its_name() -> None:
    """And no other is."""
    tokens = {name: make_token() for name in ("alice", "bob")}
    keys = {name: hash_token(token) for name, token in tokens.items()}
    assert all(match_token(keys, token) == name for name, token in tokens.items())
    assert match_token(keys, make_token()) is None
    assert match_token(keys, "") is None
    assert match_token(keys, "\udcff") is None


def test_hashes_are_sha256() -> None:
    """The published value of `abc`, so that other tools can write the file."""
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert hash_token("abc") == known
    assert match_token(read_keys(f'a = "{known}"'.encode()), "abc") == "a"


def test_the_command_prints_a_token_and_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The token alone on standard output; the line is one that a server reads."""
    assert main(["token", "bob@example.org"]) == 0
    said = capsys.readouterr()
    token = said.out.strip()
    assert token.startswith(TOKEN_PREFIX)
    assert len(token) >= len(TOKEN_PREFIX) + 43
    line = said.err.strip().splitlines()[-1]
    assert match_token(read_keys(line.encode()), token) == "bob@example.org"
    assert token not in said.err


def test_the_command_refuses_a_name_that_no_file_could_hold(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the rule."""
    assert main(["token", "no spaces"]) == 2
    assert "A-Za-z0-9" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "alice",
        "= x",
        'alice = "short"',
        f'alice = "{"G" * 64}"',
        "alice = 7",
        f'"two words" = "{"0" * 64}"',
        f'[alice]\nkey = "{"0" * 64}"',
        f'alice = "{"0" * 64}"\nalice = "{"1" * 64}"',
    ],
)
def test_a_bad_file_is_refused_and_not_quoted(text: str) -> None:
    """Somebody may have written the token in the place of its hash."""
    with pytest.raises(InvalidRequest) as found:
        read_keys(text.encode())
    assert "short" not in str(found.value)
    assert "0000" not in str(found.value)


def test_the_number_of_keys_is_bounded() -> None:
    """Every token is compared with every key."""
    lines = [f'n{i} = "{i:064x}"' for i in range(MAX_KEYS + 1)]
    assert len(read_keys("\n".join(lines[:-1]).encode())) == MAX_KEYS
    assert len(tomllib.loads("\n".join(lines))) == MAX_KEYS + 1
    with pytest.raises(InvalidRequest, match="at most"):
        read_keys("\n".join(lines).encode())
