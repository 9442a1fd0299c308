"""Pixels by groups from networks to a bundle: exact, in float32 alone, and what they paint."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.commands.cli import main
from cascade.engines.factory import installed_kinds
from cascade.errors import InvalidRequest, ParityError, UnsupportedModel
from cascade.families import family_of
from cascade.pixels.family import pixel_specs
from cascade.pixels.spec import HEADS, PASS, PixelSpec
from cascade.precision import Precision
from cascade.request import Handoff
from cascade.text.spec import TextEncoderSpec
from examples import my_pixels
from export.adapters import pixel_cascade
from export.adapters.pixel_cascade import PixelSource, chain_of, describe_pixels, encoder_of
from export.bundle_writer import write_cascade
from export.components.component import ExportJob, ExportOptions, StageJob
from export.components.pixels import export_pixels
from export.description import PixelStageDescription
from export.model_card import add_card
from export.proof import KINDS
from export.weights.released_pixels import released_pixels, write_pixel_checkpoint
from export.weights.released_words import reads_words, write_word_table
from runtime_client.client import Client
from stages.evaluation.pixel_bits import load_frozen
from stages.pixel_presets import PIXEL_PRESETS, PixelPreset
from stages.training.checkpoint import load_metadata, save_checkpoint
from stages.training.words import load_table, save_table
from tests.support.tiny_pixels import TINY_FIRST, TINY_SECOND
from tests.support.tiny_training import FACTS, tiny_dataset

VOCABULARY = 30522
EXAMPLE = "examples.my_pixels:describe"
WIDTH = my_pixels.WIDTH
TINY = {
    preset.name: replace(preset, context_width=WIDTH, guidance_16=24)
    for preset in (TINY_FIRST, TINY_SECOND)
}
SHIPPED = Path(__file__).parents[2] / "bundles" / "emoji-pixels-1"


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The example's bundle, written by the command."""
    out = tmp_path_factory.mktemp("pixels") / "dots"
    assert main(["export", "--from", "torch", EXAMPLE, "--out", str(out)]) == 0
    return open_bundle(out)


def circle(colour: tuple[int, int, int]) -> np.ndarray:
    """What the example paints, `[16, 16, 3]` uint8: a circle on white, every pixel twice."""
    y, x = np.mgrid[:8, :8] - 3.5
    inside = (x**2 + y**2 <= 9)[:, :, None]
    small = np.where(inside, np.uint8(colour), np.uint8(255))
    return small.repeat(2, axis=0).repeat(2, axis=1)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_the_example_paints_the_same_at_every_cut(dots: Bundle, cut: int) -> None:
    """Part here, the rest on a private server: to the last bit the circle that was asked for."""
    with Client(dots, cut=cut, threads=1) as client:
        assert np.array_equal(client.generate("a red circle", seed=3).image, circle((255, 0, 0)))
        assert np.array_equal(client.generate("a blue circle").image, circle((0, 0, 255)))


def test_the_example_verifies(dots: Bundle) -> None:
    """`cascade verify` finds hashes, parity and one run of every component right."""
    assert main(["verify", str(dots.folder)]) == 0


def test_an_exact_component_is_in_float32_alone(dots: Bundle) -> None:
    """Two graphs by role, no variant, no form for GPUs, no error; the family offers no other."""
    for spec in dots.manifest.components[1:]:
        assert set(spec.graphs) == {PASS, HEADS}
        for graph in spec.graphs.values():
            assert (graph.variants, graph.gpu_forms) == ((), ())
            assert (graph.parity.max_abs_error, graph.parity.tolerance_abs) == (0, 0)
        assert tuple(family_of(spec).precisions(spec)) == (Precision.FP32,)
    assert dots.manifest.components[1].graphs[PASS].padded_by == {"tokens": "context_mask"}


def test_int8_is_refused_before_anything_is_exported(tmp_path: Path) -> None:
    """The error names the option; nothing is written."""
    options = ExportOptions(precisions=frozenset({Precision.FP32, Precision.INT8}))
    with pytest.raises(UnsupportedModel, match="exact in fp32 alone") as caught:
        write_cascade(my_pixels.describe(), tmp_path / "dots", report=ignored, options=options)
    assert caught.value.field == "precisions"
    assert not (tmp_path / "dots").exists()


