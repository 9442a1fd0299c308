"""Altered weights beside the graphs: each is refused, with file and reason, before any parser."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import ModelProto, TensorProto, helper, load_model_from_string

from cascade.bundle.bundle import open_bundle
from cascade.errors import ManifestError
from cascade.graph_spec import NET
from cascade.precision import Precision
from cascade.weights.source import ExternalGraph
from runtime_server import ServerConfig
from runtime_server.core import load_core
from tests.support.beside_bundle import move_beside
from tests.support.tiny_bundle import write_tiny_bundle

GRAPH, WEIGHTS = "sr16.onnx", "sr16.safetensors"
POSITION = 2
HASH = r"sr16.safetensors: sha256 of chunk 0 is [0-9a-f]{64}, the manifest says"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with its weights beside the graphs."""
    folder = tmp_path_factory.mktemp("good") / "bundle"
    write_tiny_bundle(folder, int8=True)
    move_beside(folder)
    return folder


def open_weights(folder: Path) -> None:
    """All that is done before an engine sees the graph; no engine is here."""
    bundle = open_bundle(folder)
    spec: Any = bundle.manifest.components[POSITION]
    for precision in (Precision.FP32, Precision.INT8):
        graph = bundle.read_graph(spec.graphs[NET], precision)
        assert not isinstance(graph, bytes)
        graph.lease().release()


def relist(folder: Path, name: str, data: bytes) -> None:
    """Other bytes of a file, listed with the size and hashes that fit them."""
    (folder / name).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = next(entry for entry in manifest["files"] if entry["name"] == name)
    digest = hashlib.sha256(data).hexdigest()
    entry.update(sha256=digest, size_bytes=len(data))
    if "chunks" in entry:
        entry.update(chunks=[digest])
    (folder / "manifest.json").write_text(json.dumps(manifest))


def edit_graph(folder: Path, change: Callable[[ModelProto, TensorProto], object]) -> None:
    """A graph after a change of it, or of its first outer weight, with a hash that fits."""
    model = load_model_from_string((folder / GRAPH).read_bytes())
    tensor = next(t for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL)
    change(model, tensor)
    relist(folder, GRAPH, model.SerializeToString())


def set_key(folder: Path, key: str, value: str) -> None:
    """Another value of one key of where a weight lies."""

    def change(model: ModelProto, tensor: TensorProto) -> None:
        for pair in tensor.external_data:
            if pair.key == key:
                pair.value = value

    edit_graph(folder, change)


def edit_header(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """A file of weights after a change of its header, of the same length, with fitting hashes."""
    data = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header, separators=(",", ":")).encode().ljust(length)
    relist(folder, WEIGHTS, data[:8] + text + data[8 + length :])


def change_header_text(folder: Path, old: bytes, new: bytes) -> None:
    """A file of weights with other bytes in its header, with fitting hashes."""
    data = (folder / WEIGHTS).read_bytes()
    assert old in data
    relist(folder, WEIGHTS, data.replace(old, new, 1))


def wrong_offset(folder: Path) -> None:
    """A weight that begins elsewhere in the right file."""
    set_key(folder, "offset", "64")


def offset_in_words(folder: Path) -> None:
    """An offset that readers of numbers understand differently."""
    set_key(folder, "offset", " 0x1000")


def wrong_length(folder: Path) -> None:
    """A weight of more bytes than the file has."""
    set_key(folder, "length", str(1 << 40))


def other_file(folder: Path) -> None:
    """A weight in another listed file."""
    set_key(folder, "location", "sr32.safetensors")


def parent_folder(folder: Path) -> None:
    """A weight in a file of the machine."""
    set_key(folder, "location", "../../../etc/passwd")


def other_name(folder: Path) -> None:
    """A weight that the file does not hold."""

    def change(model: ModelProto, tensor: TensorProto) -> None:
        for node in model.graph.node:
            node.input[:] = ["another" if n == tensor.name else n for n in node.input]
        tensor.name = "another"

    edit_graph(folder, change)


def other_shape(folder: Path) -> None:
    """The right bytes as another shape."""
    edit_graph(folder, lambda _, t: t.dims.append(1))


def other_dtype(folder: Path) -> None:
    """The right bytes as other numbers."""
    edit_graph(folder, lambda _, t: setattr(t, "data_type", TensorProto.INT32))


def unknown_dtype(folder: Path) -> None:
    """A number format that no file of weights holds."""
    edit_graph(folder, lambda _, t: setattr(t, "data_type", TensorProto.STRING))


def checksum_key(folder: Path) -> None:
    """A key more than the three."""
    edit_graph(folder, lambda _, t: t.external_data.add(key="checksum", value="0"))


def second_location(folder: Path) -> None:
    """Two files of one weight: some readers take the first and some the last."""
    edit_graph(folder, lambda _, t: t.external_data.add(key="location", value="/etc/passwd"))


