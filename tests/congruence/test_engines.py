"""What is promised between engines, on the reference bundle in float32, for every one installed.

The same engine makes the same pixels whatever its number of threads; another one makes the same
picture but for rounding. Everything outside the engines is the same (`tests/cascade/
test_same_bits.py`).
"""

from pathlib import Path

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.engines.factory import EngineKind, installed_kinds
from cascade.request import GenerateRequest
from cascade.tuning.options import parse_engine_options
from cascade.tuning.plan import plan_here
from cascade.types import ImageU8
from tests.congruence.children import LocalAnswers
from tests.support.manifests import stages_of

FOLDER = Path(__file__).resolve().parents[2] / "bundles" / "emoji-1"
FEWEST_DB = 70.0
"""At the last stage: docs/explanation/split-inference.md. A level in each tenth value: 58."""
KINDS = [kind for kind in installed_kinds() if kind in (EngineKind.ORT, EngineKind.OPENVINO)]
PROMPTS = ("a red apple, noto style", "a smiling cat, fluent style", "two hearts")

pytestmark = pytest.mark.skipif(
    not (FOLDER / "manifest.json").is_file(),
    reason="bundles/emoji-1 IS MISSING: engines were not compared",
)


@pytest.fixture(scope="module")
def reference() -> Bundle:
    """The bundle that lies in the repository."""
    return open_bundle(FOLDER)


def pictures(bundle: Bundle, kind: EngineKind, threads: int) -> list[dict[str, ImageU8]]:
    """Every stage's picture of every prompt: few steps, all in float32 on one engine."""
    plan = plan_here(bundle.manifest, parse_engine_options(kind.value, "fp32", threads))
    options = {
        component.name: DiffusionOptions(steps=2 if component.low is None else 1)
        for component in stages_of(bundle.manifest)
    }
    answers = LocalAnswers(bundle, plan)
    try:
        return [
            answers.images(GenerateRequest(prompt=prompt, seed=seed, options=options))
            for seed, prompt in enumerate(PROMPTS)
        ]
    finally:
        answers.close()


@pytest.fixture(scope="module")
def one_thread(reference: Bundle) -> dict[EngineKind, list[dict[str, ImageU8]]]:
    """The pictures of every engine on one thread."""
    return {kind: pictures(reference, kind, 1) for kind in KINDS}


def db(image: ImageU8, other: ImageU8) -> float:
    """How near two pictures are; infinite where they are equal."""
    error = float(np.mean((image.astype(np.float64) - other) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_engine_makes_the_same_pixels(
    reference: Bundle, one_thread: dict[EngineKind, list[dict[str, ImageU8]]], kind: EngineKind
) -> None:
    """Opened again, on two threads: byte for byte, at every stage."""
    again = pictures(reference, kind, 2)
    for found, expected in zip(again, one_thread[kind], strict=True):
        assert found.keys() == expected.keys()
        for name, image in found.items():
            np.testing.assert_array_equal(image, expected[name], err_msg=name)


@pytest.mark.parametrize("kind", KINDS[1:] or [pytest.param(None, marks=pytest.mark.skip)])
def test_another_engine_makes_the_same_picture(
    one_thread: dict[EngineKind, list[dict[str, ImageU8]]], kind: EngineKind
) -> None:
    """Its last stage is as near as the documents promise."""
    for found, expected in zip(one_thread[kind], one_thread[KINDS[0]], strict=True):
        last = list(found)[-1]
        assert found[last].shape == (1024, 1024, 3)
        assert db(found[last], expected[last]) >= FEWEST_DB
