"""The cache folder and the bundle: each fault made for real."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cascade.bundle.default_bundle import LocatedBundle, Origin
from cascade.bundle.signature import make_key
from cascade.commands.cli import main
from cascade.diagnosis.findings import Finding, Level
from cascade.diagnosis.storage import bundle_findings, cache_findings
from tests.support.tiny_bundle import write_tiny_bundle

AS_NOBODY = """
import os, sys
from pathlib import Path
from cascade.diagnosis.storage import cache_findings
if os.geteuid() == 0:
    os.seteuid(54321)
for finding in cache_findings(Path(sys.argv[1])):
    print(finding.name, finding.level, finding.text, finding.remedy, sep="|")
"""
"""To root every folder is writable."""


def cache(folder: Path | None) -> dict[str, Finding]:
    """The findings of a cache folder by name."""
    return {finding.name: finding for finding in cache_findings(folder)}


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A whole bundle, in a folder of its own."""
    return write_tiny_bundle(tmp_path / "where" / "bundles" / "tiny").folder


def test_a_cache_that_can_be_written(tmp_path: Path) -> None:
    """Its sizes are counted, and nothing is left in it."""
    folder = tmp_path / "cache"
    assert "will be made" in cache(folder)["folder"].text
    assert not folder.exists()
    (folder / "engines" / "a").mkdir(parents=True)
    (folder / "engines" / "a" / "b").write_bytes(bytes(2_000_000))
    findings = cache(folder)
    assert {finding.level for finding in findings.values()} == {Level.OK}
    assert findings["size"].text == "engines 2.0 MB, tuning 0.0 MB"
    assert sorted(path.name for path in folder.iterdir()) == ["engines"]


def test_a_read_only_cache(tmp_path: Path) -> None:
    """A warning: everything works, and is measured and compiled again each time."""
    folder = tmp_path / "cache"
    folder.mkdir()
    for path in (*reversed(tmp_path.parents[:3]), tmp_path):
        path.chmod(path.stat().st_mode | 0o055)
    folder.chmod(0o555)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(folder)], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    name, level, text, remedy = done.stdout.splitlines()[0].split("|")
    assert (name, level) == ("folder", "warning")
    assert "cannot be written: Permission denied" in text
    assert remedy.startswith(("export XDG_CACHE_HOME=", "chmod u+rwx "))


def test_a_cache_that_is_no_folder(tmp_path: Path) -> None:
    """A file where the folder should be, and a user without a home."""
    (tmp_path / "file").write_text("")
    assert "is no folder" in cache(tmp_path / "file" / "edge-cascade")["folder"].text
    assert cache(None)["folder"].level is Level.WARNING


def test_a_whole_bundle(tiny: Path) -> None:
    """Opened, hashed, within the limits of the wire."""
    bundle, findings = bundle_findings(LocatedBundle(tiny, Origin.NAMED), None)
    assert bundle is not None
    assert [f.name for f in findings] == ["folder", "manifest", "files", "signature"]
    assert {f.level for f in findings} == {Level.OK}


@pytest.mark.parametrize(
    ("origin", "remedy"),
    [
        (Origin.NAMED, "# copy the bundle anew"),
        (Origin.PACKAGE, "--force-reinstall --no-deps edge"),
    ],
)
def test_a_changed_byte(tiny: Path, origin: Origin, remedy: str) -> None:
    """An error of the hash; how it is mended depends on where the bundle is from."""
    file = next(tiny.glob("*.onnx"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    bundle, findings = bundle_findings(LocatedBundle(tiny, origin), None)
    assert bundle is None
    assert (findings[-1].name, findings[-1].level) == ("files", Level.ERROR)
    assert f"{file.name}: sha256 is" in findings[-1].text
    assert remedy in findings[-1].remedy


def test_a_bundle_of_a_checkout_is_checked_out_again(tiny: Path) -> None:
    """By git, which has the right bytes; the command is run here."""
    root = tiny.parents[1]
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    if shutil.which("git") is None:
        pytest.skip("needs git")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *words], check=True)
    (tiny / "manifest.json").unlink()
    bundle, findings = bundle_findings(LocatedBundle(tiny, Origin.HERE), None)
    assert bundle is None
    subprocess.run(["sh", "-c", findings[-1].remedy], check=True, capture_output=True)
    bundle, _ = bundle_findings(LocatedBundle(tiny, Origin.HERE), None)
    assert bundle is not None


def test_a_signature_that_is_wanted(tiny: Path, tmp_path: Path) -> None:
    """Missing it is an error, there it is checked; a key that is none is no fault of the bundle."""
    key, located = tmp_path / "key.pem", LocatedBundle(tiny, Origin.NAMED)
    public = tmp_path / "key.pem.pub"
    public.write_bytes(make_key(key))
    assert bundle_findings(located, public)[0] is None
    assert main(["sign", str(tiny), "--key", str(key)]) == 0
    bundle, findings = bundle_findings(located, public)
    assert bundle is not None
    assert findings[-1].facts == {"signed": True, "checked": True}
    assert bundle_findings(located, None)[1][-1].facts == {"signed": True, "checked": False}
    bundle, findings = bundle_findings(located, tiny / "manifest.json")
    assert bundle is None
    assert "--require-signature KEY.pem.pub" in findings[-1].remedy
