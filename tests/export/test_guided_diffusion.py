"""Folders of guided-diffusion against pictures of its own library, on the same noise."""

from pathlib import Path

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.commands.cli import main
from cascade.diffusion.options import resolve_options
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import InvalidRequest, UnsupportedModel
from cascade.labels.spec import LabelEncoderSpec
from cascade.request import GenerateRequest
from export.adapters.command import ForeignSource, describe
from runtime_client.client import Client
from tests.support.described import psnr_of
from tests.support.guided_grid import (
    CLASSES,
    LABEL,
    RUN,
    SMALL,
    GuidedCase,
    guided_cases,
    our_pictures,
    write_case,
)
from tests.support.known_answers import known_answers, thinned
from tests.support.manifests import stages_of

ANSWERS = known_answers("guided_diffusion")
CASES = {case.name: case for case in guided_cases()}
NAMES = ("ant", "bee", "cat", "dog", "eel")


@pytest.mark.parametrize("name", list(ANSWERS))
def test_pictures_are_the_library_s(name: str, tmp_path: Path) -> None:
    """Every kept configuration, each stage on the same noise: 60 dB at least."""
    case = CASES[name]
    found = our_pictures(case, write_case(case, tmp_path))
    assert found.keys() == ANSWERS[name].keys()
    for stage, wanted in ANSWERS[name].items():
        assert wanted.std() > 1
        assert psnr_of([(thinned(found[stage]), wanted)]) >= 60


@pytest.mark.parametrize("case", [c for c in CASES.values() if c.refused], ids=lambda c: c.name)
def test_what_cannot_be_said_is_refused(case: GuidedCase, tmp_path: Path) -> None:
    """With the file and the flag or weight, before anything is exported."""
    folders = write_case(case, tmp_path)
    source = ForeignSource(kind="guided-diffusion", where=str(folders[0]), upscalers=folders[1:])
    with pytest.raises(UnsupportedModel) as refused:
        describe(source)
    assert refused.value.field is not None
    path, _, name = refused.value.field.rpartition(":")
    assert Path(path) in {f / n for f in folders for n in ("arguments.txt", "model.safetensors")}
    assert name == case.refused
    assert str(refused.value).startswith(f"{path}: {name}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arguments.txt": None}, "arguments.txt: this file is missing"),
        ({"arguments.txt": b"\xff"}, "arguments.txt: no flags"),
        ({"arguments.txt": b"image_size 16"}, "expected --name value, got 'image_size'"),
        ({"arguments.txt": b"--image_size 'a"}, "No closing quotation"),
        ({"model.safetensors": None}, "model.safetensors: this file is missing"),
        ({"model.safetensors": b"hello"}, "model.safetensors: no safetensors"),
        ({"model.safetensors": None, "model.pt": b"x"}, "pickled weights can run code"),
        ({"classes.txt": b"a\nb\n"}, "classes.txt: expected 5 lines"),
        ({"classes.txt": b"\xff"}, "classes.txt: no text"),
        ({"arguments.txt": b"--num_channels 32"}, "are they those that it was trained with?"),
    ],
)
def test_broken_folders_are_refused(
    tmp_path: Path, change: dict[str, bytes | None], words: str
) -> None:
    """Missing, empty, binary or pickled files: one line that names the file."""
    case = GuidedCase(name="c", flags=f"{SMALL}{RUN} --class_cond True")
    (folder,) = write_case(case, tmp_path)
    for name, data in change.items():
        (folder / name).unlink(missing_ok=True)
        if data is not None:
            (folder / name).write_bytes(data)
    with pytest.raises(UnsupportedModel, match=words):
        describe(ForeignSource(kind="guided-diffusion", where=str(folder)))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A class-conditional network with names for its classes, exported by the command."""
    root = tmp_path_factory.mktemp("guided")
    case = GuidedCase(name="c", flags=f"{SMALL}{RUN} --class_cond True --learn_sigma True")
    (folder,) = write_case(case, root)
    (folder / "classes.txt").write_text("\n".join(NAMES))
    arguments = ["export", "--from", "guided-diffusion", str(folder), "--out", str(root / "out")]
    assert main(arguments) == 0
    return open_bundle(root / "out")


def test_the_bundle_begins_with_a_class(bundle: Bundle) -> None:
    """A label encoder with the names, and a stage that reads its one-hot vector."""
    encoder = bundle.manifest.components[0]
    assert isinstance(encoder, LabelEncoderSpec)
    assert (encoder.classes, encoder.class_names, encoder.makes.width) == (5, NAMES, 5)
    (base,) = stages_of(bundle.manifest)
    assert (base.sampler, base.variance, base.timesteps, base.steps) == (
        "ddpm",
        "learned_range",
        (),
        4,
    )
    assert base.threshold.kind == "static"


def test_the_exported_bundle_draws_the_same_at_every_cut(bundle: Bundle, tmp_path: Path) -> None:
    """Private server or none: byte for byte what the described network draws."""
    case = GuidedCase(name="c", flags=f"{SMALL}{RUN} --class_cond True --learn_sigma True")
    wanted = our_pictures(case, write_case(case, tmp_path))["base"]
    drawn = []
    for cut in (0, 1, 2):
        with Client(bundle, cut=cut, threads=1) as client:
            drawn.append(client.run(GenerateRequest(label=LABEL, seed=11)).image)
    for picture in drawn[1:]:
        np.testing.assert_array_equal(picture, drawn[0])
    assert psnr_of([(drawn[0], wanted)]) >= 60


def test_guidance_without_its_other_half_is_refused(bundle: Bundle) -> None:
    """The network was never shown a question without a class: a weight would change nothing."""
    (base,) = stages_of(bundle.manifest)
    assert resolve_options(base, DiffusionOptions(guidance=1.0)).weight.at(0) == 1.0
    with pytest.raises(InvalidRequest, match="never shown the question without words or class"):
        resolve_options(base, DiffusionOptions(guidance=3.0))


def test_flags_of_other_adapters_are_refused(tmp_path: Path) -> None:
    """A text encoder has no place where a cascade begins with a class."""
    source = ForeignSource(kind="guided-diffusion", where=str(tmp_path), text_encoder=tmp_path)
    with pytest.raises(UnsupportedModel, match="--text-encoder goes with --from diffusers-if"):
        describe(source)
    assert CLASSES > LABEL
