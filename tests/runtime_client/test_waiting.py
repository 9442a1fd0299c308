"""`--wait`: a server that is still starting is waited for, by every command that calls one."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cascade.bundle.bundle import Bundle
from cascade.commands.cli import main
from cascade.errors import InvalidRequest
from runtime_client.config import ClientConfig
from tests.support.serving import running
from tests.support.tiny_bundle import write_tiny_bundle

LATE_S = 1.6
"""Longer than a server is waited for unasked."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny one."""
    return write_tiny_bundle(tmp_path_factory.mktemp("waiting") / "bundle")


@contextmanager
def late_server(bundle: Bundle, place: Path) -> Iterator[str]:
    """The address of a server that listens there only after a while."""
    done = threading.Event()

    def serve() -> None:
        time.sleep(LATE_S)
        with running(bundle, listen=f"unix:{place}", cut=0):
            done.wait(60)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"unix:{place}"
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("generate", "a cat", "-q", "-o"), 0),
        (("fetch", "0123456789abcdef0123456789abcdef", "-q", "-o"), 3),
        (("cancel", "0123456789abcdef0123456789abcdef"), 0),
        (("doctor",), 0),
    ],
)
def test_a_late_server_is_waited_for(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...],
    code: int,
) -> None:  # fmt: skip
    """Of a request that it does not know it says so: it was reached."""
    output = [str(tmp_path / "a.png")] if words[-1] == "-o" else []
    named = [str(bundle.folder)] if words[0] == "doctor" else ["--bundle", str(bundle.folder)]
    with late_server(bundle, tmp_path / "s") as address:
        found = main([*words, *output, *named, "--server", address, "--wait", "60"])
    said = capsys.readouterr()
    assert found == code, said.out + said.err
    assert "cannot be reached" not in said.out + said.err


def test_a_download_waits_too(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that offers no files says so: it was reached."""
    with late_server(bundle, tmp_path / "s") as address:
        assert main(["bundle", "pull", address, str(tmp_path / "b"), "--wait", "60"]) == 3
    assert "--offer-bundle" in capsys.readouterr().err


def test_no_longer_than_asked(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a wait the first refusal is the last."""
    base = ["generate", "a cat", "-q", "-o", str(tmp_path / "a.png"), "--wait", "0"]
    address = f"unix:{tmp_path / 'nothing'}"
    assert main([*base, "--bundle", str(bundle.folder), "--server", address]) == 3
    assert "cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_what_is_no_time(seconds: float) -> None:
    """Refused where the configuration is made."""
    with pytest.raises(InvalidRequest, match="wait_s: expected 0 to"):
        ClientConfig(server="a:1", wait_s=seconds)
