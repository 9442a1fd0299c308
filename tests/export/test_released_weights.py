"""Weights read back from a bundle: the very ones that were released, or a clear refusal."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cascade.bundle import Bundle, open_bundle
from cascade.cli import main as cascade
from cascade.errors import InvalidRequest, ParityError
from cascade.manifest import FileEntry
from export.bundle_folder import write_bundle
from export.bundle_parts import BundleParts
from export.released_weights import Constants, prove, released_network, write_checkpoint
from export.rounding import Storage, release
from stages.checkpoint import load_facts, load_part
from stages.sampling import load_network
from tests.tiny_bundle import write_tiny_bundle
from tests.tiny_training import SELF_BASE, TINY_BASE, stirred


@pytest.fixture
def bundle(one_stage: tuple[BundleParts, list[str]], tmp_path: Path) -> Bundle:
    """A bundle of a text encoder and the one stage that the tests of export share."""
    tiny = write_tiny_bundle(tmp_path / "tiny")
    parts, _ = one_stage
    files = dict(parts.files)
    for name in tiny.manifest.text_encoder.files:
        files[name] = tiny.read(name)
    manifest = replace(
        tiny.manifest,
        stages=tuple(parts.stages),
        files=tuple(
            FileEntry(name=n, sha256=hashlib.sha256(d).hexdigest(), size_bytes=len(d))
            for n, d in files.items()
        ),
    )
    write_bundle(tmp_path / "bundle", manifest, files)
    return open_bundle(tmp_path / "bundle")


def test_the_released_weights_come_back(bundle: Bundle) -> None:
    """Every parameter, bit for bit."""
    expected = release(stirred(SELF_BASE.unet), Storage.FLOAT16).state_dict()
    found = released_network(bundle, SELF_BASE).state_dict()
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_they_make_a_checkpoint_to_start_from(bundle: Bundle, tmp_path: Path) -> None:
    """With the release it came from; a folder that is there already is left alone."""
    folder = tmp_path / "new" / "base"
    write_checkpoint(bundle, SELF_BASE, folder)
    assert load_facts(folder)["released_in"] == bundle.bundle_id
    network = load_network(SELF_BASE, folder)
    assert torch.equal(network.conv_out.weight, load_part(folder, "ema")["conv_out.weight"])
    with pytest.raises(InvalidRequest, match="exists"):
        write_checkpoint(bundle, SELF_BASE, folder)


def test_another_network_is_refused(bundle: Bundle) -> None:
    """A preset with a level more asks for weights that are not there."""
    with pytest.raises(InvalidRequest, match="not the one of this version"):
        released_network(bundle, TINY_BASE)


def test_weights_that_are_not_the_graphs_are_not_handed_out(bundle: Bundle) -> None:
    """The proof against the bundle's own graph fails for any other network."""
    spec = bundle.manifest.stages[0]
    with pytest.raises(ParityError, match="not those of the graph"):
        prove(stirred(SELF_BASE.unet, seed=4), bundle.read("base.onnx"), spec)


def test_a_bias_that_two_layers_share() -> None:
    """Of equal biases a graph keeps one; the other layer's is found through its weight."""
    kernel = np.ones((2, 2, 1, 1), np.float16)
    nodes = [
        helper.make_node("Cast", ["skip.weight_f16"], ["skip.weight"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["y"]),
        helper.make_node("Conv", ["x", "skip.weight", "conv.bias"], ["z"]),
    ]
    constants = {
        "skip.weight_f16": kernel,
        "conv.weight": kernel.astype(np.float32),
        "conv.bias": np.array([3, 5], np.float32),
    }
    graph = helper.make_graph(
        nodes, "g", [], [], [numpy_helper.from_array(v, n) for n, v in constants.items()]
    )
    found = Constants(helper.make_model(graph))
    assert found.bias_beside("skip.weight").tolist() == [3, 5]
    with pytest.raises(KeyError):
        found.value("skip.bias")
    with pytest.raises(KeyError):
        found.bias_beside("other.weight")


def test_the_command_names_what_there_is(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stage that is none of the reference cascade's is refused, and those are named."""
    arguments = ["weights", str(bundle.folder), "--checkpoints", str(tmp_path), "--stages", "sr8"]
    assert cascade(arguments) != 0
    assert "expected base, sr256, sr1024, got sr8" in capsys.readouterr().err
