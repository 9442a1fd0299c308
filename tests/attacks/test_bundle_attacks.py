"""Altered bundles: each is refused by type, before any parser sees what was altered."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper, load_model_from_string

from cascade.bundle.manifest import FORMAT_VERSION
from cascade.errors import CascadeError, EngineError, InvalidRequest, ManifestError
from runtime_server import ServerConfig
from runtime_server.core import load_core
from tests.support.tiny_bundle import write_tiny_bundle

GRAPH = "base.onnx"


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite the manifest after a change."""
    path = folder / "manifest.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def entry_of(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    """One file's entry."""
    return next(entry for entry in manifest["files"] if entry["name"] == name)


def replace_graph(folder: Path, data: bytes, name: str = GRAPH) -> None:
    """Other bytes of a file, with the hash and size that fit them."""
    (folder / name).write_bytes(data)
    fitting = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    edit_manifest(folder, lambda manifest: entry_of(manifest, name).update(fitting))


def rename_listed(folder: Path, name: str) -> None:
    """List a graph under another name, wherever it is used."""

    def change(manifest: dict[str, Any]) -> None:
        entry_of(manifest, GRAPH)["name"] = name
        manifest["components"][1]["graphs"]["net"]["file"] = name

    edit_manifest(folder, change)


def parent_path(folder: Path) -> None:
    """A name that leads out of the folder, to a file that is really there."""
    (folder / GRAPH).rename(folder.parent / "outside.onnx")
    rename_listed(folder, "../outside.onnx")


def absolute_path(folder: Path) -> None:
    """A name that starts at the root."""
    outside = folder.parent / "outside.onnx"
    (folder / GRAPH).rename(outside)
    rename_listed(folder, str(outside))


def symlink(folder: Path) -> None:
    """A listed file that is a symbolic link to the right bytes."""
    outside = folder.parent / "outside.onnx"
    (folder / GRAPH).rename(outside)
    (folder / GRAPH).symlink_to(outside)


def hard_link(folder: Path) -> None:
    """A listed file that another name shares."""
    os.link(folder / GRAPH, folder.parent / "outside.onnx")


def linked_manifest(folder: Path) -> None:
    """The manifest itself as a symbolic link."""
    outside = folder.parent / "outside.json"
    (folder / "manifest.json").rename(outside)
    (folder / "manifest.json").symlink_to(outside)


def folder_instead_of_file(folder: Path) -> None:
    """A folder under a listed name."""
    (folder / GRAPH).unlink()
    (folder / GRAPH).mkdir()


def wrong_hash(folder: Path) -> None:
    """One bit of a graph turned."""
    data = bytearray((folder / GRAPH).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / GRAPH).write_bytes(bytes(data))


def wrong_size(folder: Path) -> None:
    """A byte more than listed."""
    with (folder / GRAPH).open("ab") as file:
        file.write(b"\0")


def malformed_hash(folder: Path) -> None:
    """A hash that is none."""
    edit_manifest(folder, lambda m: entry_of(m, GRAPH).update(sha256="x" * 64))


def extra_file(folder: Path) -> None:
    """A file that the manifest does not list."""
    (folder / "payload.so").write_bytes(b"\x7fELF")


def missing_file(folder: Path) -> None:
    """A listed file that is not there."""
    (folder / GRAPH).unlink()


def missing_manifest(folder: Path) -> None:
    """No manifest at all."""
    (folder / "manifest.json").unlink()


def truncated_graph(folder: Path) -> None:
    """Half an ONNX file whose hash fits."""
    replace_graph(folder, (folder / GRAPH).read_bytes()[:-100])


def external_data(folder: Path) -> None:
    """An ONNX file whose weights point at another file of the machine."""
    model = load_model_from_string((folder / GRAPH).read_bytes())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    replace_graph(folder, model.SerializeToString())


