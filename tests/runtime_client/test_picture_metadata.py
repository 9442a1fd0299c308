"""The metadata in a picture: all that was asked and taken, enough to make it again."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, features

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import UPGRADED_FROM, write_manifest
from cascade.commands.cli import main
from cascade.errors import InvalidRequest
from runtime_client.cli.picture_format import (
    MAX_FILE_BYTES,
    MAX_TEXT,
    encode_picture,
    read_metadata,
)
from runtime_client.cli.picture_metadata import pixels_digest
from tests.support.serving import running
from tests.support.tiny_bundle import write_tiny_bundle

PROMPT = "a red apple, noto style"
CHOICES = (
    *("--seed", "18446744073709551615", "--image-index", "3", "--last-stage", "sr16"),
    *("--steps", "base=3", "sr16=2", "--guidance", "base=2.5", "--augmentation", "sr16=0.01"),
)
SUFFIXES = [
    ".png",
    ".webp",
    ".jpg",
    pytest.param(
        ".avif",
        marks=pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF"),
    ),
]


@pytest.fixture(scope="module")
def address(bundle: Bundle) -> Iterator[str]:
    """Of a server that makes what lies behind a cut."""
    with running(bundle) as server:
        yield server.address


def make(bundle: Bundle, output: Path, *more: str, cut: int = 4) -> None:
    """A picture, made here unless the cut says otherwise."""
    options = ("--bundle", str(bundle.folder), "--threads", "1", "--quiet", "--cut", str(cut))
    assert main(["generate", "-o", str(output), *options, *more]) == 0


def pixels(path: Path) -> np.ndarray:
    """A picture file's."""
    with Image.open(path) as picture:
        return np.asarray(picture)


