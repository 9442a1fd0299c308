"""A component's weights moved beside its graphs: every graph computes what it computed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.gpu_graph import gpu_graph
from cascade.engines.ort import OrtEngine
from cascade.graph_spec import NET
from cascade.precision import Precision
from cascade.weights.source import ExternalGraph, GraphSource, whole_graph
from export.adapters.reference_cases import stage_cases
from export.bundle_folder import file_entries, weights_folder, write_bundle
from export.components import component as components
from export.components.component import ExportedComponent, ExportJob, ExportOptions
from export.description import TextEncoderDescription
from export.weights import beside
from tests.export.conftest import OneStage
from tests.support.manifests import encoder_of
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.tiny_training import SELF_BASE, tiny_dataset

ENCODER = TextEncoderDescription(
    network=None,
    tokenizer=b"",
    max_tokens=8,
    context_width=8,
    provenance="",  # type: ignore[arg-type]
)


def job(folder: Path, lines: list[str], options: ExportOptions) -> ExportJob:
    """An export of which nothing but the placing of weights is left to do."""
    return ExportJob(
        encoder=ENCODER, prompts=(), options=options, requires_gpu_forms=False,
        report=lines.append, folder=folder,
    )  # fmt: skip


@pytest.fixture(scope="module")
def written(one_stage: OneStage, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with an exported stage of a tiny network, its weights beside its graphs."""
    tiny = write_tiny_bundle(tmp_path_factory.mktemp("tiny"))
    out, lines = tmp_path_factory.mktemp("out") / "bundle", list[str]()
    with pytest.MonkeyPatch.context() as patch, weights_folder(out) as folder:
        patch.setattr(beside, "LEAST_BYTES", 1 << 10)
        placing = job(folder, lines, ExportOptions(weights="beside"))
        component = components.with_weights_placed(placing, one_stage[0])
        moved = component.weights
        assert moved is not None
        files = {n: tiny.read(n) for n in ("tokenizer.json", "text_encoder.onnx")}
        every = {**files, **component.files, moved.entry.name: moved.path}
        # The manifest alone: nothing here runs it.
        encoder = replace(encoder_of(tiny.manifest), makes=component.spec.starts_from[0])
        manifest = replace(
            tiny.manifest,
            components=(encoder, component.spec),
            files=file_entries(every, [moved.entry]),
        )
        write_bundle(out, manifest, every)
    assert lines == [f"base          weights beside the graphs: base.safetensors, {size(moved)}"]
    return open_bundle(out)


def size(moved: beside.MovedWeights) -> str:
    """As the report has it."""
    return f"{moved.entry.size_bytes / 1e6:.2f} MB"


def weights(source: GraphSource) -> list[tuple[str, bytes]]:
    """Every weight of a graph, by name."""
    model = onnx.load_from_string(whole_graph(source))
    return sorted((t.name, numpy_helper.to_array(t).tobytes()) for t in model.graph.initializer)


def sources(bundle: Bundle) -> Sequence[GraphSource]:
    """The float32 graph, the int8 one and the forms for GPUs and browsers."""
    graph = bundle.manifest.components[1].graphs[NET]
    cpu = [bundle.read_graph(graph, precision) for precision in (Precision.FP32, Precision.INT8)]
    gpu = gpu_graph(bundle, graph, Precision.FP16)
    return [*cpu, gpu, bundle.read_file_of(graph, "base.web.onnx")]


def test_a_bundle_is_whole_and_smaller(written: Bundle, one_stage: OneStage) -> None:
    """What all graphs share lies once; the file of weights has one name in the file system."""
    written.verify_files()
    complete = beside.complete_files(one_stage[0].spec.graphs.values(), one_stage[0].files)
    there = sum(e.size_bytes for e in written.manifest.files if e.name.startswith("base"))
    assert there < sum(map(len, complete.values()))
    assert written.entry("base.safetensors").chunks
    assert (written.folder / "base.safetensors").stat().st_nlink == 1


def test_every_graph_has_the_weights_that_it_had(written: Bundle, one_stage: OneStage) -> None:
    """To the bit: float32 file, int8 variant, forms for GPUs and browsers."""
    stage: ExportedComponent = one_stage[0]
    complete = beside.complete_files(stage.spec.graphs.values(), stage.files)
    for source, data in zip(sources(written), complete.values(), strict=True):
        assert isinstance(source, ExternalGraph)
        assert [value for _, value in weights(source)] == [value for _, value in weights(data)]


def test_graphs_of_both_precisions_answer_as_before(written: Bundle, one_stage: OneStage) -> None:
    """In ONNX Runtime, on inputs of a sampling run."""
    stage = one_stage[0]
    complete = list(beside.complete_files(stage.spec.graphs.values(), stage.files).values())
    case = stage_cases(SELF_BASE, tiny_dataset(), (0.5,))[0]
    for source, data in zip(sources(written)[:2], complete[:2], strict=True):
        found, wanted = (OrtEngine(graph, threads=1).run(case) for graph in (source, data))
        np.testing.assert_allclose(found["prediction"], wanted["prediction"], atol=1e-5)


@pytest.mark.parametrize(("place", "limit"), [("inside", 0), ("auto", 1 << 30)])
def test_weights_stay_inside_unless_they_are_large(
    place: str, limit: int, one_stage: OneStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` looks at the size of the component's files."""
    monkeypatch.setattr(components, "BESIDE_BYTES", limit)
    options = ExportOptions(weights=place)  # type: ignore[arg-type]
    assert components.with_weights_placed(job(tmp_path, [], options), one_stage[0]) is one_stage[0]
    assert not list(tmp_path.iterdir())


def test_weights_that_are_all_small_stay_inside(one_stage: OneStage, tmp_path: Path) -> None:
    """There is no file for them, and the report says why."""
    lines: list[str] = []
    asked = job(tmp_path, lines, ExportOptions(weights="beside"))
    small = replace(one_stage[0], files=one_stage[0].files)
    assert components.with_weights_placed(asked, small).weights is None
    assert lines == ["base          no weight is large enough to lie beside the graphs"]
