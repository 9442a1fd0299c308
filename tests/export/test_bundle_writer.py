"""Writing a bundle: nothing unproven, nothing half written, nothing of the old one left."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from cascade.bundle.bundle import open_bundle
from cascade.bundle.manifest import Manifest, write_manifest
from cascade.codecs.shared_initializers import attach_initializers, missing
from cascade.diffusion.stage import DiffusionStage
from cascade.engines.ort import OrtEngine
from cascade.errors import ParityError
from cascade.graph_spec import NET, PICTURE_DB, FileEntry, QualityRecord, VariantSpec
from cascade.precision import Precision
from cascade.request import GenerateRequest, Handoff
from cascade.stage_factory import open_stages
from cascade.tuning.plan import EnginePlan
from export.adapters.reference_cascade import CONTEXT_WIDTH
from export.adapters.reference_cases import stage_cases
from export.bundle_folder import file_entries, write_bundle
from export.bundle_writer import ExportedCascade, prove_end_to_end
from export.components import int8
from export.components.component import ExportedComponent
from export.forms.added import add_web_forms
from export.parity import compare_engines
from export.passes.gate import synthetic_inputs
from export.quantize import sensitivity
from export.quantize.shared_weights import strip_initializers
from export.weights.training_metadata import training_metadata
from stages.evaluation.sampling import run_stage
from stages.evaluation.torch_engine import TorchEngine
from stages.reference import PRESETS
from stages.training.checkpoint import save_checkpoint
from tests.export.conftest import OneStage, export_preset
from tests.support.manifests import encoder_of, square, stages_of
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.tiny_training import FACTS, SELF_BASE, stirred, tiny_dataset


@dataclass(frozen=True, slots=True)
class Material:
    """A manifest and its files."""

    manifest: Manifest
    files: dict[str, bytes]


@pytest.fixture
def material(tmp_path: Path) -> Material:
    """The content of the tiny bundle."""
    bundle = write_tiny_bundle(tmp_path / "source")
    return Material(bundle.manifest, {e.name: bundle.read(e.name) for e in bundle.manifest.files})


def test_a_written_bundle_opens(tmp_path: Path, material: Material) -> None:
    """Folder, files and manifest are there, readable by all, and nothing lies beside them."""
    out = tmp_path / "deep" / "bundle"
    write_bundle(out, material.manifest, material.files)
    bundle = open_bundle(out)
    bundle.verify_files()
    assert bundle.bundle_id == material.manifest.bundle_id
    assert out.stat().st_mode & 0o777 == 0o755
    assert [p.name for p in out.parent.iterdir()] == ["bundle"]


def test_an_older_bundle_is_replaced_as_a_whole(tmp_path: Path, material: Material) -> None:
    """Nothing of what lay there before is left."""
    out = tmp_path / "bundle"
    out.mkdir()
    (out / "old.onnx").write_bytes(b"old")
    (out / "manifest.json").write_text(write_manifest(material.manifest))
    write_bundle(out, material.manifest, material.files)
    assert {p.name for p in out.iterdir()} == {"manifest.json", *material.files}
    open_bundle(out).verify_files()


def test_a_write_that_fails_leaves_the_older_bundle(tmp_path: Path, material: Material) -> None:
    """If a file cannot be written, the bundle in place is still the old one, whole."""
    out = tmp_path / "bundle"
    write_bundle(out, material.manifest, material.files)
    impossible = {**material.files, "no/such/folder": b""}
    with pytest.raises(FileNotFoundError):
        write_bundle(out, replace(material.manifest, name="new"), impossible)
    bundle = open_bundle(out)
    bundle.verify_files()
    assert bundle.bundle_id == material.manifest.bundle_id


def test_a_stage_is_exported_with_its_facts(one_stage: OneStage) -> None:
    """Graph, entry in the manifest and report agree."""
    stage, lines = one_stage
    spec = stage.spec
    assert {"base.onnx", "base.int8.onnx"} <= set(stage.files) == set(spec.graph.all_files)
    assert (spec.name, spec.makes, spec.low) == ("base", square(32), None)
    assert spec.graph.storage == "float16"
    assert 0 <= spec.graph.parity.max_abs_error <= spec.graph.parity.tolerance_abs
    assert spec.provenance["parity_samples"] == 5
    assert spec.provenance["training"]["steps"] == 7.0
    assert spec.provenance["training"]["final_loss"] == 0.1235
    assert lines[0].startswith("base ")
    assert lines[-1].startswith("base          int8: ")


def test_a_stage_has_a_small_form_for_browsers(one_stage: OneStage) -> None:
    """Attention written out, weights left out, and the numbers of the graph that lends them."""
    stage, lines = one_stage
    form, graph = stage.spec.graph.web_form, stage.files["base.onnx"]
    assert form is not None
    assert 0 <= form.parity.max_abs_error <= form.parity.tolerance_abs
    assert any(line.startswith("base          for browsers: max abs error") for line in lines)
    data = stage.files[form.file]
    shared = {t.name for t in onnx.load_from_string(graph).graph.initializer}
    assert missing(data)
    assert missing(data) <= shared
    assert len(data) < len(graph)
    assert not {n.op_type for n in onnx.load_from_string(data).graph.node} & {"MultiHeadAttention"}
    web, own = OrtEngine(attach_initializers(data, graph, form.file)), OrtEngine(graph)
    case = synthetic_inputs(onnx.load_from_string(graph), {"batch": 2, "tokens": 3})
    wanted, found = own.run(case)["prediction"], web.run(case)["prediction"]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_bundle_gets_its_forms_for_browsers_later(
    one_stage: OneStage, material: Material, tmp_path: Path
) -> None:
    """Added to a bundle without them: the very file that an export writes, and a bound of error."""
    stage = one_stage[0]
    exported = stage.spec.graph.web_form
    assert exported is not None
    kept = {n: data for n, data in stage.files.items() if n != exported.file}
    files = {**{n: material.files[n] for n in ("tokenizer.json", "text_encoder.onnx")}, **kept}
    graph = replace(stage.spec.graph, web_form=None)
    spec = replace(stage.spec, graphs={NET: graph})
    encoder = replace(encoder_of(material.manifest), makes=spec.starts_from[0])
    entries = file_entries(files)
    write_bundle(
        tmp_path / "old",
        replace(material.manifest, components=(encoder, spec), files=entries),
        files,
    )
    manifest = add_web_forms(tmp_path / "old")
    assert open_bundle(tmp_path / "old").manifest == manifest
    assert manifest.components[0].graphs[NET].web_form is None
    added = manifest.components[1].graphs[NET].web_form
    assert added is not None
    assert added.file == exported.file
    assert added.parity.max_abs_error >= graph.parity.max_abs_error
    assert (tmp_path / "old" / added.file).read_bytes() == stage.files[exported.file]


def test_a_stage_that_does_not_survive_eight_bits_goes_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No variant, no file, a line that says why; its float32 pictures still feed the next stage."""
    monkeypatch.setattr(int8, "MIN_PICTURE_DB", {64: 200.0})
    # Two points of the frontier: the others are refused in the same way, ten seconds each.
    monkeypatch.setattr(sensitivity, "KEPT", (0, 1))
    folder = tmp_path / "base"
    save_checkpoint(folder, {"ema": stirred(SELF_BASE.unet).state_dict()}, FACTS)
    stage, lines = export_preset(SELF_BASE, folder)
    assert stage.spec.graph.variants == ()
    assert "base.int8.onnx" not in stage.files
    assert "without int8: base: int8 reaches" in lines[-1]
    assert lines[-1].endswith("the floor is 200.0")
    assert stage.runs is not None
    assert isinstance(stage.quantized, DiffusionStage)
    again = run_stage(stage.quantized, GenerateRequest(), stage.runs.starts.proof[0])
    np.testing.assert_array_equal(again, stage.runs.proof_images[0])


