"""ONNX Runtime behind the engine contract: named arrays, our errors, and an end from outside."""

import threading
import time

import numpy as np
import pytest
from onnx import TensorProto, helper

from cascade.engine import Engine
from cascade.engines.factory import has_large_input
from cascade.engines.ort import SPIN_US, OrtEngine, dtype_name, session_options
from cascade.errors import Cancelled, EngineError
from cascade.types import Array
from tests.support.tiny_bundle import WIDTH, stage_graph, text_encoder_graph


def counting_graph() -> bytes:
    """`total = x + 1 + 1 + ...`, as many times as `turns` says: a run as long as wanted."""
    state = helper.make_tensor_value_info("state", TensorProto.FLOAT, [1])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_in"], ["go_out"]),
            helper.make_node("Add", ["state", "one"], ["state_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            state,
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_out", TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["turns", "", "x"], ["total"], body=body)],
        "counting",
        [
            helper.make_tensor_value_info("turns", TensorProto.INT64, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor_value_info("total", TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    return bytes(model.SerializeToString())


def turns(count: int) -> dict[str, Array]:
    """Inputs for that many turns, starting at 0.5."""
    return {"turns": np.array(count, np.int64), "x": np.array([0.5], np.float32)}


def encoder_inputs() -> dict[str, Array]:
    """Two tokens for the tiny text encoder."""
    return {
        "token_ids": np.array([[1, 2]], np.int64),
        "token_mask": np.array([[1, 0]], np.float32),
    }


@pytest.fixture(scope="module")
def encoder() -> OrtEngine:
    """The tiny text encoder."""
    return OrtEngine(text_encoder_graph()[0], threads=1)


@pytest.fixture(scope="module")
def counter() -> OrtEngine:
    """The counting graph."""
    return OrtEngine(counting_graph(), threads=1)


def test_it_is_an_engine(encoder: OrtEngine) -> None:
    """The class keeps the contract."""
    assert isinstance(encoder, Engine)


def test_outputs_come_by_name(encoder: OrtEngine) -> None:
    """A run returns every output by its name; masked tokens come out as zero."""
    outputs = encoder.run(encoder_inputs())
    assert list(outputs) == ["context"]
    assert (outputs["context"].shape, outputs["context"].dtype) == ((1, 2, WIDTH), np.float32)
    assert outputs["context"][0, 0].all()
    assert not outputs["context"][0, 1].any()


def test_known_answer(counter: OrtEngine) -> None:
    """Five turns add five."""
    assert counter.run(turns(5))["total"].tolist() == [5.5]


def test_signature_is_the_graphs(encoder: OrtEngine) -> None:
    """Inputs and outputs are listed with dtype and shape, free axes by name."""
    assert encoder.inputs == {
        "token_ids": ("int64", ("batch", "tokens")),
        "token_mask": ("float32", ("batch", "tokens")),
    }
    assert encoder.outputs == {"context": ("float32", ("batch", "tokens", WIDTH))}


def test_signature_matches_the_specs() -> None:
    """The signature of a stage's graph says what the manifest says of it."""
    data, inputs, outputs = stage_graph(2, upscales=True, slow_layers=0)
    engine = OrtEngine(data, threads=1)
    assert engine.inputs == {spec.name: (spec.dtype, spec.shape) for spec in inputs}
    assert engine.outputs == {spec.name: (spec.dtype, spec.shape) for spec in outputs}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("tensor(float)", "float32"),
        ("tensor(float16)", "float16"),
        ("tensor(double)", "float64"),
        ("tensor(int64)", "int64"),
        ("tensor(uint8)", "uint8"),
    ],
)
def test_dtypes_have_numpys_names(theirs: str, ours: str) -> None:
    """ONNX Runtime's type names become numpy's."""
    assert dtype_name(theirs) == ours


@pytest.mark.parametrize("graph", [b"", b"garbage", bytes(1000), counting_graph()[:-40]])
def test_bytes_that_are_no_graph_are_an_engine_error(graph: bytes) -> None:
    """Whatever cannot be loaded is an EngineError."""
    with pytest.raises(EngineError, match="cannot load the graph"):
        OrtEngine(graph, threads=1)


@pytest.mark.parametrize(
    "change",
    [
        {"token_ids": None},
        {"extra": np.zeros(1, np.float32)},
        {"token_mask": np.ones((1, 2), np.float64)},
        {"token_mask": np.ones((1, 2, 1), np.float32)},
        {"token_ids": np.array([[1, 9999]], np.int64)},
    ],
    ids=["missing", "unknown", "dtype", "rank", "index"],
)
def test_wrong_inputs_are_an_engine_error(
    encoder: OrtEngine, change: dict[str, Array | None]
) -> None:
    """A missing, unknown, mistyped or impossible input fails as ours, and the next run works."""
    inputs = {k: v for k, v in {**encoder_inputs(), **change}.items() if v is not None}
    with pytest.raises(EngineError):
        encoder.run(inputs)
    assert encoder.run(encoder_inputs())["context"].shape == (1, 2, WIDTH)


def test_terminate_ends_a_long_run(counter: OrtEngine) -> None:
    """A run of hours ends as Cancelled within moments, and the engine answers the next one."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            counter.run(turns(10**12))
        except Cancelled as exc:
            raised.append(exc)

    worker = threading.Thread(target=run, daemon=True)
    worker.start()
    deadline = time.monotonic() + 120
    # The run may not have begun yet: a call that finds nothing to end is harmless.
    while worker.is_alive() and time.monotonic() < deadline:
        worker.join(0.02)
        counter.terminate()
    assert not worker.is_alive()
    assert [type(exc) for exc in raised] == [Cancelled]
    assert counter.run(turns(2))["total"].tolist() == [2.5]


def test_terminate_when_idle_is_harmless(counter: OrtEngine) -> None:
    """With nothing to end, the next run is not affected."""
    counter.terminate()
    assert counter.run(turns(3))["total"].tolist() == [3.5]


def test_closing_twice_is_harmless_and_a_closed_engine_says_so() -> None:
    """Whoever closes a second time does no wrong; whoever runs a closed engine is told."""
    engine = OrtEngine(text_encoder_graph()[0], threads=1)
    engine.close()
    engine.close()
    engine.terminate()
    with pytest.raises(EngineError, match="closed"):
        engine.run(encoder_inputs())


@pytest.mark.parametrize(
    ("shapes", "large"),
    [
        (None, True),
        ({}, False),
        ({"x_t": (2, 3, 64, 64), "context": (2, None, 384)}, False),
        ({"x_t": (8, 3, 256, 256), "t": (8,)}, False),
        ({"x_t": (1, 3, 1024, 1024)}, True),
    ],
)
def test_memory_of_runs_stays_only_for_large_pictures(
    shapes: dict[str, tuple[int | None, ...]] | None, *, large: bool
) -> None:
    """Rows do not make a picture large; where shapes are unknown it may be."""
    assert has_large_input(shapes) is large
    assert session_options(1, keeps_scratch=large).enable_cpu_mem_arena is large


def test_threads_wait_awake_inside_a_run_and_asleep_between_runs() -> None:
    """Woken for each operator they would cost a quarter of a step; idle they would cost others."""
    options = session_options(2)
    entries = ("intra_op.allow_spinning", "force_spinning_stop", "intra_op.spin_duration_us")
    found = [options.get_session_config_entry(f"session.{name}") for name in entries]
    assert found == ["1", "1", str(SPIN_US)]


def test_runs_are_the_same_without_an_arena() -> None:
    """To the bit."""
    graph = stage_graph(1, upscales=True, slow_layers=0)[0]
    kept, given = (OrtEngine(graph, threads=1, keeps_scratch=kept) for kept in (True, False))
    noise = np.random.default_rng(2).standard_normal((1, 3, 16, 16)).astype(np.float32)
    inputs: dict[str, Array] = {
        "x_t": noise,
        "low_res": noise,
        "t": np.array([0.4], np.float32),
        "aug_level": np.array([0.1], np.float32),
        "context": np.ones((1, 5, WIDTH), np.float32),
        "context_mask": np.ones((1, 5), np.float32),
    }
    for _ in range(2):
        one, other = (engine.run(inputs)["prediction"] for engine in (kept, given))
        np.testing.assert_array_equal(one, other)
