"""Where pictures go: every format, standard output, and a preview folder that is full or old."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from cascade.bundle.bundle import Bundle
from cascade.commands.cli import main
from tests.runtime_client.test_bare_environment import ON_FULL_DISKS, can_have_mounts, mounted
from tests.support.command_line import CASCADE, PATIENCE_S, SMALL_FILES, cascade, generate_here
from tests.support.tiny_bundle import write_tiny_bundle


def make(bundle: Bundle, output: Path, *more: str) -> int:
    """A picture, made here."""
    return main([*generate_here(bundle.folder, output, "--quiet", *more)])


def pixels(source: Path | bytes) -> np.ndarray:
    """A picture's."""
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize(
    ("suffix", "format_", "furthest"),
    [
        (".png", "PNG", 0),
        (".webp", "WEBP", 0),
        (".jpg", "JPEG", 40),
        (".jpeg", "JPEG", 40),
        (".avif", "AVIF", 60),
    ],
)
def test_the_name_says_the_format(
    bundle: Bundle, tmp_path: Path, suffix: str, format_: str, furthest: int
) -> None:
    """PNG and WebP keep every pixel, the others come close."""
    if suffix == ".avif" and not features.check("avif"):
        assert make(bundle, tmp_path / "a.avif") == 2
        return
    output, exact = tmp_path / f"a{suffix}", tmp_path / "exact.png"
    assert make(bundle, output) == make(bundle, exact) == 0
    with Image.open(output) as picture:
        assert picture.format == format_
        assert picture.mode == "RGB"
    assert np.abs(pixels(output).astype(int) - pixels(exact)).max() <= furthest


def test_standard_output_takes_a_picture(bundle: Bundle, tmp_path: Path) -> None:
    """Nothing else is on it: the table, or the object, is on standard error."""
    exact = tmp_path / "exact.png"
    assert make(bundle, exact) == 0
    arguments = generate_here(bundle.folder, Path("-"))
    for more in ((), ("--json",)):
        found = subprocess.run(
            [*CASCADE, *arguments, *more], capture_output=True, timeout=PATIENCE_S, check=True
        )
        assert found.stdout == exact.read_bytes()
        last = found.stderr.decode().splitlines()[-1]
        if more:
            assert json.loads(last)["output"] == "-"
        else:
            assert last.startswith("total")


def test_a_terminal_is_no_place_for_a_picture(bundle: Bundle) -> None:
    """`-o -` on a terminal is refused before any work."""
    code = (
        "import os, pty, sys\n"
        "sys.exit(os.waitstatus_to_exitcode(pty.spawn([sys.executable, '-m', 'cascade', "
        "*sys.argv[1:]])))"
    )
    arguments = generate_here(bundle.folder, Path("-"))
    found = cascade(*arguments, program=(sys.executable, "-c", code))
    assert found.returncode == 2
    assert "a terminal shows no pictures" in found.stdout


def test_quiet_says_nothing(bundle: Bundle, tmp_path: Path) -> None:
    """But errors."""
    found = cascade(*generate_here(bundle.folder, tmp_path / "a.png", "-q"))
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    found = cascade(*generate_here(bundle.folder, tmp_path / "a.gif", "-q"))
    assert found.returncode == 2
    assert found.stderr.startswith("error: output: ")


def test_previews_of_an_earlier_run_are_removed(bundle: Bundle, tmp_path: Path) -> None:
    """Ours alone: no other picture of such a name, no other file, nothing behind a link."""
    folder, output = tmp_path / "previews", tmp_path / "a.png"
    assert make(bundle, output, "--preview", str(folder)) == 0
    assert (folder / "sr32.png").exists()
    target = tmp_path / "target.png"
    target.write_bytes((folder / "base.png").read_bytes())
    (folder / "sr16-step-0009.png").symlink_to(target)
    Image.new("RGB", (4, 4)).save(folder / "base-step-0007.png")
    (folder / "base-step-0008.png").write_bytes((folder / "base.png").read_bytes())
    (folder / "mine.png").write_bytes((folder / "base.png").read_bytes())
    (folder / "base-notes.txt").write_text("mine")
    assert make(bundle, output, "--preview", str(folder), "--last-stage", "base") == 0
    steps = {f"base-step-{step:04d}.png" for step in (1, 2)}
    mine = {"base-step-0007.png", "sr16-step-0009.png", "mine.png", "base-notes.txt"}
    assert {path.name for path in folder.iterdir()} == {"base.png", *steps, *mine}
    assert target.exists()


def test_previews_of_another_bundle_are_not_ours_to_remove(bundle: Bundle, tmp_path: Path) -> None:
    """A name that is no stage here may be a stage there."""
    folder, output = tmp_path / "previews", tmp_path / "a.png"
    other = write_tiny_bundle(tmp_path / "other")
    assert make(other, output, "--preview", str(folder)) == 0
    (folder / "base.png").rename(folder / "sr64.png")
    assert make(bundle, output, "--preview", str(folder)) == 0
    assert (folder / "sr64.png").exists()


@can_have_mounts
def test_a_full_preview_folder_costs_one_line(bundle: Bundle, tmp_path: Path) -> None:
    """No byte is left where the previews go; the picture is elsewhere and whole."""
    folder, output, exact = tmp_path / "previews", tmp_path / "a.png", tmp_path / "exact.png"
    folder.mkdir()
    assert make(bundle, exact) == 0
    command = (sys.executable, "-m", "cascade")
    arguments = generate_here(bundle.folder, output, "--quiet", "--preview", str(folder))
    found = mounted(ON_FULL_DISKS, folder, *command, *arguments)
    assert found.returncode == 0, found.stderr
    assert found.stderr.startswith("no more previews: cannot write ")
    assert found.stderr.count("\n") == 1
    np.testing.assert_array_equal(pixels(output), pixels(exact))


def test_a_picture_that_does_not_fit_leaves_the_old_one(bundle: Bundle, tmp_path: Path) -> None:
    """Exit code 2, and what was there before."""
    output = tmp_path / "a.png"
    output.write_bytes(b"old")
    program = (sys.executable, "-c", SMALL_FILES.format(size=1000))
    found = cascade(*generate_here(bundle.folder, output, "--quiet"), program=program)
    assert found.returncode == 2
    assert found.stderr.startswith("error: output: cannot write ")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert output.read_bytes() == b"old"