def test_both_versions_of_a_stage_paint_the_same(one_stage: OneStage) -> None:
    """Same noise, all steps, with guidance: both pictures agree within a level."""
    exported, _ = one_stage
    context = np.random.default_rng(0).standard_normal((4, 12)).astype(np.float16)
    pictures = []
    for stage in (exported.original, exported.exported):
        assert isinstance(stage, DiffusionStage)
        pictures.append(run_stage(stage, GenerateRequest(seed=3), Handoff(context=context)))
    assert pictures[0].std() > 5
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() <= 1


def test_the_graph_holds_the_rounded_weights(one_stage: OneStage) -> None:
    """What is exported is the averaged network in half precision, exactly: no float32 matrix."""
    graph = onnx.load_from_string(one_stage[0].files["base.onnx"]).graph
    large = [t for t in graph.initializer if np.prod(t.dims) >= 256]
    assert large
    assert {t.data_type for t in large} == {onnx.TensorProto.FLOAT16}


def test_a_cascade_that_differs_is_not_written(
    one_stage: OneStage, material: Material, tmp_path: Path
) -> None:
    """Two cascades that paint different pictures are a ParityError that names the stage."""
    bundle = write_tiny_bundle(tmp_path / "again")
    original, exported = (open_stages(bundle, range(4), EnginePlan(threads=1)) for _ in range(2))
    components: list[ExportedComponent[Any]] = [
        ExportedComponent(spec=spec, files={}, original=one, exported=other, quantized=other)
        for spec, one, other in zip(bundle.manifest.components, original, exported, strict=True)
    ]
    prompts, lines = ("a", "b"), list[str]()
    prove_end_to_end(ExportedCascade(components[0], tuple(components[1:])), prompts, lines.append)
    assert "sr32 inf dB; 0.0000% of" in lines[0]
    # At another place in the cascade a stage draws other noise.
    spec = stages_of(bundle.manifest)[2]
    other = DiffusionStage(spec, 2, OrtEngine(bundle.read("sr32.onnx"), threads=1))
    components[3] = replace(components[3], exported=other)
    with pytest.raises(ParityError, match=r"end to end below 50\.0 dB: \{'sr32'"):
        prove_end_to_end(
            ExportedCascade(components[0], tuple(components[1:])), prompts, lines.append
        )


