"""Files of weights in blocks: taken when asked for, in engines that read them, at their size."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cascade.bundle.bundle import Bundle
from cascade.engines.factory import EngineChoice, EngineKind, open_engine
from cascade.errors import EngineError, InvalidRequest
from cascade.graph_spec import CONTEXT_DB, NET, QualityRecord, VariantSpec
from cascade.precision import BLOCKS, Precision
from cascade.system.processor import Processor
from cascade.tuning.memory_needs import memory_needs
from cascade.tuning.options import parse_engine_options
from cascade.tuning.plan import Machine, auto_precisions, file_precisions, make_plan
from tests.support.tiny_bundle import PARITY, write_tiny_bundle

ORT, OPENVINO = EngineKind.ORT, EngineKind.OPENVINO
PLAIN = Processor(model="any", flags=(), cores=2)
FOUR, EIGHT = Precision.INT4_BLOCK, Precision.INT8_BLOCK


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose text encoder has a file for 4 and for 8 bits: the same bytes."""
    found = write_tiny_bundle(tmp_path_factory.mktemp("blocks") / "bundle")
    encoder: Any = found.manifest.components[0]
    quality = QualityRecord(metric=CONTEXT_DB, value=41.0)
    graph = replace(
        encoder.graphs[NET],
        variants=tuple(
            VariantSpec(
                precision=precision, file=encoder.graphs[NET].file, parity=PARITY, quality=quality
            )
            for precision in (EIGHT, FOUR)
        ),
    )
    components = (replace(encoder, graphs={NET: graph}), *found.manifest.components[1:])
    return replace(found, manifest=replace(found.manifest, components=components))


def planned(bundle: Bundle, engine: str, precision: str) -> EngineChoice:
    """How the text encoder is run on a machine with both engines of CPUs."""
    machine = Machine((ORT, OPENVINO), PLAIN, None)
    options = parse_engine_options(engine, precision)
    return make_plan(bundle.manifest, options, machine).of("text_encoder")


@pytest.mark.parametrize(
    ("engine", "precision", "kind", "taken"),
    [
        ("auto", "auto", ORT, Precision.FP32),
        ("auto", "int4-block", ORT, FOUR),
        ("openvino", "int4-block", OPENVINO, FOUR),
        ("auto", "text_encoder=int8-block", ORT, EIGHT),
        ("openvino", "auto", OPENVINO, Precision.FP32),
    ],
)
def test_blocks_are_taken_only_when_asked_for(
    engine: str, precision: str, kind: EngineKind, taken: Precision, bundle: Bundle
) -> None:
    """They change pictures, and what they save is memory and not time."""
    choice = planned(bundle, engine, precision)
    assert (choice.kind, choice.precision) == (kind, taken)


def test_other_components_compute_in_float32(bundle: Bundle) -> None:
    """As with every precision that only some components have a file for."""
    machine = Machine((ORT,), PLAIN, None)
    plan = make_plan(bundle.manifest, parse_engine_options("auto", "int4-block"), machine)
    assert plan.of("base").precision is Precision.FP32


def test_an_engine_that_does_not_read_them_is_refused(bundle: Bundle) -> None:
    """With the engines that do; a bundle without such a file is refused too."""
    with pytest.raises(InvalidRequest, match=r"runs no int8-block file .* use --engine ort,"):
        planned(bundle, "openvino", "int8-block")
    with pytest.raises(InvalidRequest, match="no fp8 file"):
        planned(bundle, "auto", "fp8")


@pytest.mark.parametrize("precision", sorted(BLOCKS))
@pytest.mark.parametrize("kind", [EngineKind.TENSORRT, EngineKind.ORT_CUDA])
def test_an_engine_is_refused_before_it_is_loaded(kind: EngineKind, precision: Precision) -> None:
    """None of these is installed here, and the error is not that."""
    with pytest.raises(EngineError, match=f"{kind} runs no {precision} file"):
        open_engine(b"", EngineChoice(kind, precision))


def test_tune_measures_what_an_engine_reads(bundle: Bundle) -> None:
    """8 bits in ONNX Runtime alone."""
    encoder = bundle.manifest.components[0]
    assert auto_precisions(encoder, ORT, PLAIN) == [Precision.FP32, EIGHT, FOUR]
    assert auto_precisions(encoder, OPENVINO, PLAIN) == [Precision.FP32, FOUR]
    assert file_precisions(encoder, EngineKind.TENSORRT) == (Precision.FP32,)


def test_memory_is_that_of_the_file(bundle: Bundle) -> None:
    """Without the float32 matrices that the file does not borrow."""
    encoder = bundle.manifest.components[0]
    size = bundle.entry(encoder.graphs[NET].file).size_bytes
    needs = {need.precision: need.weights for need in memory_needs(bundle, encoder)}
    assert needs == dict.fromkeys((Precision.FP32, EIGHT, FOUR), size)


def test_a_bundle_without_blocks_says_so(tmp_path: Path) -> None:
    """And no engine makes them by itself."""
    plain = write_tiny_bundle(tmp_path / "plain")
    with pytest.raises(InvalidRequest, match="this bundle has no int4-block file"):
        planned(plain, "auto", "int4-block")
