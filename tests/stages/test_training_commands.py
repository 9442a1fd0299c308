"""The subcommands that train and export, in a fresh checkout: one line that says what to do."""

from pathlib import Path

import pytest

from cascade.commands.cli import main
from cascade.commands.exit_codes import BAD_INPUT
from stages.training.checkpoint import METADATA_FILE, save_checkpoint
from tests.support.tiny_training import SELF_BASE, stirred

MISSING = (
    (["distill", "guidance", "base"], "cascade weights --checkpoints checkpoints"),
    (["distill", "steps", "base", "--to", "4"], "cascade train"),
    (["train", "base"], "cascade data prepare"),
    (["train", "sr256", "--regression"], "cascade data prepare"),
    (["evaluate", "sr256"], "cascade data prepare"),
    (["probe"], "cascade data prepare"),
    (["export", "--out", "new"], "cascade data prepare"),
)


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that is refused."""
    assert main(arguments) == BAD_INPUT
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(("arguments", "remedy"), MISSING, ids=lambda value: str(value)[:40])
def test_a_fresh_checkout_is_told_what_is_missing(
    arguments: list[str],
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without checkpoints and data: the file, and the command that makes it; nothing is written."""
    monkeypatch.chdir(tmp_path)
    assert remedy in refused(arguments, capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04cut off"])
def test_a_file_that_is_no_prepared_data(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What numpy makes of it is part of the line."""
    (tmp_path / "data.npz").write_bytes(content)
    arguments = ["evaluate", "sr256", "--data", str(tmp_path / "data.npz")]
    assert "is no prepared file" in refused(arguments, capsys)


def test_a_damaged_checkpoint_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A piece that is missing or cut off, facts that are no JSON: the folder and what is wrong."""
    folder = tmp_path / "base"
    save_checkpoint(folder, {"ema": stirred(SELF_BASE.unet).state_dict()}, {"guided": 0.0})
    arguments = ["distill", "guidance", "base", "--checkpoints", str(tmp_path)]
    piece = folder / "ema-00.safetensors"
    whole = piece.read_bytes()
    piece.write_bytes(whole[: len(whole) // 2])
    assert f"{folder} is damaged" in refused(arguments, capsys)
    piece.unlink()
    assert "ema-00.safetensors" in refused(arguments, capsys)
    (folder / METADATA_FILE).write_text("{")
    assert f"{folder} is damaged" in refused(arguments, capsys)
    (folder / METADATA_FILE).write_text("{}")
    assert "holds no 'ema'" in refused(arguments, capsys)