def data_inside_too(folder: Path) -> None:
    """A weight that lies in the graph and beside it."""
    edit_graph(folder, lambda _, t: setattr(t, "raw_data", b"\0" * 4))


def not_said_external(folder: Path) -> None:
    """A place without the field by which it counts."""
    edit_graph(folder, lambda _, t: t.ClearField("data_location"))


def in_a_node(folder: Path) -> None:
    """An outer tensor in a node's attribute, where no weight is."""

    def change(model: ModelProto, tensor: TensorProto) -> None:
        node = helper.make_node("Constant", [], ["unused"], value=tensor)
        model.graph.node.insert(0, node)

    edit_graph(folder, change)


def twice(folder: Path) -> None:
    """Two weights of one name."""

    def change(model: ModelProto, tensor: TensorProto) -> None:
        again = TensorProto()
        again.CopyFrom(tensor)
        model.graph.initializer.append(again)

    edit_graph(folder, change)


def symbolic_link(folder: Path) -> None:
    """The right bytes behind a link."""
    outside = folder.parent / "outside"
    (folder / WEIGHTS).rename(outside)
    (folder / WEIGHTS).symlink_to(outside)


def hard_link(folder: Path) -> None:
    """The right bytes under a second name, by which they can be changed."""
    os.link(folder / WEIGHTS, folder.parent / "outside")


def changed(folder: Path) -> None:
    """One bit of one weight turned."""
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS).write_bytes(bytes(data))


def truncated(folder: Path) -> None:
    """A byte less than listed."""
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])


def truncated_and_listed(folder: Path) -> None:
    """A byte less than its header needs, with fitting hashes."""
    relist(folder, WEIGHTS, (folder / WEIGHTS).read_bytes()[:-1])


def overlapping(folder: Path) -> None:
    """Two weights that share bytes."""

    def change(header: dict[str, Any]) -> None:
        places = header["colours"]["data_offsets"]
        header["colours"]["data_offsets"] = [at - 4 for at in places]

    edit_header(folder, change)


def gap(folder: Path) -> None:
    """Bytes that belong to no tensor."""
    edit_header(folder, lambda header: header.pop(next(n for n in header if n.startswith("fill"))))


def name_twice(folder: Path) -> None:
    """One name with two places."""
    change_header_text(folder, b'"colours"', b'"kernel" ')


def header_too_long(folder: Path) -> None:
    """A header that is longer than its file."""
    data = (folder / WEIGHTS).read_bytes()
    relist(folder, WEIGHTS, (1 << 40).to_bytes(8, "little") + data[8:])


def header_no_json(folder: Path) -> None:
    """A header that is none."""
    change_header_text(folder, b"{", b"\x80")


def wrong_size_of_tensor(folder: Path) -> None:
    """A shape that does not fit its bytes."""
    edit_header(folder, lambda header: header["kernel"].update(shape=[1]))


def no_chunks(folder: Path) -> None:
    """A file of weights whose parts nothing vouches for."""
    edit_listed(folder, lambda entry: entry.pop("chunks"))


def too_many_chunks(folder: Path) -> None:
    """More parts than the file has."""
    edit_listed(folder, lambda entry: entry["chunks"].append("0" * 64))


def malformed_chunk(folder: Path) -> None:
    """A hash of a part that is none."""
    edit_listed(folder, lambda entry: entry.update(chunks=["x" * 64]))


def edit_listed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The manifest's entry of the weights after a change."""
    manifest = json.loads((folder / "manifest.json").read_text())
    change(next(entry for entry in manifest["files"] if entry["name"] == WEIGHTS))
    (folder / "manifest.json").write_text(json.dumps(manifest))


