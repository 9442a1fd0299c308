"""DeepFloyd-IF-style pipelines of the true classes against their bundles, on the same noise."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.commands.cli import main
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.schedule import TableSpec, make_schedule
from cascade.diffusion.spec import StoredContext, ThresholdSpec
from cascade.errors import InvalidRequest, UnsupportedModel
from cascade.events import StageFinished
from cascade.request import GenerateRequest, Handoff
from cascade.stage import Stage
from cascade.stage_factory import open_stages
from cascade.tuning.plan import EnginePlan
from export.adapters.command import ForeignSource, describe, export_foreign
from export.parity import pictures
from runtime_client.client import Client
from stages.evaluation.metrics import psnr_db
from tests.support.manifests import encoder_of, stages_of

pytest.importorskip("diffusers", reason="THE FOREIGN EXTRA IS MISSING: diffusers was not compared")
pytest.importorskip("sentencepiece", reason="THE FOREIGN EXTRA IS MISSING: no tiny tokenizer")

from diffusers import DPMSolverMultistepScheduler

from tests.support import tiny_if
from tests.support.foreign_pipelines import as_described, reference

LOW, HIGH = 8, 64
PROMPT = "  A red APPLE on a green chair "
"""Capitals and spaces at the ends: the pipelines take both away."""


@dataclass(frozen=True, slots=True)
class Pipelines:
    """Two pipelines and their folders."""

    base: Any
    upscaler: Any
    folders: tuple[Path, Path]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Pipelines:
    """Pipelines of 16 -> 64 pixels, saved as they are published: one folder each."""
    root = tmp_path_factory.mktemp("if")
    base, upscaler = tiny_if.base_pipeline(root / "words", LOW), tiny_if.upscaler_pipeline(HIGH)
    folders = root / "IF-I-tiny", root / "IF-II-tiny"
    base.save_pretrained(folders[0])
    upscaler.save_pretrained(folders[1])
    for pipeline in (base, upscaler):
        pipeline.set_progress_bar_config(disable=True)
    return Pipelines(base, upscaler, folders)


@pytest.fixture(scope="module")
def bundle(saved: Pipelines) -> Bundle:
    """Their bundle, written by the command."""
    stage_one, stage_two = map(str, saved.folders)
    out = saved.folders[0].parent / "bundle"
    arguments = ["--from", "diffusers-if", stage_one, "--upscaler", stage_two, "--out", str(out)]
    assert main(["export", *arguments]) == 0
    return open_bundle(out)


@pytest.fixture
def folders(saved: Pipelines, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of the two folders, to break."""
    copies = tmp_path / "I", tmp_path / "II"
    for source, copy in zip(saved.folders, copies, strict=True):
        shutil.copytree(source, copy)
    return copies


