"""The TensorRT engine on a card: the suites of the CPU engine, answers compared with it.

Skipped, and said at the end of the session, where there is no card. Nothing here has run yet.
"""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.engine import Engine
from cascade.engines.factory import EngineChoice
from cascade.engines.kinds import EngineKind
from cascade.engines.ort import OrtEngine
from cascade.errors import Cancelled, EngineError
from cascade.precision import Precision
from cascade.request import GenerateRequest
from cascade.tuning.plan import EnginePlan
from cascade.types import Array, ImageU8
from tests.congruence.children import LocalAnswers
from tests.support.tiny_bundle import WIDTH, WORDS, write_tiny_bundle

pytestmark = pytest.mark.gpu(needs="tensorrt")

TOLERANCE = 1e-4
"""Float32 without TF32, sums in another order."""
SHAPES = [(1, 3, 64), (2, 3, 64), (2, 9, 64), (1, 1, 96)]
"""Batch, tokens, pixels."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A true bundle in miniature."""
    return write_tiny_bundle(tmp_path_factory.mktemp("trt") / "tiny", slow_layers=4, steps=4)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of engines for this module."""
    return tmp_path_factory.mktemp("engines")


def opened(bundle: Bundle, file: str, cache: Path) -> Engine:
    """A TensorRT engine; the import needs a card's packages."""
    from cascade.engines.trt import TensorRtEngine

    return TensorRtEngine(bundle.read(file), cache=cache)


@pytest.fixture
def engine(bundle: Bundle, cache: Path) -> Iterator[Engine]:
    """The first super-resolution stage's engine."""
    found = opened(bundle, "sr16.onnx", cache)
    yield found
    found.close()


def inputs(file: str, batch: int, tokens: int, size: int) -> dict[str, Array]:
    """Random inputs of one of the bundle's graphs."""
    rng = np.random.default_rng(batch * 100 + tokens)
    mask = np.ones((batch, tokens), np.float32)
    if file == "text_encoder.onnx":
        ids = rng.integers(0, len(WORDS), (batch, tokens))
        return {"token_ids": ids, "token_mask": mask}

    def image() -> Array:
        return rng.standard_normal((batch, 3, size, size)).astype(np.float32)

    values: dict[str, Array] = {
        "x_t": image(),
        "t": rng.random(batch).astype(np.float32),
        "context": rng.standard_normal((batch, tokens, WIDTH)).astype(np.float32),
        "context_mask": mask,
    }
    if file != "base.onnx":
        values["low_res"] = image()
        values["aug_level"] = rng.random(batch).astype(np.float32)
    return values


@pytest.mark.parametrize("file", ["text_encoder.onnx", "base.onnx", "sr16.onnx", "sr32.onnx"])
def test_answers_are_those_of_the_cpu(bundle: Bundle, cache: Path, file: str) -> None:
    """Every graph, several shapes, the first of them again at the end."""
    reference, engine = OrtEngine(bundle.read(file), threads=1), opened(bundle, file, cache)
    for shape in (*SHAPES, SHAPES[0]):
        values = inputs(file, *shape)
        expected, found = reference.run(values), engine.run(values)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, atol=TOLERANCE, rtol=TOLERANCE)
    engine.close()


def test_more_shapes_than_are_kept(bundle: Bundle, engine: Engine) -> None:
    """The oldest make room and come back."""
    reference = OrtEngine(bundle.read("sr16.onnx"), threads=1)
    for _ in range(2):
        for tokens in range(1, 8):
            values = inputs("sr16.onnx", 1, tokens, 64)
            np.testing.assert_allclose(
                engine.run(values)["prediction"],
                reference.run(values)["prediction"],
                atol=TOLERANCE,
                rtol=TOLERANCE,
            )


def test_an_input_changed_in_place_counts(bundle: Bundle, engine: Engine) -> None:
    """The copy to the card is skipped for what is unchanged and for nothing else."""
    reference = OrtEngine(bundle.read("sr16.onnx"), threads=1)
    values = inputs("sr16.onnx", 2, 5, 64)
    first = engine.run(values)["prediction"]
    kept = first.copy()
    values["low_res"] += 0.5
    values["context"] = values["context"].copy()
    second = engine.run(values)["prediction"]
    expected = reference.run(values)["prediction"]
    np.testing.assert_allclose(second, expected, atol=TOLERANCE, rtol=TOLERANCE)
    np.testing.assert_array_equal(first, kept)  # what was returned is the caller's
    assert np.abs(second - first).max() > TOLERANCE


@pytest.mark.parametrize("wrong", ["missing", "dtype", "shape"])
def test_wrong_inputs_are_errors(engine: Engine, wrong: str) -> None:
    """And the engine still works afterwards."""
    values = inputs("sr16.onnx", 1, 3, 64)
    bad = dict(values)
    if wrong == "missing":
        del bad["t"]
    elif wrong == "dtype":
        bad["t"] = bad["t"].astype(np.float64)
    else:
        bad["t"] = np.zeros(3, np.float32)
    with pytest.raises(EngineError):
        engine.run(bad)
    assert np.isfinite(engine.run(values)["prediction"]).all()


def test_terminate_ends_a_run_and_only_that(engine: Engine) -> None:
    """From another thread, at the step boundary; the next run answers."""
    values = inputs("sr16.onnx", 2, 5, 512)
    engine.run(values)
    engine.terminate()  # nothing runs: no effect on what comes
    engine.run(values)
    caught: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                engine.run(values)
        except Cancelled as exc:
            caught.append(exc)

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        engine.terminate()
    thread.join()
    assert len(caught) == 1
    assert np.isfinite(engine.run(values)["prediction"]).all()


def test_close_may_come_twice(bundle: Bundle, cache: Path) -> None:
    """And a run after it is an error of ours."""
    engine = opened(bundle, "base.onnx", cache)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.run(inputs("base.onnx", 1, 3, 64))


def pictures(bundle: Bundle, plan: EnginePlan, request: GenerateRequest) -> dict[str, ImageU8]:
    """Every stage's picture, made in this process."""
    answers = LocalAnswers(bundle, plan)
    try:
        return answers.images(request)
    finally:
        answers.close()


def test_every_component_may_run_on_the_card(bundle: Bundle, cache: Path) -> None:
    """Congruence: whichever components run there, pictures differ by rounding at most."""
    names = [component.name for component in bundle.manifest.components]
    request = GenerateRequest(prompt="a red apple, noto style", seed=3)
    expected = pictures(bundle, EnginePlan(threads=1), request)
    for cut in range(len(names) + 1):
        choice = EngineChoice(EngineKind.TENSORRT, Precision.FP32)
        choices: dict[str, Any] = dict.fromkeys(names[cut:], choice)
        found = pictures(bundle, EnginePlan(choices, cache=cache, threads=1), request)
        assert found.keys() == expected.keys()
        for name, image in found.items():
            apart = np.abs(image.astype(int) - expected[name].astype(int)).max()
            assert apart <= 2, f"{name} at cut {cut}"
        again = pictures(bundle, EnginePlan(choices, cache=cache, threads=1), request)
        for name, image in again.items():
            np.testing.assert_array_equal(image, found[name])