ATTACKS: dict[Callable[[Path], None], str] = {
    wrong_offset: r"sr16.onnx: \w+: offset is 64, sr16.safetensors says \d+",
    offset_in_words: r"sr16.onnx: \w+: offset ' 0x1000' is no number of bytes",
    wrong_length: r"sr16.onnx: \w+: length is 1099511627776, sr16.safetensors says \d+",
    other_file: r"sr16.onnx: \w+ lies in 'sr32.safetensors'; the manifest names sr16.safetensors",
    parent_folder: r"sr16.onnx: \w+ lies in '../../../etc/passwd'",
    other_name: r"sr16.onnx: another is not in sr16.safetensors",
    other_shape: r"sr16.onnx: \w+: shape is \[.*\], sr16.safetensors says",
    other_dtype: r"sr16.onnx: \w+: dtype is I32, sr16.safetensors says F32",
    unknown_dtype: r"sr16.onnx: \w+: dtype 8 does not lie beside a graph",
    checksum_key: r"sr16.onnx: \w+: expected location, offset and length, got checksum",
    second_location: r"expected location, offset and length, got length, location, location",
    data_inside_too: r"sr16.onnx: a weight beside the graph has field 9 too much",
    not_said_external: r"sr16.onnx: a weight beside the graph lacks .* data_location",
    in_a_node: r"sr16.onnx: a tensor points outside the file",
    twice: r"sr16.onnx: two weights are called",
    symbolic_link: r"sr16.safetensors is not a plain file",
    hard_link: r"sr16.safetensors is not a plain file of its own",
    changed: HASH,
    truncated: r"sr16.safetensors: the manifest says \d+ bytes, the file has",
    truncated_and_listed: r"sr16.safetensors: its tensors end at byte \d+, the file at",
    overlapping: r"sr16.safetensors: colours overlaps the one before it",
    gap: r"sr16.safetensors: \w+ leaves a gap before it",
    name_twice: r"sr16.safetensors: its header is not JSON with each name once: 'kernel'",
    header_too_long: r"sr16.safetensors: a header of 1099511627776 bytes",
    header_no_json: r"sr16.safetensors: its header is not JSON",
    wrong_size_of_tensor: r"sr16.safetensors: kernel: 4 bytes by its shape, \d+ by its offsets",
    no_chunks: r"weights: sr16.safetensors is listed without the sha256 of its chunks",
    too_many_chunks: r"chunks: expected 1 of 67108864 bytes for sr16.safetensors, got 2",
    malformed_chunk: r"the sha256 of sr16.safetensors is malformed",
}


def test_the_bundle_that_is_attacked_was_good(good: Path) -> None:
    """Without an attack its weights can be read, or the tests below would show nothing."""
    open_weights(good)
    open_bundle(good).verify_files()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_altered_weights_are_refused(
    attack: Callable[[Path], None], good: Path, tmp_path: Path
) -> None:
    """The error names file and reason, and no engine was there to parse anything."""
    folder = tmp_path / "bundle"
    shutil.copytree(good, folder)
    attack(folder)
    with pytest.raises(ManifestError, match=ATTACKS[attack]):
        open_weights(folder)


@pytest.mark.parametrize("attack", [changed, wrong_offset], ids=lambda attack: attack.__name__)
def test_a_server_refuses_them(attack: Callable[[Path], None], good: Path, tmp_path: Path) -> None:
    """Opening the component to run is what checks it."""
    folder = tmp_path / "bundle"
    shutil.copytree(good, folder)
    attack(folder)
    with pytest.raises(ManifestError, match="sr16"):
        load_core(ServerConfig(bundle=folder, threads=1))


def test_a_change_after_the_bundle_was_opened_is_found(good: Path, tmp_path: Path) -> None:
    """What is hashed is what is used: the file is read once, when the component is opened.

    Reading a graph reads the chunk with the header, and that chunk is not read again: its weights
    are those that were hashed. Whatever is read after the change is refused.
    """
    folder = tmp_path / "bundle"
    shutil.copytree(good, folder)
    bundle, untouched = open_bundle(folder), open_bundle(good)
    spec: Any = bundle.manifest.components[POSITION]
    graph = bundle.read_graph(spec.graphs[NET], Precision.FP32)
    true = untouched.read_graph(spec.graphs[NET], Precision.FP32)
    assert isinstance(graph, ExternalGraph)
    assert isinstance(true, ExternalGraph)
    changed(folder)
    lease = graph.lease()
    assert lease.tensors.keys() == true.lease().tensors.keys()
    for name, value in true.lease().tensors.items():
        assert (lease.tensors[name] == value).all()
    lease.release()
    with pytest.raises(ManifestError, match=HASH):
        graph.lease()


def test_a_change_after_the_weights_were_read_changes_nothing(good: Path, tmp_path: Path) -> None:
    """The file is not mapped: whoever writes to it later does not reach the checked copy."""
    folder = tmp_path / "bundle"
    shutil.copytree(good, folder)
    bundle = open_bundle(folder)
    spec: Any = bundle.manifest.components[POSITION]
    graph = bundle.read_graph(spec.graphs[NET], Precision.FP32)
    assert not isinstance(graph, bytes)
    lease = graph.lease()
    before = {name: tensor.copy() for name, tensor in lease.tensors.items()}
    size = (folder / WEIGHTS).stat().st_size
    with (folder / WEIGHTS).open("r+b") as file:
        file.write(b"\xff" * size)
    assert all((lease.tensors[name] == value).all() for name, value in before.items())


def test_the_whole_check_finds_what_no_graph_reads(good: Path, tmp_path: Path) -> None:
    """`cascade verify` reads every chunk, whoever needs it."""
    folder = tmp_path / "bundle"
    shutil.copytree(good, folder)
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(ManifestError, match=HASH):
        open_bundle(folder).verify_files()
