"""What users install: both wheels built, put into an environment of their own, and used there.

No index and no network: the wheels are built from copies of the sources, and what they depend on
is lent by the environment of the tests.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from zipfile import ZipFile

import pytest
from PIL import Image

from cascade.bundle.bundle import open_bundle
from cascade.bundle.default_bundle import PACKAGE, VARIABLE

ROOT = Path(__file__).parents[2]
REFERENCE_BUNDLE = ROOT / "bundles" / "emoji-1"
PACKAGES = (
    "bench",
    "cascade",
    "export",
    "protos",
    "runtime_client",
    "runtime_server",
    "stages",
    "wire",
)


def can_build() -> bool:
    """Whether setuptools is here and knows licences as SPDX expressions."""
    try:
        return int(version("setuptools").split(".")[0]) >= 77
    except PackageNotFoundError:
        return False


pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        not can_build(),
        reason="needs setuptools of 77 or later; run in the environment of `make test`",
    ),
]


def run(*arguments: str | Path, **more: object) -> "subprocess.CompletedProcess[str]":
    """A child process that must succeed within two minutes."""
    done = subprocess.run(
        [str(a) for a in arguments], capture_output=True, text=True, timeout=120, check=False,
        **more,  # type: ignore[call-overload]
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done  # type: ignore[no-any-return]


def build(sources: Path, into: Path) -> Path:
    """The wheel of a folder with a pyproject.toml."""
    run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--no-index", "--no-cache-dir", "--wheel-dir", into, sources,
    )  # fmt: skip
    (wheel,) = into.iterdir()
    return wheel


@pytest.fixture(scope="module")
def code_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the code, from a copy of it: building leaves things behind."""
    folder = tmp_path_factory.mktemp("code")
    (folder / "sources").mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copyfile(ROOT / name, folder / "sources" / name)
    for name in PACKAGES:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / "sources" / name, ignore=ignore)
    return build(folder / "sources", folder / "wheel")


@pytest.fixture(scope="module")
def bundle_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the reference bundle."""
    folder = tmp_path_factory.mktemp("bundle")
    shutil.copytree(
        ROOT / "bundles", folder / "sources", ignore=shutil.ignore_patterns("build", "*.egg-info")
    )
    return build(folder / "sources", folder / "wheel")


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_pixel_cascade_is_a_package_of_its_own(tmp_path: Path) -> None:
    """As `make wheels` builds it: under its own name, with every file of the bundle in it."""
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")
    shutil.copytree(ROOT / "bundles", tmp_path / "bundles")
    run("make", "-C", tmp_path, "build/pixels")
    wheel = build(tmp_path / "build" / "pixels", tmp_path / "wheel")
    assert wheel.name.startswith("edge_cascade_emoji_pixels_1-")
    with ZipFile(wheel) as archive:
        held = set(archive.namelist())
    bundle = ROOT / "bundles" / "emoji-pixels-1"
    assert {f"edge_cascade_emoji_pixels_1/{file.name}" for file in bundle.iterdir()} <= held


def environment(folder: Path, *wheels: Path) -> Path:
    """An environment with these wheels; its `cascade`. Everything else is lent by ours."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps",
        "--no-index", "--no-cache-dir", *wheels,
    )  # fmt: skip
    paths = sysconfig.get_paths("venv", {"base": str(folder), "platbase": str(folder)})
    # A folder named in a .pth file comes last, and its own .pth files, ours, are not read.
    lent = [entry for entry in sys.path if entry.endswith("site-packages")]
    (Path(paths["purelib"]) / "lent.pth").write_text("\n".join(lent) + "\n")
    return folder / "bin" / "cascade"


def outside(folder: Path, **more: str) -> dict[str, object]:
    """How a child is run outside of any checkout."""
    left_out = (VARIABLE, "PYTHONPATH", "PYTHONHOME")
    kept: Mapping[str, str] = {k: v for k, v in os.environ.items() if k not in left_out}
    return {"cwd": folder, "env": {**kept, **more}}


def test_the_code_is_whole_without_a_bundle(code_wheel: Path) -> None:
    """Every package and its data is in the wheel; no bundle, no test and no document is."""
    names = ZipFile(code_wheel).namelist()
    modules = [file for name in PACKAGES for file in (ROOT / name).rglob("*.py")]
    expected = {file.relative_to(ROOT).as_posix() for file in modules}
    assert {name for name in names if name.endswith(".py")} == expected
    assert {"stages/data/concepts.txt", "protos/cascade/v1/cascade.proto"} <= set(names)
    assert not [name for name in names if name.endswith((".onnx", ".md"))]


def test_the_bundle_is_a_package_without_code(bundle_wheel: Path, tmp_path: Path) -> None:
    """What is installed is the very bundle, with the licences that its parts ask for."""
    with ZipFile(bundle_wheel) as wheel:
        names = wheel.namelist()
        wheel.extractall(tmp_path)
    assert not [name for name in names if name.endswith((".py", ".pth"))]
    assert {Path(name).name for name in names} >= {"LICENSE", "NOTICE"}
    installed = open_bundle(tmp_path / PACKAGE)
    installed.verify_files()
    assert installed.bundle_id == open_bundle(REFERENCE_BUNDLE).bundle_id


def test_both_make_a_picture_outside_a_checkout(
    code_wheel: Path, bundle_wheel: Path, tmp_path: Path
) -> None:
    """Nothing is named: the installed bundle is found, here and by the private server."""
    cascade = environment(tmp_path / "venv", code_wheel, bundle_wheel)
    folder = tmp_path / "empty"
    folder.mkdir()
    done = run(
        cascade, "generate", "a red apple, noto style", "-o", "apple.png", "--last-stage",
        "sr256", "--json", **outside(folder),
    )  # fmt: skip
    account = json.loads(done.stdout)
    assert account["bundle_id"] == open_bundle(REFERENCE_BUNDLE).bundle_id
    with Image.open(folder / "apple.png") as picture:
        assert picture.size == (256, 256)
    where = run(
        tmp_path / "venv" / "bin" / "python", "-c", "import cascade; print(cascade.__file__)",
        **outside(folder),
    ).stdout  # fmt: skip
    assert where.startswith(str(tmp_path / "venv"))


def test_the_code_alone_says_what_is_missing(code_wheel: Path, tmp_path: Path) -> None:
    """One line that names both remedies and the package; a bundle of one's own does it."""
    cascade = environment(tmp_path / "venv", code_wheel)
    done = subprocess.run(
        [str(cascade), "generate", "a cat", "-o", "a.png"],
        capture_output=True, text=True, timeout=60, check=False,
        **outside(tmp_path),  # type: ignore[call-overload]
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "CASCADE_BUNDLE" in done.stderr
    assert "edge-cascade-emoji-1" in done.stderr
    run(cascade, "inspect", **outside(tmp_path, **{VARIABLE: str(REFERENCE_BUNDLE)}))
