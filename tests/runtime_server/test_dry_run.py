"""`cascade serve --dry-run`: everything but serving, and an answer for the script that asks."""

import subprocess
import sys
from pathlib import Path

import pytest

from cascade.bundle.bundle import Bundle
from tests.support.tiny_bundle import write_tiny_bundle


def dry_run(*options: str) -> subprocess.CompletedProcess[str]:
    """The command's exit code and what it printed."""
    command = [sys.executable, "-m", "cascade", "serve", "--dry-run", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_it_says_what_the_server_would_be(bundle: Bundle) -> None:
    """Bundle, components with a measured step, limits, memory; nothing is listened on."""
    done = dry_run("--bundle", str(bundle.folder), "--cut", "1", "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert bundle.bundle_id in done.stdout
    assert "plaintext, anonymous callers" in done.stdout
    table = {
        words[1]: words[2:]
        for words in (line.split() for line in done.stdout.splitlines())
        if words[0].isdigit()
    }
    assert list(table) == ["base", "sr16", "sr32"]
    for name, size in (("base", "8"), ("sr16", "16"), ("sr32", "32")):
        engine, precision, resolution, steps, milliseconds, *_ = table[name]
        assert (engine, precision, resolution, steps) == ("ort", "fp32", size, "3")
        assert float(milliseconds) > 0
    assert "max_queued_per_stage = 16" in done.stdout
    assert "MiB resident" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--bundle", "nowhere"), "nowhere is not a folder"),
        (("--cut", "9"), "cut"),
        (("--token-keys", "nowhere.toml"), "nowhere.toml"),
        (("--tls-cert", "no.pem", "--tls-key", "no.pem"), "no.pem"),
        (("--config", "nowhere.toml"), "nowhere.toml"),
        (("--listen", "0.0.0.0:1"), "--insecure"),
    ],
)
def test_what_could_not_be_served_is_exit_code_2(
    options: tuple[str, ...], says: str, bundle: Bundle
) -> None:
    """With one line that says why."""
    done = dry_run("--threads", "1", "--bundle", str(bundle.folder), *options)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert says in line


def test_a_changed_file_is_found(tmp_path: Path) -> None:
    """Also one that would not be opened: another precision of what is served."""
    folder = write_tiny_bundle(tmp_path / "bundle", int8=True).folder
    variant = folder / "sr16.int8.onnx"
    variant.write_bytes(variant.read_bytes()[:-1] + b" ")
    done = dry_run("--bundle", str(folder), "--cut", "2", "--threads", "1")
    assert (done.returncode, "sha256" in done.stderr) == (2, True)


def test_settings_are_printed_as_the_file_that_says_them(bundle: Bundle, tmp_path: Path) -> None:
    """`--print-config` turns a command line into a configuration."""
    command = [sys.executable, "-m", "cascade", "serve", "--print-config"]
    options = ["--bundle", str(bundle.folder), "--cut", "2", "--reflection"]
    printed = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    file = tmp_path / "server.toml"
    file.write_text(printed.stdout)
    again = subprocess.run(
        [*command, "--config", str(file)], capture_output=True, text=True, check=True
    )
    assert again.stdout == printed.stdout
    assert "\ncut = 2\n" in printed.stdout
