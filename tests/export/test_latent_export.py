"""A cascade of latents of one's own modules, exported: proven, and the same at every cut."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cascade.boundary import Context, Image
from cascade.boundary import Tensor as Latent
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.diffusion.spec import AugmentationSpec, ThresholdSpec
from cascade.errors import UnsupportedModel
from cascade.graph_spec import NET, PICTURE_DB
from cascade.precision import Precision
from cascade.request import GenerateRequest
from examples.my_cascade import WIDTH, WordEncoder, tokenizer
from export.bundle_writer import check_prompts, write_cascade
from export.components.component import ExportOptions
from export.description import (
    AutoencoderDescription,
    CascadeDescription,
    StageDescription,
    TextEncoderDescription,
)
from runtime_client.client import Client
from stages.evaluation.metrics import psnr_db
from tests.support.serving import running

LATENT = 5
"""Channels."""


class Words(nn.Module):
    """A latent of words, and of what else is shown."""

    def __init__(self, shown: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(LATENT + shown, LATENT, 3, padding=1)
        self.tint = nn.Linear(WIDTH, LATENT)

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        context: Tensor,
        context_mask: Tensor,
        low_res: Tensor | None = None,
        aug_level: Tensor | None = None,
    ) -> Tensor:
        """The clean latent that it expects, `[B, 5, H, W]`."""
        late = t if aug_level is None else t + aug_level
        seen = x_t if low_res is None else torch.cat([x_t, low_res], dim=1)
        words = self.tint((context * context_mask[:, :, None]).sum(1)) - late[:, None]
        return torch.tanh(self.mix(seen) + words[:, :, None, None])


class Half(nn.Module):
    """One half of an autoencoder of 2x2 pixels a number."""

    def __init__(self, *, encodes: bool) -> None:
        super().__init__()
        taken, made = (3, LATENT) if encodes else (LATENT, 3)
        self.resize = nn.PixelUnshuffle(2) if encodes else nn.PixelShuffle(2)
        self.first = nn.Identity() if not encodes else self.resize
        self.last = self.resize if not encodes else nn.Identity()
        self.mix = nn.Conv2d(taken * (4 if encodes else 1), made * (1 if encodes else 4), 1)

    def turned(self, planes: Tensor) -> Tensor:
        """The other side of the autoencoder."""
        return torch.tanh(self.last(self.mix(self.first(planes))))


class Encoder(Half):
    """A picture to a latent."""

    def forward(self, picture: Tensor) -> Tensor:
        """`[B, 3, H, W]` to `[B, 5, H / 2, W / 2]`."""
        return self.turned(picture)


class Decoder(Half):
    """A latent to a picture."""

    def forward(self, latent: Tensor) -> Tensor:
        """`[B, 5, h, w]` to `[B, 3, 2 h, 2 w]`."""
        return self.turned(latent)


def half(name: str, network: Half, size: int, **more: object) -> AutoencoderDescription:
    """A described half, of latents of `size`."""
    return AutoencoderDescription(
        name=name,
        network=network.eval(),
        encodes=isinstance(network, Encoder),
        resolution=2 * size,
        latent_resolution=size,
        latent_channels=LATENT,
        scaling=0.5,
        shift=0.1,
        **more,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def description() -> CascadeDescription:
    """Words, a latent, a picture in tiles, its latent, a latent of that, a picture."""
    torch.manual_seed(3)
    base = StageDescription(
        name="base",
        network=Words(0).eval(),
        output_resolution=16,
        latent_channels=LATENT,
        steps=2,
        prediction="x0",
        threshold=ThresholdSpec(kind="none"),
    )
    again = replace(
        base,
        name="again",
        network=Words(LATENT).eval(),
        input_resolution=16,
        input_latent_channels=LATENT,
        enlarge="none",
        augmentation=AugmentationSpec(lowest=0.0, highest=0.5, default=0.1),
    )
    return CascadeDescription(
        stages=(
            base,
            half("decode", Decoder(encodes=False), 16, tile=8, passes_words=True),
            half("encode", Encoder(encodes=True), 16, passes_words=True),
            again,
            half("final", Decoder(encodes=False), 16),
        ),
        licence="CC0-1.0",
        provenance="random numbers",
        prompts=("a red circle", "a green circle"),
        text_encoder=TextEncoderDescription(
            network=WordEncoder().eval(),
            tokenizer=tokenizer(),
            max_tokens=16,
            context_width=WIDTH,
            provenance="a table of seven words",
        ),
    )


@pytest.fixture(scope="module")
def bundle(
    description: CascadeDescription, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Bundle, list[str]]:
    """Its bundle in float32 and int8, and what the export said."""
    out: Path = tmp_path_factory.mktemp("latents") / "bundle"
    said: list[str] = []
    eight = ExportOptions(precisions=frozenset({Precision.FP32, Precision.INT8}))
    write_cascade(description, out, report=said.append, options=eight)
    return open_bundle(out), said


def test_every_component_is_proven_and_says_what_it_makes(
    bundle: tuple[Bundle, list[str]],
) -> None:
    """Latents of five channels; the end-to-end line has both pictures."""
    made = [spec.makes for spec in bundle[0].manifest.components]
    latent, picture = Latent(shape=(5, 16, 16), dtype="float32"), Image(width=32, height=32)
    assert made == [Context(width=WIDTH), latent, picture, latent, latent, picture]
    (line,) = [line for line in bundle[1] if line.startswith("end to end")]
    assert "decode " in line
    assert "final " in line


def test_the_bundle_draws_the_same_at_every_cut(bundle: tuple[Bundle, list[str]]) -> None:
    """With a real server on the other side."""
    found = []
    with running(bundle[0], cut=0) as server:
        for cut in range(7):
            with Client(bundle[0], server=server.address, cut=cut, threads=1) as client:
                found.append(client.run(GenerateRequest(prompt="a red circle", seed=4)).image)
    for image in found[1:]:
        np.testing.assert_array_equal(image, found[0])
    assert found[0].std() > 1


def test_int8_of_a_latent_is_judged_by_the_picture_of_the_decoder_behind_it(
    bundle: tuple[Bundle, list[str]],
) -> None:
    """The worst picture of the second prompt, as a client draws it in both precisions."""
    specs = {spec.name: spec for spec in bundle[0].manifest.components}
    base, again = specs["base"], specs["again"]
    (variant,) = base.graphs[NET].variants
    assert variant.quality.metric == PICTURE_DB
    pictures = []
    for precision in ("fp32", "base=int8"):
        with Client(bundle[0], cut=6, threads=1, precision=precision) as client:
            made = [
                client.run(GenerateRequest(prompt="a green circle", seed=seed)).images["decode"]
                for seed in range(8)
            ]
        pictures.append(made)
    worst = min(psnr_db(eight, plain) for plain, eight in zip(*pictures, strict=True))
    assert variant.quality.value == pytest.approx(worst, abs=0.5)
    # Its runs would begin with latents, which no description brings.
    assert not again.graphs[NET].variants


def test_a_description_that_no_bundle_can_hold_is_refused_before_an_export(
    description: CascadeDescription,
) -> None:
    """By stage and field."""
    base, decode, *rest = description.stages
    assert isinstance(decode, AutoencoderDescription)
    for changes, field in (
        ({"passes_words": False}, "passes_words"),
        ({"tile": 17}, "tile"),
        ({"resolution": 33}, "resolution"),
        ({"scaling": 0.0}, "scaling"),
    ):
        with pytest.raises(UnsupportedModel) as refused:
            replace(description, stages=(base, replace(decode, **changes), *rest))  # type: ignore[arg-type]
        assert refused.value.field == f"decode.{field}"
    late = replace(description, stages=description.stages[2:])
    with pytest.raises(UnsupportedModel, match="written in fp32 alone"):
        check_prompts(late, ExportOptions(precisions=frozenset({Precision.INT8})))