def hidden_external_data(folder: Path) -> None:
    """The same inside the attribute of a node."""
    model = load_model_from_string((folder / GRAPH).read_bytes())
    tensor = TensorProto(name="t", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secrets.bin")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["unused"], value=tensor))
    replace_graph(folder, model.SerializeToString())


def unknown_field(folder: Path) -> None:
    """A field that no reader knows."""
    edit_manifest(folder, lambda manifest: manifest.update(post_install="rm -rf"))


def other_format_version(folder: Path) -> None:
    """A bundle of a future format."""
    edit_manifest(folder, lambda manifest: manifest.update(format_version=FORMAT_VERSION + 1))


def mistyped_field(folder: Path) -> None:
    """A number where a name belongs."""
    edit_manifest(folder, lambda manifest: manifest.update(name=17))


def manifest_not_json(folder: Path) -> None:
    """Something else in its place."""
    (folder / "manifest.json").write_bytes(b"\x80\x04\x95pickle")


def manifest_nested(folder: Path) -> None:
    """JSON nested deeper than the parser can follow."""
    (folder / "manifest.json").write_text("[" * 100_000)


def manifest_huge(folder: Path) -> None:
    """More bytes than any manifest has."""
    with (folder / "manifest.json").open("a") as file:
        file.write(" " * (2 << 20))


def broken_tokenizer(folder: Path) -> None:
    """A tokenizer file that is none, with a hash that fits."""
    replace_graph(folder, b'{"model": 3}', "tokenizer.json")


def graph_not_onnx(folder: Path) -> None:
    """Consistent bytes that hold no graph."""
    replace_graph(folder, b"\x08\x09")


def graph_of_unknown_operator(folder: Path) -> None:
    """A well-formed graph that no engine can run."""
    model = load_model_from_string((folder / GRAPH).read_bytes())
    model.graph.node[0].op_type = "Nonsense"
    replace_graph(folder, model.SerializeToString())


ATTACKS: dict[Callable[[Path], None], type[CascadeError]] = {
    parent_path: ManifestError,
    absolute_path: ManifestError,
    symlink: ManifestError,
    hard_link: ManifestError,
    linked_manifest: ManifestError,
    folder_instead_of_file: ManifestError,
    wrong_hash: ManifestError,
    wrong_size: ManifestError,
    malformed_hash: ManifestError,
    extra_file: ManifestError,
    missing_file: ManifestError,
    missing_manifest: ManifestError,
    truncated_graph: ManifestError,
    external_data: ManifestError,
    hidden_external_data: ManifestError,
    unknown_field: ManifestError,
    other_format_version: ManifestError,
    mistyped_field: ManifestError,
    manifest_not_json: ManifestError,
    manifest_nested: ManifestError,
    manifest_huge: ManifestError,
    broken_tokenizer: ManifestError,
    graph_not_onnx: EngineError,
    graph_of_unknown_operator: EngineError,
}


def attacked(attack: Callable[[Path], None], folder: Path) -> Path:
    """A good bundle after an attack on it."""
    bundle = folder / "bundle"
    write_tiny_bundle(bundle)
    attack(bundle)
    return bundle


def test_the_bundle_that_is_attacked_was_good(tmp_path: Path) -> None:
    """Without an attack it loads, or the tests below would show nothing."""
    folder = write_tiny_bundle(tmp_path / "bundle").folder
    load_core(ServerConfig(bundle=folder, threads=1)).close()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_altered_bundle_is_not_loaded(attack: Callable[[Path], None], tmp_path: Path) -> None:
    """The error's type says whose fault it is; its text names what is wrong."""
    folder = attacked(attack, tmp_path)
    with pytest.raises(ATTACKS[attack]) as refused:
        load_core(ServerConfig(bundle=folder, threads=1))
    assert str(refused.value)


def test_hosting_nothing_is_refused(tmp_path: Path) -> None:
    """A cut beyond the last component leaves a server without work."""
    folder = write_tiny_bundle(tmp_path / "bundle").folder
    with pytest.raises(InvalidRequest, match="cut"):
        load_core(ServerConfig(bundle=folder, cut=4))


SERVE_EACH = """
import sys
from cascade.commands.cli import main
for folder in sys.argv[1:]:
    print(main(["serve", "--listen", "127.0.0.1:0", "--bundle", folder]), flush=True)
"""


def test_serve_refuses_each_with_one_line(tmp_path: Path) -> None:
    """The command as a user sees it: exit code 2 and one line, no traceback."""
    folders = [str(attacked(attack, tmp_path / attack.__name__)) for attack in ATTACKS]
    done = subprocess.run(
        [sys.executable, "-c", SERVE_EACH, *folders],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2"] * len(ATTACKS)
    lines = done.stderr.splitlines()
    assert len(lines) == len(ATTACKS), done.stderr
    assert all(line.startswith("error: ") and len(line) > 20 for line in lines), lines


def test_serve_exits_with_2(tmp_path: Path) -> None:
    """The process's own exit code."""
    folder = str(attacked(wrong_hash, tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "cascade", "serve", "--bundle", folder],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "sha256" in line
