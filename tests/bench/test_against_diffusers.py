"""A pipeline of diffusers from a folder, as another system of a run."""

import argparse
from pathlib import Path

import numpy as np
import pytest

from bench.cli import other_system
from bench.flags import plan_of
from bench.run import Benchmark, BenchmarkRun, RunPlan
from bench.systems.other_systems import open_other
from bench.table import as_text
from bench.workload import WorkItem
from cascade.commands.cli import build_parser
from cascade.errors import InvalidRequest
from tests.bench.fake_system import WORKLOAD, FakeSystem
from tests.support.tiny_bundle import write_tiny_bundle

STEPS = 3


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of DeepFloyd's stage I in miniature, 8 pixels, as `--against` names it."""
    pytest.importorskip("diffusers")
    from tests.support.tiny_if import base_pipeline

    folder = tmp_path_factory.mktemp("if")
    base_pipeline(folder / "tokenizer", 8).save_pretrained(folder / "pipeline")
    return f"diffusers:{folder / 'pipeline'}"


@pytest.mark.torch
def test_a_pipeline_takes_the_steps_asked_for(text: str) -> None:
    """Not the hundred of its own default; one picture per request, by its seed."""
    system, drawn = open_other(text, 1.0, STEPS), []
    unet = system._pipeline.unet  # type: ignore[attr-defined]
    calls = []
    unet.register_forward_hook(lambda *_: calls.append(1))
    for seed in (1, 1, 2):
        outcome = system.run(WorkItem("a red apple", seed), lambda _, image: drawn.append(image))
        assert list(outcome.hops) == ["text_encoder", "unet"]
        assert min(outcome.hops.values()) > 0
    assert len(calls) == 3 * STEPS
    assert (drawn[0].shape, drawn[0].dtype) == ((8, 8, 3), np.uint8)
    np.testing.assert_array_equal(drawn[1], drawn[0])
    assert (drawn[2] != drawn[0]).any()


@pytest.mark.torch
def test_a_pipeline_takes_turns_and_its_pictures_are_not_compared(text: str) -> None:
    """The same schema as of any other system, with its networks as hops; all of it is said."""
    plan = RunPlan(requests=2, warm_up=0, cold=0, repeats=0, check=0)
    benchmark = Benchmark(
        open_system=FakeSystem, workload=WORKLOAD, plan=plan, local=None, say=lambda _: None,
        against=lambda: open_other(text, 1.0, 1),
    )  # fmt: skip
    run = BenchmarkRun(benchmark)
    run.run()
    against = run.record["against"]
    about = {key: against["system"][key] for key in ("kind", "pipeline", "scheduler", "steps")}
    assert about == {
        "kind": "diffusers", "pipeline": "IFPipeline", "scheduler": "DDPMScheduler", "steps": 1,
    }  # fmt: skip
    assert list(against["measured"]["hops"]) == ["text_encoder", "unet", "residual"]
    assert against["pictures_compared"] is False
    assert f"{text}: times compared, pictures not" in as_text(run.record)


@pytest.mark.parametrize(("told", "steps"), [([], 4), (["--against-steps", "7"], 7)])
def test_steps_are_those_of_the_first_stage_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: list[str], steps: int
) -> None:
    """The same request: as many evaluations as the bundle's base stage takes."""
    bundle = write_tiny_bundle(tmp_path / "tiny", steps=4)
    asked = []
    monkeypatch.setattr(
        "bench.systems.other_systems.DiffusersSystem", lambda _, steps: asked.append(steps)
    )
    opens = other_system(flags(*told), bundle.manifest)
    assert opens is not None
    assert asked == [steps]


def flags(*words: str) -> argparse.Namespace:
    """Of `bench run` against some folder."""
    command = ["bench", "run", "-o", "x", "--against", "diffusers:folder", *words]
    return build_parser(["bench"]).parse_args(command)


def test_a_number_of_steps_has_bounds() -> None:
    """As those of a request."""
    with pytest.raises(InvalidRequest, match="against-steps: expected 0 to 1000"):
        plan_of(flags("--against-steps", "1001"))


@pytest.mark.parametrize("name", ["diffusers:.", "diffusers:someone/model"])
def test_a_folder_without_a_pipeline_is_refused(name: str, tmp_path: Path) -> None:
    """And nothing is looked up elsewhere."""
    with pytest.raises(InvalidRequest, match="is no folder of a pipeline"):
        open_other(name, 1.0, 1)