def refusal(capsys: pytest.CaptureFixture[str], bundle: Bundle, *arguments: str) -> str:
    """The one line of a run that must not make a picture."""
    capsys.readouterr()
    command = ["generate", "--bundle", str(bundle.folder), "--threads", "1", "--quiet"]
    assert main([*command, "--cut", "4", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def rewrite(source: Path, target: Path, **changes: str | None) -> None:
    """A PNG with some of its text changed, or left out where None."""
    metadata: dict[str, str | None] = {**read_metadata(source), **changes}
    chunks = PngImagePlugin.PngInfo()
    for key, value in metadata.items():
        if value is not None:
            chunks.add_itxt(key, value)
    Image.fromarray(pixels(source)).save(target, pnginfo=chunks)


def test_everything_asked_and_taken_is_there(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the file, and with the times in the object of `--json`."""
    output = tmp_path / "a.png"
    make(bundle, output, PROMPT, *CHOICES, "--json")
    account: dict[str, Any] = json.loads(capsys.readouterr().out)
    expected = {
        "prompt": PROMPT,
        "seed": 2**64 - 1,
        "image_index": 3,
        "last_stage": "sr16",
        "asked": {
            "base": {"steps": 3, "guidance": 2.5},
            "sr16": {"steps": 2, "augmentation": 0.01},
        },
        "steps": {"base": 3, "sr16": 2},
        "augmentation": {"sr16": 0.01},
        "cut": 4,
        "bundle": "tiny",
        "bundle_id": bundle.bundle_id,
        "fell_back": False,
        "pixels": pixels_digest(pixels(output)),
    }
    assert {key: account[key] for key in expected} == expected
    assert account["guidance"]["base"] == 2.5
    assert set(account["guidance"]) == {"base", "sr16"}
    for name in ("text_encoder", "base", "sr16"):
        way = account["computed"][name]
        assert (way["engine"], way["precision"], way["side"]) == ("ort", "fp32", "here")
    assert set(account["versions"]) == {"edge-cascade", "numpy", "onnxruntime"}
    kept = read_metadata(output)
    for key, text in kept.items():
        assert text in (account[key], json.dumps(account[key], sort_keys=True))
    assert set(account) - set(kept) == {
        *("output", "width", "height", "request_id", "seconds", "bytes_up", "bytes_down"),
        *("warnings", "hops", "engine_seconds", "plan", "formats", "preview_formats"),
    }


def test_both_sides_are_named(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here, on a private server, on a named one with its version; and after a fallback."""
    output = tmp_path / "a.png"
    found = []
    with running(bundle) as server:
        for more in (
            (),
            ("--server", server.address),
            ("--server", f"unix:{tmp_path}/none", "--fallback", "local"),
        ):
            make(bundle, output, PROMPT, "--json", *more, cut=2)
            account = json.loads(capsys.readouterr().out)
            sides = [account["computed"][name]["side"] for name in ("base", "sr32")]
            found.append((*sides, "server" in account["versions"], account["fell_back"]))
    assert found == [
        ("here", "private server", True, False),
        ("here", "server", True, False),
        ("here", "here", False, True),
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_command_writes_the_same_file(
    bundle: Bundle, address: str, tmp_path: Path, suffix: str
) -> None:
    """Byte by byte: no time of day, no duration, no random id."""
    files = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for file in files:
        make(bundle, file, PROMPT, "--seed", "7", "--server", address, cut=2)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert read_metadata(files[0])["seed"] == "7"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_picture_is_made_again_from_itself(
    bundle: Bundle, address: str, tmp_path: Path, suffix: str
) -> None:
    """The same pixels, whatever its format and wherever it is cut this time."""
    prompt = 'größe "quoted" \\ 🍎\nnew line'
    first, plain = tmp_path / f"first{suffix}", tmp_path / "plain.png"
    make(bundle, first, prompt, *CHOICES)
    make(bundle, plain, prompt, *CHOICES)
    for cut in (4, 2, 0):
        again = tmp_path / "again.png"
        behind = ("--server", address) if cut < 4 else ()
        make(bundle, again, "--from", str(first), *behind, cut=cut)
        np.testing.assert_array_equal(pixels(again), pixels(plain))
    assert read_metadata(again)["asked"] == read_metadata(first)["asked"]


def test_a_picture_of_before_an_upgrade_is_made_again(bundle: Bundle, tmp_path: Path) -> None:
    """By the id that the bundle had then; without it the bundle is another one."""
    first, again = tmp_path / "first.png", tmp_path / "again.png"
    make(bundle, first, PROMPT)
    shutil.copytree(bundle.folder, tmp_path / "upgraded")
    manifest = replace(bundle.manifest, provenance={UPGRADED_FROM: bundle.bundle_id})
    (tmp_path / "upgraded" / "manifest.json").write_text(write_manifest(manifest))
    upgraded = open_bundle(tmp_path / "upgraded")
    assert upgraded.bundle_id != bundle.bundle_id
    make(upgraded, again, "--from", str(first))
    np.testing.assert_array_equal(pixels(again), pixels(first))


def test_private_servers_make_it_again_too(bundle: Bundle, tmp_path: Path) -> None:
    """The same file byte by byte from two of them, and the same pixels from itself by a third."""
    first, second, again = (tmp_path / f"{name}.png" for name in ("first", "second", "again"))
    make(bundle, first, PROMPT, *CHOICES, cut=2)
    make(bundle, second, PROMPT, *CHOICES, cut=2)
    make(bundle, again, "--from", str(first), cut=0)
    assert second.read_bytes() == first.read_bytes()
    np.testing.assert_array_equal(pixels(again), pixels(first))


@pytest.mark.parametrize(("length", "kept"), [(MAX_TEXT, ["asked"]), (MAX_TEXT + 1, [])])
def test_a_text_is_read_up_to_a_length(tmp_path: Path, length: int, kept: list[str]) -> None:
    """A longer one is none of ours: the key is missing then."""
    path = tmp_path / "a.png"
    path.write_bytes(encode_picture(np.zeros((2, 2, 3), np.uint8), "PNG", {"asked": "x" * length}))
    assert list(read_metadata(path)) == kept


@pytest.mark.parametrize(("more", "said"), [(0, "not a readable"), (1, "too large")])
def test_a_file_is_read_up_to_a_size(tmp_path: Path, more: int, said: str) -> None:
    """One byte more is refused by its size, before anything looks inside."""
    path = tmp_path / "a.png"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + more)
    with pytest.raises(InvalidRequest, match=said):
        read_metadata(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"software": None}, "no word of edge-cascade in it"),
        ({"software": "another"}, "no word of edge-cascade in it"),
        ({"asked": None}, "its text lacks asked; an older version may have written it"),
        ({"seed": None, "pixels": None}, "its text lacks seed, pixels"),
        ({"bundle_id": "f" * 64, "bundle": "other"}, "made with bundle 'other' ffffffffffff"),
        ({"seed": "one"}, "its text is damaged"),
        ({"asked": "[1"}, "its text is damaged"),
        ({"asked": '{"base": {"steps": "x"}}'}, "its text is damaged"),
        ({"asked": '{"base": {"colour": 1}}'}, "its text is damaged"),
        ({"asked": "[" * 5000}, "its text is damaged"),
        ({"computed": '{"base": "ort"}'}, "its text is damaged"),
        ({"seed": "-1"}, "seed: expected 0 to 2^64 - 1"),
        ({"prompt": "\x01"}, "prompt: it holds control characters"),
        (
            {"computed": '{"base": {"engine": "abacus", "precision": "fp32"}}'},
            "base was computed by abacus fp32, unknown here",
        ),
        (
            {"computed": '{"base": {"engine": "tensorrt", "precision": "fp16"}}'},
            "cannot be made again: base was computed by tensorrt, which is not installed here",
        ),
        ({"pixels": "0" * 64}, "cannot be made again: some pixels came out differently"),
    ],
)
def test_what_cannot_be_made_again_says_why(
    bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str | None],
    said: str,
) -> None:
    """One line, and no file."""
    first, changed, again = (tmp_path / f"{name}.png" for name in ("a", "b", "c"))
    make(bundle, first, PROMPT)
    rewrite(first, changed, **changes)
    error = refusal(capsys, bundle, "--from", str(changed), "-o", str(again))
    assert error.startswith("error: from: ")
    assert said in error
    assert not again.exists()