class Blur(nn.Module):
    """A body whose features are no whole numbers: sums of thirds, in an order of its engine's."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(*(nn.Conv2d(48, 48, 3, padding=1) for _ in range(3)))
        self.wide = nn.Conv2d(3, 48, 1)

    def forward(
        self, canvas: Tensor, known: Tensor, pass_index: Tensor, targets: Tensor, low_res: Tensor
    ) -> Tensor:
        """`[B, n, 1]`."""
        found = self.layers(self.wide(canvas * known / 3)).mean(1).flatten(1)
        made = torch.gather(found, 1, targets)[:, :, None]
        return made + my_pixels.unused(pass_index, low_res)


def job() -> StageJob:
    """An export of one stage, without a text."""
    description = my_pixels.describe()
    assert description.text_encoder is not None
    export = ExportJob(
        encoder=description.text_encoder,
        prompts=("a", "b"),
        options=ExportOptions(),
        requires_gpu_forms=False,
        report=ignored,
    )
    return StageJob(export, lambda _: Handoff(context=np.zeros((2, WIDTH), np.float16)), 2)


def ignored(_: str) -> None:
    """A line that no test reads."""


def test_a_float_network_is_not_exported() -> None:
    """Somebody's ordinary network: the error names the graph, the engine and the count."""
    stage = my_pixels.describe().stages[1]
    assert isinstance(stage, PixelStageDescription)
    with pytest.raises(ParityError, match=r"px16\.pass on .*values differ from torch's"):
        export_pixels(job(), replace(stage, body=Blur().eval()))


class Blind(my_pixels.Nothing):
    """A body that never looks at its parent."""

    def forward(
        self, canvas: Tensor, known: Tensor, pass_index: Tensor, targets: Tensor, low_res: Tensor
    ) -> Tensor:
        """`[B, n, 1]`."""
        return super().forward(canvas, known, pass_index, targets, canvas)


def test_an_input_that_nothing_reads_is_named() -> None:
    """Engines drop it, and would then refuse to be given it."""
    stage = my_pixels.describe().stages[1]
    assert isinstance(stage, PixelStageDescription)
    with pytest.raises(UnsupportedModel, match="depends on its input low_res"):
        export_pixels(job(), replace(stage, body=Blind().eval()))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stages that `cascade train` might have left."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for preset in TINY.values():
        save_checkpoint(folder / preset.name, {"ema": weights(preset)}, dict(FACTS))
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(-127, 128, (VOCABULARY, WIDTH), generator=generator)
    save_table(folder, rows.to(torch.int8))
    return folder


def weights(preset: PixelPreset) -> dict[str, Tensor]:
    """Of a checkpoint, none of them zero throughout."""
    torch.manual_seed(4)
    network = preset.network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.state_dict()


