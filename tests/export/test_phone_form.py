"""Graphs of bundles in the form for phones: one piece for the checker, the numbers of before."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from cascade.bundle.default_bundle import REFERENCE
from cascade.engines.ort import OrtEngine
from cascade.errors import ParityError
from export.forms.ort_files import ort_file, required_operators
from export.forms.phone import phone_form
from export.forms.usability import MLPROGRAM, MOST_PARTITIONS, check_usable, usability
from export.forms.verify import verify_phone_form
from export.passes.gate import synthetic_inputs

TOKENS = 5
PIXELS = REFERENCE.parent / "emoji-pixels-1"


@pytest.fixture(scope="module")
def stored() -> onnx.ModelProto:
    """A stage of the reference bundle, with every kind of node that a form has to restate."""
    return onnx.load(REFERENCE / "sr256.onnx")


@pytest.fixture(scope="module")
def form(stored: onnx.ModelProto) -> onnx.ModelProto:
    """Its form for phones."""
    return phone_form(stored, 1, TOKENS)


def test_the_checker_takes_the_form_in_one_piece(
    stored: onnx.ModelProto, form: onnx.ModelProto
) -> None:
    """ONNX Runtime's own checker says NO of the stored graph, and YES of the form on MLProgram."""
    before = usability(stored.SerializeToString())[MLPROGRAM]
    assert before.verdict == "NO"
    assert "com.microsoft:MultiHeadAttention" in before.unsupported
    record, after = verify_phone_form("sr256", stored.SerializeToString(), form, exact=False)
    assert after[MLPROGRAM].verdict == "YES"
    assert after[MLPROGRAM].partitions <= MOST_PARTITIONS
    assert record.max_abs_error < 1e-4
    with pytest.raises(ParityError, match=r"takes it in \d+ pieces, .* com.microsoft:MultiHead"):
        check_usable("sr256", {MLPROGRAM: replace(before, partitions=MOST_PARTITIONS + 1)})


def test_the_form_has_one_size_and_standard_operators(form: onnx.ModelProto) -> None:
    """No free axis, nothing that works out a shape, no operator of ONNX Runtime's own."""
    axes = [d for info in form.graph.input for d in info.type.tensor_type.shape.dim]
    assert all(d.dim_value for d in axes)
    assert {node.domain for node in form.graph.node} == {""}
    kinds = {node.op_type for node in form.graph.node}
    assert not kinds & {"Shape", "Expand", "Pad", "BatchNormalization", "InstanceNormalization"}
    assert {"LayerNormalization", "Softmax"} <= kinds


def test_another_network_is_not_its_form(stored: onnx.ModelProto, form: onnx.ModelProto) -> None:
    """The gate compares numbers: one changed offset is an error."""
    changed = onnx.ModelProto()
    changed.CopyFrom(form)
    bias = next(t for t in changed.graph.initializer if t.name.endswith("conv_out.bias"))
    values = onnx.numpy_helper.to_array(bias) + np.float32(0.1)
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    with pytest.raises(ParityError, match="over the tolerance"):
        verify_phone_form("sr256", stored.SerializeToString(), changed, exact=False)


def test_a_small_ort_file_keeps_eight_bits(form: onnx.ModelProto, tmp_path: Path) -> None:
    """About as large as the graph, the same numbers, and a list of what a build must have."""
    graph = form.SerializeToString()
    data = ort_file(graph)
    assert data[4:8] == b"ORTM"
    assert len(data) < 1.1 * len(graph)
    case = synthetic_inputs(form, {})
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, case)
    engine = OrtEngine(graph)
    np.testing.assert_allclose(found, engine.run(case)["prediction"], atol=1e-4)
    engine.close()
    (tmp_path / "stage.ort").write_bytes(data)
    required_operators([tmp_path / "stage.ort"], tmp_path / "required.config")
    assert "ai.onnx;" in (tmp_path / "required.config").read_text()


def test_a_graph_of_an_exact_family_keeps_its_bits() -> None:
    """Stages of pixels: the same bits, and three pieces at most."""
    path = PIXELS / "px8.heads.onnx"
    form = phone_form(onnx.load(path), 1, TOKENS)
    record, taken = verify_phone_form("px8", path.read_bytes(), form, exact=True)
    assert record.tolerance_abs == 0
    assert taken[MLPROGRAM].verdict == "YES"