def test_a_stage_that_is_not_its_original_is_not_kept(one_stage: OneStage) -> None:
    """The exported graph against another network fails the proof."""
    graph = OrtEngine(one_stage[0].files["base.onnx"], threads=1)
    other = TorchEngine(stirred(SELF_BASE.unet, seed=9), "prediction")
    with pytest.raises(ParityError):
        compare_engines(other, graph, stage_cases(SELF_BASE, tiny_dataset(), (0.5,)), "prediction")


def test_training_facts_are_numbers_of_the_checkpoint(tmp_path: Path) -> None:
    """The manifest says of the training what the checkpoint says, and the network's size."""
    network = stirred(SELF_BASE.unet)
    save_checkpoint(tmp_path / "base", {"ema": network.state_dict()}, FACTS)
    assert training_metadata(SELF_BASE, network, tmp_path / "base") == {
        "parameters": float(sum(p.numel() for p in network.parameters())),
        "steps": 7.0,
        "samples": 28.0,
        "minutes": 1.5,
        "final_loss": 0.1235,
        "pictures": 3.0,
        "crop": 32.0,
    }


def test_hashes_belong_to_their_files(material: Material, tmp_path: Path) -> None:
    """A manifest whose hash is another file's is written as told and refused at opening."""
    wrong = tuple(
        FileEntry(name=e.name, sha256=hashlib.sha256(b"other").hexdigest(), size_bytes=e.size_bytes)
        for e in material.manifest.files
    )
    write_bundle(tmp_path / "bundle", replace(material.manifest, files=wrong), material.files)
    with pytest.raises(Exception, match="sha256"):
        open_bundle(tmp_path / "bundle").verify_files()


def test_the_constants_are_the_manifests() -> None:
    """What the writer states of the text encoder fits the preset networks."""
    widths: set[Any] = {preset.unet.context_width for preset in PRESETS.values()}
    assert widths == {CONTEXT_WIDTH}


def test_a_variant_is_read_complete(tmp_path: Path, material: Material) -> None:
    """`read_graph` puts the weights of the float32 file back into a variant that left them out."""
    stage = stages_of(material.manifest)[0]
    whole = onnx.load_from_string(material.files[stage.graph.file])
    thin = onnx.ModelProto()
    thin.CopyFrom(whole)
    saved = strip_initializers(thin, whole)
    files = {**material.files, "thin.onnx": thin.SerializeToString()}
    variant = VariantSpec(
        precision=Precision.INT8,
        file="thin.onnx",
        parity=stage.graph.parity,
        quality=QualityRecord(metric=PICTURE_DB, value=40.0),
    )
    changed = replace(stage, graphs={NET: replace(stage.graph, variants=(variant,))})
    manifest = replace(
        material.manifest,
        components=(encoder_of(material.manifest), changed, *stages_of(material.manifest)[1:]),
        files=tuple(
            FileEntry(name=n, sha256=hashlib.sha256(d).hexdigest(), size_bytes=len(d))
            for n, d in files.items()
        ),
    )
    write_bundle(tmp_path / "bundle", manifest, files)
    bundle = open_bundle(tmp_path / "bundle")
    assert bundle.read_graph(changed.graph, Precision.FP32) == files[stage.graph.file]
    found = onnx.load_from_string(bundle.read_graph(changed.graph, Precision.INT8))
    assert saved > 0
    before = {t.name: onnx.numpy_helper.to_array(t) for t in whole.graph.initializer}
    after = {t.name: onnx.numpy_helper.to_array(t) for t in found.graph.initializer}
    read = {name for node in whole.graph.node for name in node.input} & before.keys()
    assert read <= after.keys()
    assert all(np.array_equal(after[name], before[name]) for name in read)
