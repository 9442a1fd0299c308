"""`cascade inspect` and `cascade verify`: what they print, and how they fail."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from cascade import __version__
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import Manifest, write_manifest
from cascade.codecs.strict_json import to_json
from cascade.commands.cli import main
from cascade.commands.exit_codes import BAD_INPUT
from cascade.graph_spec import NET, TensorSpec
from tests.support.manifests import encoder_of, with_encoder
from tests.support.tiny_bundle import model, text_encoder_graph, write_tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A fresh bundle that a test may damage."""
    return write_tiny_bundle(tmp_path / "bundle")


def rewrite(bundle: Bundle, manifest: Manifest, **files: bytes) -> None:
    """Put files and a manifest with their hashes in the place of the old ones."""
    entries = []
    for entry in manifest.files:
        data = files.get(entry.name.removesuffix(".onnx"))
        if data is None:
            entries.append(entry)
            continue
        (bundle.folder / entry.name).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        entries.append(replace(entry, sha256=digest, size_bytes=len(data)))
    text = write_manifest(replace(manifest, files=tuple(entries)))
    (bundle.folder / "manifest.json").write_text(text)


def error_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """Run a command that fails; its one line on stderr."""
    assert main(arguments) == BAD_INPUT
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_inspect_prints_what_a_reader_needs(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    """Id, licence, every component, every file and the total size are there."""
    assert main(["inspect", str(bundle.folder)]) == 0
    out = capsys.readouterr().out
    assert f"bundle    tiny  {bundle.bundle_id}" in out
    assert "licence   Apache-2.0" in out
    for position, component in enumerate(bundle.manifest.components):
        assert f"\n{position} {component.name}  ({component.family})\n" in out
    for entry in bundle.manifest.files:
        assert f"{entry.size_bytes:,}  {entry.sha256[:16]}  {entry.name}" in out
    total = sum(entry.size_bytes for entry in bundle.manifest.files)
    assert f"{total:,}  bytes in all" in out
    assert "image    8 -> 16, x0-prediction, cosine schedule" in out
    assert "sampler  ddpm, 3 steps, guidance 2 (uncond + w (cond - uncond))" in out


def test_inspect_as_json_is_the_manifest(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    """Programs get the very manifest."""
    assert main(["inspect", "--json", str(bundle.folder)]) == 0
    assert json.loads(capsys.readouterr().out) == to_json(bundle.manifest)


def test_verify_runs_every_component(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole bundle passes, and each component says so."""
    assert main(["verify", str(bundle.folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "files         5 whole, hashes right"
    assert [line.split()[0] for line in lines[1:-1]] == ["text_encoder", "base", "sr16", "sr32"]
    assert lines[-1] == f"ok            {bundle.bundle_id}"


@pytest.mark.parametrize("name", ["text_encoder.onnx", "sr16.onnx", "tokenizer.json"])
def test_a_corrupted_file_fails_with_one_line(
    bundle: Bundle, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """One changed bit: exit code 2 and one line that names the file."""
    path = bundle.folder / name
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    assert f"{name}: sha256 is" in error_line(capsys, ["verify", str(bundle.folder)])


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_no_bundle_fails_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """A folder that is not there is named together with what to give."""
    assert "give --bundle the folder" in error_line(capsys, [command, str(tmp_path / "none")])


def test_a_wrong_signature_fails(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """A manifest that describes other inputs than the graph has is found out."""
    spec = encoder_of(bundle.manifest)
    wrong = tuple(replace(tensor, shape=("batch", 77)) for tensor in spec.graph.inputs)
    changed = replace(spec, graphs={NET: replace(spec.graph, inputs=wrong)})
    rewrite(bundle, with_encoder(bundle.manifest, changed))
    assert "text_encoder.onnx: the manifest says" in error_line(
        capsys, ["verify", str(bundle.folder)]
    )


def test_numbers_that_are_not_finite_fail(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    """A graph whose hash and signature are right and whose numbers are not is found out."""
    _, inputs, outputs = text_encoder_graph()
    nodes = [
        helper.make_node("Gather", ["table", "token_ids"], ["rows"]),
        helper.make_node("Unsqueeze", ["token_mask", "last"], ["mask"]),
        helper.make_node("Mul", ["rows", "mask"], ["context"]),
    ]
    table = np.full((100, 8), np.nan, np.float32)
    graph = model(nodes, inputs, outputs, {"table": table, "last": np.array([2], np.int64)})
    rewrite(bundle, bundle.manifest, text_encoder=graph)
    assert open_bundle(bundle.folder).bundle_id != bundle.bundle_id
    assert "expected finite numbers" in error_line(capsys, ["verify", str(bundle.folder)])


def test_a_graph_that_cannot_be_loaded_fails(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes with the right hash that are no graph are an error line too."""
    rewrite(bundle, bundle.manifest, base=b"\x08\x09")
    assert "cannot load the graph" in error_line(capsys, ["verify", str(bundle.folder)])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND; see cascade --help"),
        (["nonsense"], "unknown command 'nonsense': expected "),
        (["inspec"], "unknown command 'inspec': did you mean inspect?; see cascade --help"),
        (["inspect", "--nonsense"], "unknown flag --nonsense; see cascade inspect --help"),
        (["inspect", "--jsn"], "unknown flag --jsn: did you mean --json?"),
        (["inspect", "a", "b"], "unrecognized arguments: b; see cascade"),
        (["generate", "--fallback", "locl"], "unknown value 'locl': did you mean local?"),
        (["generate", "--timeout", "soon"], "argument --timeout: invalid float value: 'soon'"),
        (["data", "fetsh"], "unknown command 'fetsh': did you mean fetch?"),
    ],
)
def test_a_wrong_command_line_says_how(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """No command, an unknown one, flag or value: one line, with what was meant where it is near."""
    assert said in error_line(capsys, arguments)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the package's version."""
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"edge-cascade {__version__}\n"


def test_outputs_of_another_shape_fail(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """A graph that says one shape and returns another is found out by running it."""
    _, inputs, _ = text_encoder_graph()
    outputs = (TensorSpec(name="context", dtype="float32", shape=("batch", "tokens", 1)),)
    nodes = [
        helper.make_node("Unsqueeze", ["token_mask", "last"], ["mask"]),
        helper.make_node("Cast", ["token_ids"], ["numbers"], to=1),
        helper.make_node("Unsqueeze", ["numbers", "last"], ["wide"]),
        helper.make_node("Concat", ["mask", "wide"], ["context"], axis=1),
    ]
    graph = model(nodes, inputs, outputs, {"last": np.array([2], np.int64)})
    spec = encoder_of(bundle.manifest)
    changed = replace(spec, graphs={NET: replace(spec.graph, outputs=outputs)})
    rewrite(bundle, with_encoder(bundle.manifest, changed), text_encoder=graph)
    error = error_line(capsys, ["verify", str(bundle.folder)])
    assert "context came back as [1, 8, 1], expected finite numbers of shape [1, 4, 1]" in error


def test_verify_runs_variants_completed_by_the_weights_they_borrow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An 8-bit file that leaves out what the float32 file holds is checked as it is run."""
    eight = write_tiny_bundle(tmp_path / "eight", int8=True)
    assert main(["verify", str(eight.folder)]) == 0
    out = capsys.readouterr().out
    for stage in ("base", "sr16", "sr32"):
        assert f"{stage}.int8.onnx: signature right, one step gave finite numbers" in out


def test_inspect_shows_a_bundle_that_lacks_files(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of its components, and which files are not here."""
    (bundle.folder / "sr32.onnx").unlink()
    assert main(["inspect", str(bundle.folder)]) == 0
    absent = [line for line in capsys.readouterr().out.splitlines() if "(not here)" in line]
    assert [line.split()[2] for line in absent] == ["sr32.onnx"]
