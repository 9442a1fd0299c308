"""Commands on a bundle with the files of some components: they use these and name the rest."""

from pathlib import Path

import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.default_bundle import LocatedBundle, Origin
from cascade.bundle.signature import make_key
from cascade.commands.cli import main
from cascade.diagnosis.engines import plan_findings
from cascade.diagnosis.findings import Level
from cascade.diagnosis.storage import bundle_findings
from cascade.system.nvidia import Nvidia
from tests.support.beside_bundle import move_beside
from tests.support.tiny_bundle import write_tiny_bundle

KEPT = 2
"""Components of which the bundle holds all files: the text encoder and the base stage."""


@pytest.fixture(params=["inside", "beside"])
def sparse(request: pytest.FixtureRequest, tmp_path: Path) -> Bundle:
    """What a client at cut 2 needs, weights in the graphs or beside them."""
    folder = tmp_path / "sparse"
    folder.mkdir()
    bundle = write_tiny_bundle(folder, int8=True)
    if request.param == "beside":
        bundle = move_beside(folder)
    for name in set(bundle.files_of()) - set(bundle.files_of(range(KEPT))):
        (folder / name).unlink()
    return open_bundle(folder, runs=range(KEPT))


def said(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> list[str]:
    """The lines of a command that succeeds."""
    assert main(arguments) == 0
    return capsys.readouterr().out.splitlines()


def damage(bundle: Bundle, name: str) -> None:
    """Turn one bit of a file."""
    data = bytearray((bundle.folder / name).read_bytes())
    data[-1] ^= 1
    (bundle.folder / name).write_bytes(data)


def test_verify_runs_what_is_here(sparse: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """Every graph of a complete component, and a line for each that is not here."""
    lines = said(capsys, ["verify", str(sparse.folder)])
    listed, absent = len(sparse.manifest.files), len(sparse.missing())
    assert absent > 0
    assert lines[0] == f"files         {listed - absent} of {listed} here, whole, hashes right"
    ran = {line.split()[0] for line in lines if "one step gave finite numbers" in line}
    assert ran == {"text_encoder", "base"}
    assert [line for line in lines if line.endswith(".onnx: not here")] == [
        f"{name:13} {name}{part}.onnx: not here"
        for name in ("sr16", "sr32")
        for part in ("", ".int8")
    ]
    assert lines[-1] == f"ok            {sparse.bundle_id}"


def test_a_graph_without_its_weights_is_not_here(
    sparse: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own file is checked; the line names the file that it lacks."""
    spec = sparse.manifest.components[1]
    weights = spec.graphs["net"].weights or "base.onnx"
    (sparse.folder / weights).unlink()
    lines = said(capsys, ["verify", str(sparse.folder)])
    assert f"base          base.int8.onnx: without {weights}, which is not here" in lines
    damage(sparse, "base.int8.onnx")
    assert main(["verify", str(sparse.folder)]) == 2
    assert "base.int8.onnx: sha256 is" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["verify", "tune", "sign"])
def test_a_damaged_file_is_an_error(
    sparse: Bundle, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    """Missing ones beside it change nothing."""
    damage(sparse, "base.onnx")
    key = tmp_path / "key.pem"
    make_key(key)
    flags = ["--key", str(key)] if command == "sign" else []
    assert main([command, str(sparse.folder), *flags]) == 2
    assert "base.onnx: sha256 is" in capsys.readouterr().err


def test_sign_names_what_it_did_not_check(
    sparse: Bundle, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The signature is that of the whole bundle."""
    key = tmp_path / "key.pem"
    (tmp_path / "key.pem.pub").write_bytes(make_key(key))
    lines = said(capsys, ["sign", str(sparse.folder), "--key", str(key)])
    assert lines[1] == f"not here, so not checked: {', '.join(sparse.missing())}"
    assert (
        open_bundle(sparse.folder, tmp_path / "key.pem.pub", runs=()).bundle_id == sparse.bundle_id
    )


def test_inspect_lists_everything(sparse: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """All components and files; those that are not here say so."""
    lines = said(capsys, ["inspect", str(sparse.folder)])
    assert [line.split()[-3] for line in lines if line.endswith("(not here)")] == sparse.missing()
    assert any(line.startswith("3 sr32  (") for line in lines)


def test_doctor_says_what_can_run_here(sparse: Bundle) -> None:
    """No error and no engine for what runs elsewhere; a damaged file is an error."""
    located = LocatedBundle(sparse.folder, Origin.NAMED)
    found, findings = bundle_findings(located, None)
    assert found is not None
    files = next(finding for finding in findings if finding.name == "files")
    assert files.level is Level.OK
    assert "can run here: text_encoder, base; elsewhere: sr16, sr32" in files.text
    assert files.facts["missing"] == sparse.missing()
    planned = {finding.name for finding in plan_findings(found, Nvidia(), None)}
    assert {"text_encoder", "base"} <= planned
    assert not {"sr16", "sr32"} & planned
    damage(sparse, "base.onnx")
    found, findings = bundle_findings(located, None)
    assert found is None
    assert findings[-1].level is Level.ERROR


@pytest.mark.parametrize("sparse", ["inside"], indirect=True)
def test_tune_measures_what_is_here(
    sparse: Bundle,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One component is here; another one by its name is an error with the remedy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in set(sparse.files_of([1])) - set(sparse.files_of([0])):
        (sparse.folder / name).unlink(missing_ok=True)
    lines = said(capsys, ["tune", str(sparse.folder), "--seconds", "0"])
    measured = {line.split()[0] for line in lines[1:-1] if "not here" not in line}
    assert measured == {"text_encoder"}
    assert "sr16           not here, so not measured" in lines
    assert main(["tune", str(sparse.folder), "--component", "sr16"]) == 2
    assert "cascade bundle pull" in capsys.readouterr().err
