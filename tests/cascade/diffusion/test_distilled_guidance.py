"""Students of guidance: asked once a step with the weight, and held to what they were taught."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cascade.bundle.manifest import read_manifest, write_manifest
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.spec import DiffusionSpec
from cascade.diffusion.stage import DiffusionStage
from cascade.errors import InvalidRequest, ManifestError
from cascade.events import StageFinished
from cascade.graph_spec import NET, TensorSpec
from cascade.request import GenerateRequest, Handoff
from cascade.types import Array, ImageU8
from tests.support.manifests import stages_of, with_stages
from tests.support.tiny_bundle import WIDTH, write_tiny_bundle

GUIDANCE = TensorSpec(name="guidance", dtype="float32", shape=("batch",))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> DiffusionSpec:
    """The tiny bundle's base stage."""
    return stages_of(write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny").manifest)[0]


def taught(spec: DiffusionSpec, low: float = 1.0, high: float = 5.0) -> DiffusionSpec:
    """The same stage as a student of guidance."""
    return replace(
        spec,
        guidance=replace(spec.guidance, weight=2.0, taught=(low, high)),
        graphs={NET: replace(spec.graph, inputs=(*spec.graph.inputs, GUIDANCE))},
    )


class Pair:
    """A network linear in all it sees: with text it says one thing, without it another."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def answer(self, inputs: Mapping[str, Array]) -> Array:
        """`0.3 x_t + 0.1`, and `0.2 x_t` where every token is masked out."""
        present = inputs["context_mask"].max(axis=1)[:, None, None, None]
        x_t = inputs["x_t"]
        return np.asarray(present * (0.3 * x_t + 0.1) + (1 - present) * 0.2 * x_t, np.float32)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The answer, and a note of how many rows it was asked."""
        self.rows.append(len(inputs["x_t"]))
        return {"prediction": self.answer(inputs)}

    def terminate(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing is held."""


class Student(Pair):
    """The network that answers as the guided pair, in one row."""

    def answer(self, inputs: Mapping[str, Array]) -> Array:
        """`uncond + w (cond - uncond)`."""
        without = super().answer({**inputs, "context_mask": 0 * inputs["context_mask"]})
        weight = inputs["guidance"][:, None, None, None]
        return np.asarray(without + weight * (super().answer(inputs) - without), np.float32)


def pictures_of(stage: DiffusionStage, weight: float | None) -> ImageU8:
    """The stage's picture at that weight."""
    options = {stage.names[0]: DiffusionOptions(guidance=weight, steps=4)}
    handoff = Handoff(context=np.ones((3, WIDTH), np.float16))
    for event in stage.run(GenerateRequest(options=options), handoff):
        if isinstance(event, StageFinished) and event.handoff.image is not None:
            return event.handoff.image
    raise AssertionError("no picture")


@pytest.mark.parametrize("weight", [1.0, 2.5, 5.0])
def test_a_student_paints_what_the_pair_paints_for_half_the_rows(
    base: DiffusionSpec, weight: float
) -> None:
    """One row a step where guidance takes two, and the same picture to a rounding."""
    pair, student = Pair(), Student()
    theirs = pictures_of(DiffusionStage(base, 1, pair), weight)
    mine = pictures_of(DiffusionStage(taught(base), 1, student), weight)
    assert np.abs(theirs.astype(int) - mine).max() <= 1
    assert student.rows == [1] * 4
    assert pair.rows == [1 if weight == 1.0 else 2] * 4


def test_the_weight_reaches_the_network(base: DiffusionSpec) -> None:
    """Another weight, another picture; none asked for is the manifest's default."""
    stage = DiffusionStage(taught(base), 1, Student())
    assert not np.array_equal(pictures_of(stage, 1.0), pictures_of(stage, 4.0))
    np.testing.assert_array_equal(pictures_of(stage, None), pictures_of(stage, 2.0))


@pytest.mark.parametrize("weight", [0.5, 5.5])
def test_a_weight_that_was_not_taught_is_refused(base: DiffusionSpec, weight: float) -> None:
    """The error names the option and the range."""
    with pytest.raises(InvalidRequest, match="was taught 1 to 5") as caught:
        pictures_of(DiffusionStage(taught(base), 1, Student()), weight)
    assert caught.value.field == f"options.{base.name}.guidance"


@pytest.mark.parametrize("fault", ["no input", "no range", "one number", "default outside"])
def test_a_manifest_that_contradicts_itself(tmp_path: Path, fault: str) -> None:
    """Input, range and default belong together."""
    manifest = write_tiny_bundle(tmp_path / "tiny").manifest
    good = taught(stages_of(manifest)[0])
    bad = {
        "no input": replace(good, graphs={NET: stages_of(manifest)[0].graph}),
        "no range": replace(good, guidance=replace(good.guidance, taught=())),
        "one number": replace(good, guidance=replace(good.guidance, taught=(1.0,))),
        "default outside": replace(good, guidance=replace(good.guidance, weight=9.0)),
    }[fault]
    text = write_manifest(with_stages(manifest, (good, *stages_of(manifest)[1:])))
    assert stages_of(read_manifest(text.encode()))[0].guidance.taught == (1.0, 5.0)
    with pytest.raises(ManifestError, match=r"guidance\.taught"):
        with_stages(manifest, (bad, *stages_of(manifest)[1:]))
