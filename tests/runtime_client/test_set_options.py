"""`--set STAGE.OPTION=VALUE`: the fields of each family's options dataclass as flags."""

from pathlib import Path

import pytest

from cascade.bundle.bundle import Bundle
from cascade.commands.cli import main
from cascade.commands.exit_codes import BAD_INPUT, DONE
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import InvalidRequest
from cascade.families import FAMILIES
from cascade.request import GenerateRequest
from runtime_client.cli.picture_format import read_metadata
from runtime_client.cli.set_options import parse_choice, with_choices
from tests.support.pixel_bundle import write_pixel_bundle
from tests.support.ramp_family import RampFamily, RampOptions, write_ramp_bundle
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """The tiny bundle."""
    return write_tiny_bundle(tmp_path / "bundle")


def asked(bundle: Bundle, *texts: str, **options: DiffusionOptions) -> GenerateRequest:
    """What flags come to."""
    request = GenerateRequest(prompt="a cat", options=options)
    return with_choices(bundle.manifest, request, map(parse_choice, texts))


def test_every_field_is_a_flag(bundle: Bundle) -> None:
    """With the type that the field declares, beside what the short flags said."""
    found = asked(
        bundle, "base.steps=4", "sr16.augmentation=0.2", base=DiffusionOptions(guidance=2.0)
    )
    assert found.options == {
        "base": DiffusionOptions(steps=4, guidance=2.0),
        "sr16": DiffusionOptions(augmentation=0.2),
    }


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("base.steps", "set", "expected STAGE.OPTION=VALUE"),
        ("base=4", "set", "expected STAGE.OPTION=VALUE"),
        ("sr64.steps=4", "set", "this bundle has text_encoder, base"),
        ("base.temperature=1", "options.base.temperature", "takes steps, guidance, augmentation"),
        ("text_encoder.steps=1", "options.text_encoder.steps", "takes none"),
        ("base.steps=four", "options.base.steps", "expected int"),
        ("base.steps=0", "options.base.steps", "expected 1 to"),
        ("sr16.steps=3", "options.sr16.steps", "given twice"),
    ],
)
def test_what_is_wrong_is_named(bundle: Bundle, text: str, field: str, words: str) -> None:
    """And what there is instead."""
    with pytest.raises(InvalidRequest, match=words) as caught:
        asked(bundle, text, sr16=DiffusionOptions(steps=2))
    assert caught.value.field == field


def test_another_familys_options_need_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the fields of its dataclass."""
    monkeypatch.setitem(FAMILIES, "ramp", RampFamily())
    ramps = write_ramp_bundle(tmp_path / "ramps")
    found = with_choices(ramps.manifest, GenerateRequest(label=1), [parse_choice("ramp.turns=7")])
    assert found.options == {"ramp": RampOptions(turns=7)}


def test_the_command_takes_them(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The picture is the one of the short flag; a wrong name ends with one line."""
    command = ["generate", "a cat", "--bundle", str(bundle.folder), "--cut", "4", "-q"]
    pictures = []
    for name, flags in (("a", ["--set", "base.steps=2"]), ("b", ["--steps", "base=2"])):
        output = tmp_path / f"{name}.png"
        assert main([*command, "-o", str(output), *flags]) == DONE
        pictures.append(output.read_bytes())
    assert pictures[0] == pictures[1]
    assert main([*command, "-o", str(output), "--set", "base.stops=2"]) == BAD_INPUT
    assert "options.base.stops" in capsys.readouterr().err


def test_a_picture_of_pixels_by_groups_is_made_again_from_itself(tmp_path: Path) -> None:
    """Its text holds choices of that family, and they are read as such."""
    pixels = write_pixel_bundle(tmp_path / "pixels")
    command = ["generate", "--bundle", str(pixels.folder), "--cut", "4", "-q"]
    first, again = tmp_path / "first.png", tmp_path / "again.png"
    chosen = ["--set", "px8.temperature_16=8", "--set", "px16.augmentation=0.4"]
    assert main([*command, "a cat", "-o", str(first), *chosen]) == DONE
    assert main([*command, "--from", str(first), "-o", str(again)]) == DONE
    assert read_metadata(again)["asked"] == read_metadata(first)["asked"]
    assert '"temperature_16": 8' in read_metadata(first)["asked"]
    assert read_metadata(again)["pixels"] == read_metadata(first)["pixels"]