def test_checkpoints_become_a_bundle_that_draws(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained stages with their held-out bits, and a word table that every engine reads alike."""
    monkeypatch.setattr(pixel_cascade, "PIXEL_PRESETS", TINY)
    monkeypatch.setattr(pixel_cascade, "WORDS", WIDTH)
    monkeypatch.setattr(
        pixel_cascade, "open_captioned", lambda *_: tiny_dataset(size=256, width=WIDTH)
    )
    source = PixelSource(stages=("px8", "px16"), checkpoints=checkpoints, data_file=tmp_path)
    described = describe_pixels(source)
    lines: list[str] = []
    write_cascade(described, tmp_path / "tiny", report=lines.append)
    assert sum("stored numbers are the network's" in line for line in lines) == 4
    assert sum("0 of 576 values drawn differ" in line for line in lines) == 1  # 3 * 8 * 8 * 3
    engines = [line for line in lines if line.startswith("text_encoder") and ": 0 of " in line]
    assert len(engines) == len([kind for kind in KINDS if kind in installed_kinds()])
    bundle = open_bundle(tmp_path / "tiny")
    encoder = bundle.manifest.components[0]
    assert isinstance(encoder, TextEncoderSpec)
    assert (encoder.graph.storage, encoder.graph.parity.max_abs_error) == ("int8", 0.0)
    for spec in bundle.manifest.components[1:]:
        assert isinstance(spec, PixelSpec)
        assert spec.evidence["pictures"] == 2
        assert spec.evidence["bits_per_value"] > 0
        assert 0 < spec.provenance["largest_sum"] < 1
        assert choices(spec) == choices(TINY[spec.name])
        assert {graph.storage for graph in spec.graphs.values()} <= {"int8", "float16"}
    check_weights_come_back(bundle, checkpoints, tmp_path / "back")
    check_card(bundle)
    with Client(bundle, cut=3, threads=1) as client:
        one, other = (client.generate("a red circle", seed=s).image for s in (1, 2))
        assert one.shape == (16, 16, 3)
        assert not np.array_equal(one, other)
        handoff = Handoff(image=one[::2, ::2].copy())
        assert handoff.image is not None


def choices(stage: PixelSpec | PixelPreset) -> tuple[int, int, int]:
    """How it is sampled by default."""
    return stage.temperature_16, stage.floor_16, stage.guidance_16


def test_the_shipped_bundle_is_sampled_as_its_presets_say() -> None:
    """Another choice in a preset is another bundle."""
    for spec in pixel_specs(open_bundle(SHIPPED).manifest.components):
        assert choices(spec) == choices(PIXEL_PRESETS[spec.name])


def check_card(bundle: Bundle) -> None:
    """Training and defaults of every stage stand in it, with the bits of the manifest."""
    add_card(bundle.folder)
    card = (bundle.folder / "MODEL_CARD.md").read_text()
    assert "says nothing of it" not in card
    for name, passes in (("px8", 16), ("px16", 3)):
        spec = bundle.manifest.components[bundle.manifest.position(name)]
        assert isinstance(spec, PixelSpec)
        bits = spec.evidence["bits_per_value"]
        size = spec.makes.width
        shares = " | ".join(f"{sixteenths}/16" for sixteenths in choices(TINY[name]))
        assert f"| {name} | {size} | {passes} | {shares} | {bits} |" in card


def test_stages_read_one_text_encoder(tmp_path: Path) -> None:
    """Texts of two widths: the error names the stages."""
    wide = replace(TINY_SECOND, context_width=384)
    with pytest.raises(InvalidRequest, match="px8, px16 read texts of different widths"):
        encoder_of([TINY_FIRST, wide], tmp_path)


def check_weights_come_back(bundle: Bundle, checkpoints: Path, folder: Path) -> None:
    """Each stage's weights are the grid's again, to the bit, and say where they come from."""
    for preset in TINY.values():
        write_pixel_checkpoint(bundle, preset, folder / preset.name)
        assert load_metadata(folder / preset.name)["released_in"] == bundle.bundle_id
        found = load_frozen(preset, folder / preset.name).state_dict()
        wanted = load_frozen(preset, checkpoints / preset.name).state_dict()
        assert [n for n in wanted if not torch.equal(found[n], wanted[n])] == []
    with pytest.raises(InvalidRequest, match="exists"):
        write_pixel_checkpoint(bundle, TINY_FIRST, folder / "px8")
    assert reads_words(bundle, ["px16"])
    assert not reads_words(bundle, ["px64"])
    assert write_word_table(bundle, folder) == VOCABULARY
    assert torch.equal(load_table(folder).rows, load_table(checkpoints).rows)
    with pytest.raises(InvalidRequest, match="exists"):
        write_word_table(bundle, folder)
    with pytest.raises(InvalidRequest, match="not the one of this version"):
        released_pixels(bundle, replace(TINY["px8"], blocks=2))


@pytest.mark.parametrize(
    ("names", "match"),
    [(("px8", "px32"), "px32 starts from a picture of 16"), (("sr8",), "expected some of px8")],
)
def test_stages_have_to_be_a_chain(names: tuple[str, ...], match: str) -> None:
    """Each starts from the picture that the one before makes."""
    with pytest.raises(InvalidRequest, match=match) as caught:
        chain_of(names)
    assert caught.value.field == "stages"


@pytest.mark.parametrize(
    "flags",
    [["--precisions", "int8"], ["--gpu-forms", "fp16"], ["--storage", "float16"]],
    ids=lambda flags: flags[0],
)
def test_the_command_refuses_other_precisions(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is read: one line with the flag to leave out."""
    command = ["export", "--stages", "px8", "--out", str(tmp_path / "out"), *flags]
    assert main(command) != 0
    assert f"leave {flags[0]}" in capsys.readouterr().err