def test_another_way_to_compute_is_refused_before_it_is_done(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bundle that lacks the precision, a server that has another."""
    eight = write_tiny_bundle(tmp_path / "eight", int8=True)
    first, again = tmp_path / "first.png", tmp_path / "again.png"
    make(eight, first, PROMPT, "--precision", "sr32=int8")
    assert "sr32" in read_metadata(first)["computed"]
    make(eight, again, "--from", str(first))
    np.testing.assert_array_equal(pixels(again), pixels(first))
    again.unlink()
    capsys.readouterr()
    with running(eight, precision="fp32") as server:
        command = ["generate", "--from", str(first), "-o", str(again), "--quiet", "--cut", "2"]
        where = ["--bundle", str(eight.folder), "--server", server.address]
        assert main([*command, *where]) == 3
    assert "the server computes sr32 in fp32, int8 was asked for" in capsys.readouterr().err
    assert not again.exists()


@pytest.mark.skipif(find_spec("openvino") is None, reason="needs a second engine")
def test_another_engine_of_the_server_is_refused(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No rounding is passed off as the same pixels."""
    first, again = tmp_path / "first.png", tmp_path / "again.png"
    make(bundle, first, PROMPT)
    with running(bundle, engine="openvino") as server:
        where = ("--server", server.address, "--cut", "2")
        error = refusal(capsys, bundle, "--from", str(first), "-o", str(again), *where)
    assert "sr16 was computed by ort fp32, and now by openvino fp32" in error
    assert not again.exists()


@pytest.mark.parametrize(
    "more",
    [
        ["a prompt"],
        ["--seed", "0"],
        ["--steps", "base=1"],
        ["--engine", "ort"],
        ["--last-stage", "base"],
        ["--detach"],
    ],
)
def test_what_the_picture_says_is_not_said_twice(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    """A flag beside `--from` would be ignored or break the promise."""
    output = [] if "--detach" in more else ["-o", str(tmp_path / "b.png")]
    error = refusal(capsys, bundle, "--from", "a.png", *output, *more)
    assert error.startswith("error: from: it goes without ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        (b"", "is not a readable PNG, WebP, JPEG or AVIF picture"),
        (b"GIF89a" + bytes(20), "is not a readable PNG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "is not a readable PNG"),
        (os.urandom(999), "is not a readable PNG"),
    ],
)
def test_what_is_no_picture_is_refused(
    bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    said: str,
) -> None:
    """Missing, empty, another format, damaged."""
    source = tmp_path / "source.png"
    if content is not None:
        source.write_bytes(content)
    error = refusal(capsys, bundle, "--from", str(source), "-o", str(tmp_path / "b.png"))
    assert said in error


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_a_picture_of_somebody_else_is_no_picture_of_ours(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    """Without our comment in its Exif."""
    source = tmp_path / f"source{suffix}"
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0[1, 2]"
    for kept in (None, exif):
        Image.new("RGB", (8, 8)).save(source, **({} if kept is None else {"exif": kept}))
        error = refusal(capsys, bundle, "--from", str(source), "-o", str(tmp_path / "b.png"))
        assert "no word of edge-cascade in it" in error


def test_a_picture_that_a_server_sent_with_loss_says_so_and_is_not_made_again(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its pixels are those of an encoder; the refusal names the seed that has the exact ones."""
    with running(bundle) as server:
        flags = ("--server", server.address, "--format", "webp90", "--seed", "7")
        make(bundle, tmp_path / "a.png", PROMPT, *flags, cut=2)
    assert read_metadata(tmp_path / "a.png")["sent_as"] == "webp90"
    again = ("--from", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png"))
    said = refusal(capsys, bundle, *again)
    assert "sent it as webp90" in said
    assert "its seed, 7" in said
