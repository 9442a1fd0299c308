"""Every example of `examples/` does what its first lines say, in a folder like a checkout."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents.workspace import make_workspace, serving, shell

ROOT = Path(__file__).parents[2]
PYTHON = sys.executable


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace, with the bundle in miniature."""
    made = tmp_path_factory.mktemp("examples")
    make_workspace(made)
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """The address of a server for the examples that need one."""
    with serving("cascade serve --listen 127.0.0.1:0 --precision fp32", folder) as address:
        yield address


def run(folder: Path, line: str) -> str:
    """What an example prints."""
    done = shell(f"{PYTHON} examples/{line}", folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_generate_locally(folder: Path) -> None:
    """One line per stage, the same picture twice, and the file."""
    lines = run(folder, 'generate_locally.py "a red apple" apple.png').splitlines()
    assert [line.split(" in ")[0] for line in lines[:-1]] == [
        "base: 8x8", "sr16: 16x16", "sr32: 32x32"
    ]  # fmt: skip
    assert lines[-1] == "same seed, same pixels: True"
    assert (folder / "apple.png").stat().st_size > 0


def test_split_over_server(folder: Path, server: str) -> None:
    """No value differs at any cut."""
    lines = run(folder, f'split_over_server.py {server} "a robot"').splitlines()
    assert [re.sub(r"\d+ bytes", "N bytes", line) for line in lines] == [
        "cut 3: text_encoder here, base here, sr16 here, sr32 server; N bytes up; 0 values differ",
        "cut 2: text_encoder here, base here, sr16 server, sr32 server; N bytes up; "
        "0 values differ",
        "cut 1: text_encoder here, base server, sr16 server, sr32 server; N bytes up; "
        "0 values differ",
    ]


def test_previews(folder: Path) -> None:
    """Every stage's progress ends, and its picture and previews are files."""
    lines = run(folder, 'previews.py "a cactus" steps').splitlines()
    assert [stage for stage in ("base", "sr16", "sr32") if f"{stage}: 3 of 3 steps" in lines] == [
        "base", "sr16", "sr32"
    ]  # fmt: skip
    made = {path.name for path in (folder / "steps").iterdir()}
    assert {"base-1.png", "base.png", "sr16.png", "sr32.png"} <= made


def test_batch_of_prompts(folder: Path, server: str) -> None:
    """A file per prompt, in their order."""
    printed = run(folder, f'batch_of_prompts.py {server} pictures "a red apple" "a robot"')
    assert printed == "0.png: a red apple\n1.png: a robot\n"
    assert {path.name for path in (folder / "pictures").iterdir()} == {"0.png", "1.png"}


def test_detach_and_fetch(folder: Path, server: str) -> None:
    """The second client gets the picture once, and nothing after it was deleted."""
    printed = run(folder, f'detach_and_fetch.py {server} "a lemon" lemon.png')
    assert printed == "submitted\nfetched lemon.png\ndeleted: True\ngone: UNKNOWN_REQUEST\n"
    assert (folder / "lemon.png").stat().st_size > 0


def test_the_index_names_every_example() -> None:
    """And each of them is short."""
    index = (ROOT / "examples/README.md").read_text()
    programs = [path for path in (ROOT / "examples").glob("*.py") if path.name != "__init__.py"]
    assert [path.name for path in programs if f"({path.name})" not in index] == []
    own = ("my_cascade.py", "my_pixels.py", "my_vectors.py")  # whole cascades
    long = [p.name for p in programs if len(p.read_text().splitlines()) >= 60 and p.name not in own]
    assert long == []