@pytest.mark.parametrize("steps", [(2, 1), (5, 3), (27, 10)])
def test_a_bundle_paints_what_the_pipelines_paint(
    saved: Pipelines, bundle: Bundle, steps: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole cascade with its default guidance, on the same noise: over 50 dB at both sizes."""
    options = {
        "base": DiffusionOptions(steps=steps[0]),
        f"sr{HIGH}": DiffusionOptions(steps=steps[1]),
    }
    request = GenerateRequest(prompt=PROMPT, seed=11, options=options)
    found = pictures(open_stages(bundle, range(3), EnginePlan(threads=1)), request)
    expected = reference((saved.base, saved.upscaler), request, monkeypatch)
    assert found.keys() == expected.keys()
    for name, image in found.items():
        assert expected[name].std() > 5
        assert psnr_db(image, expected[name]) > 50


def swapped(
    saved: Pipelines,
    bundle: Bundle,
    folders: tuple[Path, Path],
    make: Callable[[Any, float], Any],
) -> tuple[list[Any], list[Stage]]:
    """Both pipelines with another scheduler, and the stages that their folders describe.

    Args:
        saved: the pipelines as they were exported.
        bundle: theirs; its text encoder and null contexts are taken.
        folders: copies of their folders, changed.
        make: the scheduler of a pipeline and its cap to another scheduler.
    """
    pipelines = []
    for pipeline, folder, cap in zip(
        (saved.base, saved.upscaler), folders, (1.5, 1.0), strict=True
    ):
        changed = make(pipeline.scheduler, cap)
        changed.save_pretrained(folder / "scheduler")
        pipelines.append(type(pipeline)(**{**pipeline.components, "scheduler": changed}))
        pipelines[-1].set_progress_bar_config(disable=True)
    source = ForeignSource(kind="diffusers-if", where=str(folders[0]), upscalers=folders[1:])
    stages: list[Stage] = open_stages(bundle, [0], EnginePlan(threads=1))
    for position, stage in enumerate(describe(source).stages, start=1):
        stages.append(as_described(stage, position, bundle))
    return pipelines, stages


def test_a_run_that_ends_in_noise_ends_in_the_pipeline_s_noise(
    saved: Pipelines,
    bundle: Bundle,
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`fixed_large` above training step 0 at the end: over 50 dB; 46 dB without that noise."""
    noisy = {"variance_type": "fixed_large", "timestep_spacing": "leading", "steps_offset": 1}
    pipelines, stages = swapped(
        saved, bundle, folders, lambda _, cap: tiny_if.scheduler(cap, **noisy)
    )
    options = {"base": DiffusionOptions(steps=4), f"sr{HIGH}": DiffusionOptions(steps=3)}
    request = GenerateRequest(prompt=PROMPT, seed=7, options=options)
    found = pictures(stages, request)
    expected = reference((pipelines[0], pipelines[1]), request, monkeypatch)
    for name, image in found.items():
        assert psnr_db(image, expected[name]) > 50


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_solver_that_users_swap_in_is_the_pipeline_s(
    saved: Pipelines,
    bundle: Bundle,
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DPM-Solver++ (2M) made of the published configuration: over 60 dB at both sizes."""
    pipelines, stages = swapped(
        saved, bundle, folders, lambda old, _: DPMSolverMultistepScheduler.from_config(old.config)
    )
    options = {"base": DiffusionOptions(steps=6), f"sr{HIGH}": DiffusionOptions(steps=4)}
    request = GenerateRequest(prompt=PROMPT, seed=7, options=options)
    found = pictures(stages, request)
    expected = reference((pipelines[0], pipelines[1]), request, monkeypatch)
    for name, image in found.items():
        assert expected[name].std() > 5
        assert psnr_db(image, expected[name]) > 60, psnr_db(image, expected[name])


def test_the_bundle_runs_through_the_real_split(bundle: Bundle) -> None:
    """Base here, super-resolution on a private server: byte for byte the picture of one process."""
    options = {"base": DiffusionOptions(steps=3), f"sr{HIGH}": DiffusionOptions(steps=2)}
    request = GenerateRequest(prompt="two cats", seed=4, options=options)
    alone = pictures(open_stages(bundle, range(3), EnginePlan(threads=1)), request)
    with Client(bundle, cut=2, threads=1) as client:
        result = client.run(request)
    np.testing.assert_array_equal(result.image, alone[f"sr{HIGH}"])


def test_the_manifest_holds_what_the_pipelines_decide(bundle: Bundle) -> None:
    """Variance, thresholds, guidance, steps, noise level, enlarging, padding: all are entries."""
    encoder = encoder_of(bundle.manifest)
    assert (encoder.max_tokens, encoder.pad_token) == (77, 0)
    base, upscaler = stages_of(bundle.manifest)
    assert (base.name, upscaler.name) == ("base", f"sr{HIGH}")
    for spec, steps, weight, cap in ((base, 100, 7.0, 1.5), (upscaler, 50, 4.0, 1.0)):
        assert (spec.prediction, spec.variance, spec.sampler) == (
            "epsilon",
            "learned_range",
            "ddpm",
        )
        assert (spec.steps, spec.guidance.weight) == (steps, weight)
        assert spec.threshold == ThresholdSpec(kind="dynamic", percentile=0.95, cap=cap)
        assert spec.null_context == StoredContext(file=f"{spec.name}.null", tokens=77)
        assert [output.name for output in spec.graph.outputs] == ["prediction", "variance"]
        assert "context_mask" not in [tensor.name for tensor in spec.graph.inputs]
    assert base.augmentation is None
    assert upscaler.augmentation is not None
    assert upscaler.augmentation.default == 251 / 1000
    assert upscaler.augmentation.lowest == 1 / 1000
    assert upscaler.enlarge == "bilinear_corners"


def test_the_schedule_is_the_scheduler_s_own_numbers(saved: Pipelines, bundle: Bundle) -> None:
    """Tabulated in single precision as diffusers holds them, and spaced as it spaces them."""
    spec = stages_of(bundle.manifest)[0]
    assert isinstance(spec.schedule, TableSpec)
    scheduler = saved.base.scheduler
    np.testing.assert_array_equal(spec.schedule.alpha_bar, scheduler.alphas_cumprod.numpy())
    for steps in (1, 7, 27, 100, 1000):
        scheduler.set_timesteps(steps)
        times = make_schedule(spec.schedule).timesteps(steps)
        np.testing.assert_allclose(times[:-1] * 1000 - 1, scheduler.timesteps.numpy(), atol=1e-9)


@pytest.mark.parametrize("prompt", [PROMPT, "", "zebra, QUARTZ!", "a\tcat  in\na box"])
def test_contexts_are_the_pipeline_s(saved: Pipelines, bundle: Bundle, prompt: str) -> None:
    """Cleaning, tokens, padding and embeddings as `encode_prompt` makes them, all 77 rows."""
    stage = open_stages(bundle, [0], EnginePlan(threads=1))[0]
    *_, last = stage.run(GenerateRequest(), Handoff(prompt=prompt))
    assert isinstance(last, StageFinished)
    expected = saved.base.encode_prompt(prompt, clean_caption=False)[0][0].numpy()
    found = last.handoff.context
    assert found is not None
    assert found.shape == (77, tiny_if.WIDTH)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    if not prompt:
        stored = np.frombuffer(bundle.read("base.null"), "<f2").reshape(77, -1)
        np.testing.assert_array_equal(found, stored)


def test_a_prompt_beyond_77_tokens_is_refused(bundle: Bundle) -> None:
    """The pipeline cuts it with a warning; here nothing is cut silently."""
    stage = open_stages(bundle, [0], EnginePlan(threads=1))[0]
    with pytest.raises(InvalidRequest, match="at most 77"):
        list(stage.run(GenerateRequest(), Handoff(prompt="cat " * 100)))


def test_lists_of_steps_become_the_default_run(saved: Pipelines) -> None:
    """A list of diffusers' by its name: as many steps, and those."""
    source = ForeignSource(
        kind="diffusers-if",
        where=str(saved.folders[0]),
        upscalers=saved.folders[1:],
        timesteps={"base": "smart27", f"sr{HIGH}": "fast27"},
    )
    base, upscaler = describe(source).stages
    assert (base.steps, upscaler.steps) == (27, 27)
    assert base.timesteps[:3] == (999, 976, 952)
    assert upscaler.timesteps[:3] == (999, 800, 799)
    for wrong in ({"base": "smart28"}, {"sr1024": "smart27"}):
        with pytest.raises(UnsupportedModel, match="no such") as caught:
            describe(replace(source, timesteps=wrong))
        assert caught.value.field == "timesteps"


def edited(path: Path, **fields: object) -> None:
    """Change fields of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


JSON_EDITS = {
    "pipeline": ("I/model_index.json", "_class_name", "StableDiffusionPipeline"),
    "unet_class": ("I/model_index.json", "unet", ["diffusers", "UNet2DModel"]),
    "encoder_class": ("I/model_index.json", "text_encoder", ["transformers", "CLIPTextModel"]),
    "label": ("II/unet/config.json", "class_embed_type", "projection"),
    "channels": ("I/unet/config.json", "in_channels", 4),
    "outputs": ("I/unet/config.json", "out_channels", 3),
    "image_condition": ("I/unet/config.json", "addition_embed_type", "image"),
    "no_size": ("I/unet/config.json", "sample_size", [16, 24]),
    "size": ("II/unet/config.json", "sample_size", 44),
    "scheduler": ("I/scheduler/scheduler_config.json", "_class_name", "EulerDiscreteScheduler"),
    "variance": ("I/scheduler/scheduler_config.json", "variance_type", "learned"),
    "prediction": ("I/scheduler/scheduler_config.json", "prediction_type", "flow"),
    "noise_level": (
        "II/image_noising_scheduler/scheduler_config.json",
        "num_train_timesteps",
        250,
    ),
    "unknown": ("II/image_noising_scheduler/scheduler_config.json", "shift", 3.0),
    "spacing": ("I/scheduler/scheduler_config.json", "timestep_spacing", "trailing"),
    "model_type": ("I/text_encoder/config.json", "model_type", "clip"),
    "other_model_type": ("I/text_encoder/config.json", "model_type", "umt5"),
    "remote_code": ("I/text_encoder/config.json", "auto_map", {"AutoModel": "evil.Model"}),
}


@pytest.mark.parametrize("name", JSON_EDITS)
def test_what_a_manifest_cannot_say_is_refused(folders: tuple[Path, Path], name: str) -> None:
    """The error names the file and the field, and what would be supported."""
    place, field, value = JSON_EDITS[name]
    path = folders[0].parent / place
    edited(path, **{field: value})
    source = ForeignSource(kind="diffusers-if", where=str(folders[0]), upscalers=folders[1:])
    with pytest.raises(UnsupportedModel, match=field) as caught:
        describe(source)
    assert caught.value.field == f"{path}:{field}"


def test_one_size_may_be_said_twice(folders: tuple[Path, Path]) -> None:
    """Height and width as a list, which diffusers allows, are one size where they are the same."""
    edited(folders[0] / "unet" / "config.json", sample_size=[LOW, LOW])
    described = describe(ForeignSource(kind="diffusers-if", where=str(folders[0])))
    assert described.stages[0].output_resolution == LOW


def test_a_default_run_that_cannot_be_made_is_refused(folders: tuple[Path, Path]) -> None:
    """A hundred steps of a schedule of fifty, or an offset beyond its end, in diffusers as here."""
    path = folders[0] / "scheduler" / "scheduler_config.json"
    source = ForeignSource(kind="diffusers-if", where=str(folders[0]))
    for fields in (
        {"num_train_timesteps": 50},
        {"variance_type": "fixed_small", "steps_offset": 200},
    ):
        edited(path, **fields)
        with pytest.raises(UnsupportedModel, match="the default run cannot be made") as caught:
            describe(source)
        assert caught.value.field == "base.steps"


def pickled(folder: Path) -> Path:
    """Replace the U-Net's safetensors by a pickle."""
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    weights.with_suffix(".bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    return weights.with_suffix(".bin")


def removed(place: str) -> Callable[[Path], Path]:
    """Remove a file."""

    def act(folder: Path) -> Path:
        (folder / place).unlink()
        return folder / place

    return act


def with_code(folder: Path) -> Path:
    """Add a Python file."""
    (folder / "pipeline.py").write_text("raise SystemExit('ran')")
    return folder / "pipeline.py"


def not_json(folder: Path) -> Path:
    """Break the index."""
    (folder / "model_index.json").write_text("[1]")
    return folder / "model_index.json"


@pytest.mark.parametrize(
    "act",
    [
        pickled,
        with_code,
        not_json,
        removed("unet/diffusion_pytorch_model.safetensors"),
        removed("unet/config.json"),
        removed("scheduler/scheduler_config.json"),
        removed("model_index.json"),
    ],
    ids=["pickle", "code", "json", "weights", "config", "scheduler", "index"],
)
def test_files_that_are_missing_or_could_run_are_refused(
    folders: tuple[Path, Path], act: Callable[[Path], Path]
) -> None:
    """Named by their path, before a library of others opens the folder."""
    path = act(folders[0])
    with pytest.raises(UnsupportedModel) as caught:
        describe(ForeignSource(kind="diffusers-if", where=str(folders[0])))
    assert str(path) in str(caught.value)
    assert caught.value.field == str(path)


def without(path: Path, part: str) -> str:
    """Take one weight out of a safetensors file; its name."""
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    name = next(name for name in weights if part in name)
    del weights[name]
    save_file(weights, path, metadata={"format": "pt"})
    return name


@pytest.mark.parametrize(
    ("place", "part"),
    [
        ("unet/diffusion_pytorch_model.safetensors", "conv_in"),
        ("text_encoder/model.safetensors", ".q."),
    ],
)
def test_a_weight_that_is_missing_is_not_made_up(
    folders: tuple[Path, Path], place: str, part: str
) -> None:
    """Both libraries would fill it with random numbers; the error names it."""
    path = folders[0] / place
    name = without(path, part)
    with pytest.raises(UnsupportedModel, match="would be random") as caught:
        describe(ForeignSource(kind="diffusers-if", where=str(folders[0])))
    assert caught.value.field == f"{path.parent}:{name}"


def cut_short(path: Path) -> None:
    """Keep the first thousand bytes of a file."""
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    "breaking",
    [
        lambda folder: cut_short(folder / "unet" / "diffusion_pytorch_model.safetensors"),
        lambda folder: edited(folder / "unet" / "config.json", down_block_types=["Nothing", "No"]),
        lambda folder: edited(folder / "unet" / "config.json", block_out_channels=[16, 64]),
        lambda folder: cut_short(folder / "text_encoder" / "model.safetensors"),
        lambda folder: edited(folder / "text_encoder" / "config.json", d_model=64),
    ],
    ids=["unet_cut", "unet_blocks", "unet_widths", "encoder_cut", "encoder_width"],
)
def test_a_network_that_cannot_be_made_is_a_typed_error(
    folders: tuple[Path, Path], breaking: Callable[[Path], None]
) -> None:
    """The component's folder is named, not a line of another library's code."""
    breaking(folders[0])
    with pytest.raises(UnsupportedModel, match=r"can be made of config\.json") as caught:
        describe(ForeignSource(kind="diffusers-if", where=str(folders[0])))
    assert Path(caught.value.field).parent == folders[0]


def test_a_text_encoder_of_another_width_is_refused(saved: Pipelines, tmp_path: Path) -> None:
    """Before anything is exported, naming the field of the stage that reads it."""
    wide = tiny_if.text_encoder(width=48)
    wide.save_pretrained(tmp_path)
    saved.base.tokenizer.save_pretrained(tmp_path)
    source = ForeignSource(kind="diffusers-if", where=str(saved.folders[0]), text_encoder=tmp_path)
    with pytest.raises(UnsupportedModel, match="the text encoder's 48") as caught:
        describe(source)
    assert caught.value.field == f"{saved.folders[0] / 'unet' / 'config.json'}:encoder_hid_dim"


def test_the_same_upscaler_twice_is_refused(saved: Pipelines) -> None:
    """Two stages of one name have no place in a bundle: said before the first is exported."""
    upscalers = (saved.folders[1], saved.folders[1])
    source = ForeignSource(kind="diffusers-if", where=str(saved.folders[0]), upscalers=upscalers)
    with pytest.raises(UnsupportedModel, match=f"two stages are called sr{HIGH}") as caught:
        describe(source)
    assert caught.value.field == "stages"


def test_what_is_no_bundle_is_not_replaced(saved: Pipelines, tmp_path: Path) -> None:
    """A folder of pictures named as --out by mistake stays, and a file does."""
    (tmp_path / "cat.png").write_bytes(b"meow")
    source = ForeignSource(kind="diffusers-if", where=str(saved.folders[0]))
    for out in (tmp_path, tmp_path / "cat.png", Path()):
        with pytest.raises(InvalidRequest, match="name a new") as caught:
            export_foreign(source, out, report=print)
        assert caught.value.field == "out"
    assert (tmp_path / "cat.png").read_bytes() == b"meow"


def test_a_folder_that_is_not_here_is_not_fetched(tmp_path: Path) -> None:
    """A hub name is no folder: nothing is downloaded."""
    with pytest.raises(UnsupportedModel, match="not a folder on this machine"):
        describe(ForeignSource(kind="diffusers-if", where="DeepFloyd/IF-I-M-v1.0"))
