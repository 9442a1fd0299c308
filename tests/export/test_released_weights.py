"""Weights read back from a bundle: the very ones that were released, or a clear refusal."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from benchmarks.stage_engines import stage_inputs
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.default_bundle import REFERENCE
from cascade.commands.cli import main as cascade
from cascade.diffusion.spec import DiffusionSpec
from cascade.engines.ort import OrtEngine
from cascade.errors import InvalidRequest, ParityError
from cascade.graph_spec import FileEntry
from cascade.precision import Precision
from export.bundle_folder import write_bundle
from export.components.component import ExportedComponent, ExportOptions
from export.weights.graph_constants import Constants
from export.weights.released_pixels import released_pixels
from export.weights.released_weights import (
    check_grid,
    prove,
    released_network,
    stretched,
    write_checkpoint,
)
from export.weights.rounding import Storage, release
from export.weights.training_metadata import training_metadata
from stages.evaluation.torch_engine import TorchEngine
from stages.networks.efficient_unet import BlockConfig
from stages.pixel_presets import PIXEL_PRESETS
from stages.reference import PRESETS, SAMPLING
from stages.training.checkpoint import load_metadata, load_part, save_checkpoint
from stages.training.trained_network import load_network
from tests.export.conftest import OneStage, export_preset
from tests.support.manifests import encoder_of, stages_of
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.tiny_training import FACTS, SELF_BASE, TINY_BASE, stirred

WIDE = replace(
    SELF_BASE,
    unet=replace(
        SELF_BASE.unet,
        blocks=(BlockConfig(channels=32, res_blocks=1, attention="self"),),
    ),
)
"""Its matrices of attention hold 1024 numbers and more: eight bits each."""


@pytest.fixture
def bundle(one_stage: OneStage, tmp_path: Path) -> Bundle:
    """A bundle of a text encoder and the one stage that the tests of export share."""
    return bundle_of(one_stage[0], tmp_path)


def bundle_of(stage: ExportedComponent[DiffusionSpec], tmp_path: Path) -> Bundle:
    """The stage beside the tiny bundle's text encoder."""
    tiny = write_tiny_bundle(tmp_path / "tiny")
    files = dict(stage.files)
    for name in encoder_of(tiny.manifest).files:
        files[name] = tiny.read(name)
    encoder = replace(encoder_of(tiny.manifest), makes=stage.spec.starts_from[0])  # type: ignore[arg-type]
    manifest = replace(
        tiny.manifest,
        components=(encoder, stage.spec),
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


def test_the_stretch_is_the_bundles(bundle: Bundle) -> None:
    """Of the manifest that is read: an older bundle has none, whatever this version releases."""
    spec = stages_of(bundle.manifest)[0]
    training = dict(spec.provenance["training"])
    assert training["stretch"] == SAMPLING["base"].stretch
    assert released_network(bundle, SELF_BASE).config.stretch == training.pop("stretch")
    older = replace(spec, provenance={**spec.provenance, "training": training})
    assert stretched(SELF_BASE.unet, older) == SELF_BASE.unet


def test_they_make_a_checkpoint_to_start_from(bundle: Bundle, tmp_path: Path) -> None:
    """With the release it came from; a folder that is there already is left alone."""
    folder = tmp_path / "new" / "base"
    write_checkpoint(bundle, SELF_BASE, folder)
    assert load_metadata(folder)["released_in"] == bundle.bundle_id
    network = load_network(SELF_BASE, folder)
    assert torch.equal(network.conv_out.weight, load_part(folder, "ema")["conv_out.weight"])
    with pytest.raises(InvalidRequest, match="exists"):
        write_checkpoint(bundle, SELF_BASE, folder)


@pytest.fixture(scope="module")
def eight_bits(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, ExportedComponent[DiffusionSpec]]:
    """A stage whose attention is wide enough for eight-bit weights, and its checkpoint's folder."""
    folder = tmp_path_factory.mktemp("trained") / "base"
    save_checkpoint(folder, {"ema": stirred(WIDE.unet).state_dict()}, FACTS)
    return folder, stage_of(folder)


def stage_of(checkpoint: Path) -> ExportedComponent[DiffusionSpec]:
    """`WIDE` exported from a checkpoint, its weights in eight bits."""
    options = ExportOptions(gpu_forms=frozenset({Precision.FP16}))
    return export_preset(WIDE, checkpoint, options, storage=Storage.INT8)[0]


def test_eight_bit_weights_come_back_bit_for_bit(
    eight_bits: tuple[Path, ExportedComponent[DiffusionSpec]], tmp_path: Path
) -> None:
    """Also those that the graph it is read from computes with in half precision."""
    folder, stage = eight_bits
    network = stirred(WIDE.unet)
    network.load_state_dict(load_part(folder, "ema"))
    expected = release(network, Storage.INT8).state_dict()
    found = released_network(bundle_of(stage, tmp_path), WIDE).state_dict()
    different = [name for name in expected if not torch.equal(found[name], expected[name])]
    assert different == []


def test_a_stage_read_back_is_exported_again_as_it_was(
    eight_bits: tuple[Path, ExportedComponent[DiffusionSpec]], tmp_path: Path
) -> None:
    """Weights, then export: the same graphs to the byte and the same entry, parity included."""
    _, stage = eight_bits
    folder = tmp_path / "back" / "base"
    write_checkpoint(bundle_of(stage, tmp_path), WIDE, folder)
    again = stage_of(folder)
    assert again.spec == stage.spec
    assert again.files == stage.files


def test_weights_off_the_grid_are_not_handed_out(
    eight_bits: tuple[Path, ExportedComponent[DiffusionSpec]], tmp_path: Path
) -> None:
    """One matrix rounded to half precision: no output shows it, the grid does."""
    _, stage = eight_bits
    network = released_network(bundle_of(stage, tmp_path), WIDE)
    weight = network.get_parameter("down.0.attention.query.weight")
    weight.data = weight.data.half().float()
    with pytest.raises(ParityError, match=r"down\.0\.attention\.query\.weight"):
        check_grid(network, stage.spec)


def test_a_checkpoint_that_says_nothing_of_its_training_is_refused(tmp_path: Path) -> None:
    """Named by the file and the fact that is missing."""
    folder = tmp_path / "base"
    save_checkpoint(folder, {"ema": stirred(WIDE.unet).state_dict()}, {"stage": "base"})
    with pytest.raises(InvalidRequest, match=r"checkpoint\.json: step is missing") as caught:
        training_metadata(WIDE, stirred(WIDE.unet), folder)
    assert caught.value.field == "checkpoints.step"


@pytest.mark.parametrize("name", ["base", "sr256"])
def test_the_reference_bundle_gives_the_weights_of_its_graphs(name: str) -> None:
    """On inputs of another kind than the proof's: as close as the record of its parity says."""
    bundle = open_bundle(Path(__file__).parents[2] / "bundles" / "emoji-1")
    spec = stages_of(bundle.manifest)[bundle.manifest.position(name) - 1]
    network = released_network(bundle, PRESETS[name])
    inputs = stage_inputs(spec, encoder_of(bundle.manifest).makes.width)
    engine = OrtEngine(bundle.read(spec.graph.file), threads=1)
    found = engine.run(inputs)["prediction"]
    engine.close()
    expected = TorchEngine(network, "prediction").run(inputs)["prediction"]
    assert np.abs(found - expected).max() < 5 * spec.graph.parity.max_abs_error


def test_another_network_is_refused(bundle: Bundle) -> None:
    """A preset with a level more asks for weights that are not there."""
    with pytest.raises(InvalidRequest, match="not the one of this version"):
        released_network(bundle, TINY_BASE)


def test_weights_that_are_not_the_graphs_are_not_handed_out(bundle: Bundle) -> None:
    """The proof against the bundle's own graph fails for any other network."""
    spec = stages_of(bundle.manifest)[0]
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


def test_a_shipped_stage_of_pixels_is_read_back() -> None:
    """Bit for bit, where two layers share a bias and rows have scales of eight bits."""
    shipped = open_bundle(REFERENCE.parent / "emoji-pixels-1")
    network = released_pixels(shipped, PIXEL_PRESETS["px16"])
    assert torch.equal(network.heads.hidden.bias, network.heads.match.bias)
