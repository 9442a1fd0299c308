"""`cascade generate`: exit codes, one-line errors, and what a run leaves behind."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import write_manifest
from cascade.commands.cli import main
from cascade.commands.errors import describe
from cascade.diffusion.schedule import TableSpec
from cascade.errors import ServerBusy
from tests.support.manifests import stages_of, with_stages

PROMPT = "a red apple, noto style"


def call(*arguments: str) -> int:
    """Run the subcommand in this process; the exit code."""
    return main(["generate", *arguments])


def generate_here(bundle: Bundle, output: Path, *more: str) -> int:
    """A run with no server at all."""
    options = ["--bundle", str(bundle.folder), "--cut", "4", "--threads", "1"]
    return call(PROMPT, "-o", str(output), *options, *more)


def test_a_picture_is_written_with_its_story(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The PNG says how it was made; the table says where the time went."""
    output = tmp_path / "a.png"
    assert generate_here(bundle, output, "--seed", "5") == 0
    with Image.open(output) as picture:
        assert picture.size == (32, 32)
        text = dict(picture.text)  # type: ignore[attr-defined]
    assert {k: text[k] for k in ("prompt", "seed", "image_index", "bundle_id", "cut")} == {
        "prompt": PROMPT,
        "seed": "5",
        "image_index": "0",
        "bundle_id": bundle.bundle_id,
        "cut": "4",
    }
    assert text["software"].startswith("edge-cascade ")
    captured = capsys.readouterr()
    assert [line.split()[0] for line in captured.out.splitlines()][-2:] == ["everything", "total"]
    assert [line.split()[0] for line in captured.err.splitlines()] == [
        "text_encoder",
        "base",
        "sr16",
        "sr32",
    ]
    assert os.listdir(tmp_path) == ["a.png"]  # noqa: PTH208


def test_json_is_one_object(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """For programs: the same numbers, nothing else on standard output."""
    output = tmp_path / "a.png"
    assert generate_here(bundle, output, "--json", "--last-stage", "sr16") == 0
    account = json.loads(capsys.readouterr().out)
    assert (account["width"], account["bytes_up"], account["fell_back"]) == (16, 0, False)
    assert account["seconds"]["total"] > account["seconds"]["sr16"] > 0


def test_a_run_that_starts_late_is_warned_about_once(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error before any work, in the account, and not without a reason."""
    powers = tuple(1 - (k + 1) / 101 for k in range(100))
    base = replace(stages_of(bundle.manifest)[0], schedule=TableSpec(alpha_bar=powers), steps=100)
    late = tmp_path / "late"
    shutil.copytree(bundle.folder, late)
    manifest = with_stages(bundle.manifest, (base, *stages_of(bundle.manifest)[1:]))
    (late / "manifest.json").write_text(write_manifest(manifest))
    for steps, words in (("60", ["base: a run of 60 steps starts at time 0.600"]), ("100", [])):
        more = ["--json", "--last-stage", "base", "--steps", f"base={steps}"]
        assert generate_here(open_bundle(late), tmp_path / "a.png", *more) == 0
        captured = capsys.readouterr()
        said = [line for line in captured.err.splitlines() if line.startswith("warning: ")]
        told = json.loads(captured.out)["warnings"]
        assert [line.removeprefix("warning: ") for line in said] == told
        assert [line[: len(word)] for line, word in zip(told, words, strict=True)] == words


def test_previews_are_written_as_they_come(bundle: Bundle, tmp_path: Path) -> None:
    """One per step, and every stage's picture."""
    folder = tmp_path / "previews"
    assert generate_here(bundle, tmp_path / "a.png", "--preview", str(folder)) == 0
    names = {path.name for path in folder.iterdir()}
    assert {"base-step-0001.png", "base.png", "sr16.png", "sr32.png"} <= names


def test_options_reach_their_stage(bundle: Bundle, tmp_path: Path) -> None:
    """Other steps and weights make another picture; the seed alone makes the same."""
    pictures = []
    for more in ([], [], ["--steps", "base=5", "sr16=2"], ["--guidance", "base=1"]):
        output = tmp_path / "a.png"
        assert generate_here(bundle, output, *more) == 0
        with Image.open(output) as picture:
            pictures.append(np.asarray(picture))
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert (pictures[0] != pictures[2]).any()
    assert (pictures[0] != pictures[3]).any()


@pytest.mark.parametrize(
    "more",
    [
        ["--cut", "5"],
        ["--seed", "-1"],
        ["--steps", "sr32=0"],
        ["--steps", "sr64=1"],
        ["--guidance", "base=nan"],
        ["--augmentation", "sr16=0.9"],
        ["--last-stage", "sr64"],
        ["--timeout", "0"],
        ["--tls"],
        ["--server", "nowhere"],
        ["--bundle", "missing"],
        ["-o", "missing/a.png"],
        ["-o", "a.gif"],
        ["--preview", "missing/deeper"],
    ],
)
def test_bad_input_is_exit_code_2(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    """One line that begins with `error:`, no traceback, no picture."""
    assert generate_here(bundle, tmp_path / "a.png", *more) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_option_is_exit_code_2(tmp_path: Path) -> None:
    """The parser's own refusal has the same code."""
    assert call(PROMPT, "-o", str(tmp_path / "a.png"), "--steps", "base") == 2


def test_an_unreachable_server_is_exit_code_3(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typed error after the retries, no picture."""
    address = f"unix:{tmp_path}/nothing.sock"
    assert generate_here(bundle, tmp_path / "a.png", "--cut", "2", "--server", address) == 3
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: the server cannot be")
    assert list(tmp_path.iterdir()) == []


def test_an_unreachable_server_with_fallback_is_a_picture(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rest runs here, and the run says so."""
    more = ["--cut", "2", "--server", f"unix:{tmp_path}/nothing.sock", "--fallback", "local"]
    assert generate_here(bundle, tmp_path / "a.png", *more, "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["fell_back"] is True
    assert "the server is gone" in captured.err


def test_errors_name_field_and_remedy() -> None:
    """On one line, whatever the message."""
    line = describe(ServerBusy("full\nreally", field="cut", retry_after_s=2.0))
    assert line == "error: full really (field: cut) (try again in 2.0 s)"
