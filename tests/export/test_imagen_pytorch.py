"""Folders of imagen-pytorch against pictures of the library itself, on the same noise."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cascade.diffusion.denoiser import Estimate
from cascade.diffusion.samplers.choice import SamplerInputs, sample
from cascade.diffusion.samplers.ddpm import posterior_mean
from cascade.diffusion.schedule import TableSpec, make_schedule
from cascade.errors import UnsupportedModel
from cascade.numerics.noise import normals
from cascade.types import Batch, PerSample
from examples.my_cascade import tokenizer
from export.adapters.command import ForeignSource, describe
from export.adapters.imagen_pytorch import describe_imagen
from export.bundle_writer import write_cascade
from export.description import TextEncoderDescription
from tests.support.described import psnr_of
from tests.support.imagen_grid import (
    WIDTH,
    ImagenCase,
    encoder_of_width,
    imagen_cases,
    our_imagen,
    write_imagen,
)
from tests.support.known_answers import known_answers, thinned

ANSWERS = known_answers("imagen_pytorch")
CASES = {case.name: case for case in imagen_cases()}


@pytest.mark.parametrize("name", list(ANSWERS))
def test_pictures_are_the_library_s(name: str, tmp_path: Path) -> None:
    """Every kept configuration, each stage on the same noise: 55 dB at least."""
    case = CASES[name]
    found = our_imagen(case, write_imagen(case, tmp_path))
    assert found.keys() == ANSWERS[name].keys()
    for stage, wanted in ANSWERS[name].items():
        assert wanted.std() > 1
        assert psnr_of([(thinned(found[stage]), wanted)]) >= 55


@pytest.mark.parametrize("case", [c for c in CASES.values() if c.refused], ids=lambda c: c.name)
def test_what_cannot_be_said_is_refused(case: ImagenCase, tmp_path: Path) -> None:
    """With the file and the field or weight, before anything is exported."""
    folder = write_imagen(case, tmp_path)
    with pytest.raises(UnsupportedModel) as refused:
        describe_imagen(folder, encoder_of_width(case.texts))
    path, _, name = str(refused.value.field).rpartition(":")
    assert Path(path) in {folder / "arguments.json", folder / "model.safetensors"}
    assert name == case.refused
    assert str(refused.value).startswith(f"{path}: {name}")


def test_words_need_an_encoder_and_an_encoder_words(tmp_path: Path) -> None:
    """Both are named where one is missing."""
    folder = write_imagen(CASES["base 0"], tmp_path)
    with pytest.raises(UnsupportedModel, match="condition_on_text is True: give the T5 encoder"):
        describe(ForeignSource(kind="imagen-pytorch", where=str(folder)))
    arguments = json.loads((folder / "arguments.json").read_text())
    (folder / "arguments.json").write_text(json.dumps({**arguments, "condition_on_text": False}))
    with pytest.raises(UnsupportedModel, match="cond_scale"):
        describe_imagen(folder, encoder_of_width(WIDTH))


class Words(nn.Module):
    """A row of a table per word."""

    def __init__(self) -> None:
        """Seven words."""
        super().__init__()
        self.table = nn.Embedding.from_pretrained(
            torch.from_numpy(normals((7, WIDTH), seed=1, image=0, stage=0, step=0))
        )

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        """`[B, L, WIDTH]`."""
        rows: Tensor = self.table(token_ids)
        return rows * token_mask[:, :, None]


def test_a_network_with_words_is_exported_and_proven(tmp_path: Path) -> None:
    """Texts of any length, rows together and alone, and the whole cascade, by the exporter."""
    case = ImagenCase(
        name="exported",
        imagen={"image_sizes": [8], "timesteps": 4, "sample": {"cond_scale": 2.0}},
        # One level: torch takes seconds for each, and the other cases have more.
        unets=({"memory_efficient": True, "dim_mults": [2]},),
    )
    encoder = TextEncoderDescription(
        network=Words().eval(),
        tokenizer=tokenizer(),
        max_tokens=16,
        context_width=WIDTH,
        provenance="a table of seven words",
    )
    lines: list[str] = []
    described = describe_imagen(write_imagen(case, tmp_path), encoder)
    manifest = write_cascade(described, tmp_path / "out", report=lines.append)
    assert [spec.name for spec in manifest.components] == ["text_encoder", "base"]
    assert any(line.startswith("end to end    base") for line in lines)


def test_the_last_step_ends_at_the_posterior_s_mean() -> None:
    """Time 0 keeps a little noise: of a thousand steps the last one is mostly the noisy image."""
    spec = TableSpec(alpha_bar=(0.99, 0.5), spacing="trailing", at_zero=0.999)
    schedule = make_schedule(spec)
    start = normals((1, 3, 4, 4), seed=3, image=0, stage=0, step=0)
    clean = np.full_like(start, 0.25)

    def denoise(x_t: Batch, t: PerSample) -> Estimate:
        del x_t, t
        return Estimate(clean.copy())

    inputs = SamplerInputs(
        denoise=lambda _: denoise,
        start=start,
        schedule=schedule,
        times=schedule.timesteps(2),
        noise=lambda step: normals(start.shape, seed=3, image=0, stage=0, step=10 + step),
        gamma=0.0,
    )
    plain, ended = (list(sample(kind, inputs)) for kind in ("ddpm", "ddpm_final_mean"))
    np.testing.assert_array_equal(plain[0].x_t, ended[0].x_t)
    np.testing.assert_array_equal(plain[1].x_t, clean)
    mean = posterior_mean(schedule, 0.5, 0.0)
    added = 1 - (0.99 / 0.01) / (0.999 / 0.001)
    assert mean.from_x0 == pytest.approx(np.sqrt(0.999) * added)
    expected = mean.from_x0 * clean + mean.from_x_t * ended[0].x_t
    np.testing.assert_allclose(ended[1].x_t, expected, rtol=1e-5, atol=1e-6)
