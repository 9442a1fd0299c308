"""Which bundle is meant when none is named: one order, for every subcommand alike."""

import argparse
import sys
from pathlib import Path

import pytest

from cascade.bundle import default_bundle as subject
from cascade.bundle.default_bundle import (
    PACKAGE,
    REFERENCE,
    VARIABLE,
    bundle_or_default,
    default_bundle,
)
from cascade.commands.cli import main
from cascade.commands.exit_codes import BAD_INPUT
from cascade.errors import InvalidRequest
from runtime_server.cli import read_command_line
from runtime_server.config.flags import add_flags
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, the code as if it were installed, and no variable."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(subject, "__file__", str(tmp_path / "lib" / "cascade" / "bundle" / "x.py"))
    return folder


def install_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle in the place that the package has among installed ones."""
    site = tmp_path / "site"
    write_tiny_bundle(site / PACKAGE)
    monkeypatch.syspath_prepend(str(site))
    return site / PACKAGE


def test_what_is_named_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line before the variable, whether or not the folder is there."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert bundle_or_default(tmp_path / "named") == tmp_path / "named"
    assert bundle_or_default(None) == tmp_path


def test_the_order(elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable, the working folder's, the one beside the code, the installed package's."""
    installed = install_package(tmp_path, monkeypatch)
    assert default_bundle({}) == installed
    write_tiny_bundle(tmp_path / "lib" / REFERENCE)
    assert default_bundle({}) == tmp_path / "lib" / REFERENCE
    write_tiny_bundle(elsewhere / REFERENCE)
    assert default_bundle({}) == REFERENCE
    assert default_bundle({VARIABLE: ""}) == REFERENCE
    assert default_bundle({VARIABLE: str(tmp_path)}) == tmp_path


def test_a_folder_without_a_manifest_is_passed_over(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty folder of that name, left behind by somebody, hides no bundle."""
    (elsewhere / REFERENCE).mkdir(parents=True)
    installed = install_package(tmp_path, monkeypatch)
    assert default_bundle({}) == installed


def test_a_wrong_variable_is_named(elsewhere: Path) -> None:
    """Nothing else is taken in its place."""
    write_tiny_bundle(elsewhere / REFERENCE)
    with pytest.raises(InvalidRequest, match="CASCADE_BUNDLE: nowhere is not a folder"):
        default_bundle({VARIABLE: "nowhere"})


NEED_A_BUNDLE = (
    ["generate", "a", "-o", "a.png"],
    ["fetch", "x", "-o", "a.png", "--server", "127.0.0.1:1"],
    ["cancel", "x", "--server", "127.0.0.1:1"],
    ["serve"],
    ["serve", "--dry-run"],
    ["inspect"],
    ["verify"],
    ["tune"],
    ["build-engines"],
    ["card", "--quality", "quality.json"],
    ["weights", "--checkpoints", "c"],
)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("arguments", NEED_A_BUNDLE, ids=" ".join)
def test_no_bundle_anywhere(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One line that says how to name one and how to get one; exit code 2."""
    if arguments[0] == "weights":
        pytest.importorskip("torch")
    assert main(arguments) == BAD_INPUT
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert VARIABLE in error
    assert "bundles" in error


def test_every_command_with_a_bundle_takes_the_variable(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`inspect`, `generate` and `serve` find the variable's bundle from another folder."""
    bundle = write_tiny_bundle(elsewhere / "mine")
    monkeypatch.setenv(VARIABLE, "mine")
    assert main(["inspect"]) == 0
    assert bundle.bundle_id in capsys.readouterr().out
    assert main(["generate", "a cat", "-o", "a.png", "--cut", "4"]) == 0
    assert main(["serve", "--print-config"]) == 0
    assert 'bundle = "mine"' in capsys.readouterr().out


def test_a_file_of_settings_comes_before_the_variable(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where it names no bundle, the default is taken as without a file."""
    monkeypatch.setenv(VARIABLE, str(elsewhere))
    parser = argparse.ArgumentParser()
    add_flags(parser, {})
    args = parser.parse_args([])
    args.config = elsewhere / "server.toml"
    args.config.write_text('bundle = "b"\n')
    assert read_command_line(args).bundle == elsewhere / "b"
    args.config.write_text("cut = 1\n")
    assert read_command_line(args).bundle == elsewhere


def test_the_package_holds_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for it imports nothing: a bundle is data."""
    install_package(tmp_path, monkeypatch)
    default_bundle({})
    assert PACKAGE not in sys.modules
