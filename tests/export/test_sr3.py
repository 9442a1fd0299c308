"""Folders of SR3 against pictures of the implementation that their layout comes from."""

from pathlib import Path

import numpy as np
import pytest

from cascade.bundle.bundle import open_bundle
from cascade.commands.cli import main
from cascade.errors import UnsupportedModel
from cascade.request import GenerateRequest
from export.adapters.command import ForeignSource, describe
from export.adapters.sr3 import betas_of
from runtime_client.client import Client
from tests.support.described import picture_of, psnr_of
from tests.support.known_answers import known_answers, thinned
from tests.support.sr3_grid import Sr3Case, our_sr3, sr3_cases, write_sr3

ANSWERS = known_answers("sr3")
CASES = {case.name: case for case in sr3_cases()}
PLAIN = Sr3Case(name="plain", unet={}, schedule={})


@pytest.mark.parametrize("name", list(ANSWERS))
def test_pictures_are_the_implementation_s(name: str, tmp_path: Path) -> None:
    """Every kept configuration on the same noise: 60 dB at least."""
    case = CASES[name]
    found = our_sr3(case, write_sr3(case, tmp_path))
    assert found.keys() == ANSWERS[name].keys()
    for stage, wanted in ANSWERS[name].items():
        assert wanted.std() > 1
        assert psnr_of([(thinned(found[stage]), wanted)]) >= 60


@pytest.mark.parametrize("case", [c for c in CASES.values() if c.refused], ids=lambda c: c.name)
def test_what_cannot_be_said_is_refused(case: Sr3Case, tmp_path: Path) -> None:
    """With the file and the field or weight, before anything is exported."""
    folder = write_sr3(case, tmp_path)
    with pytest.raises(UnsupportedModel) as refused:
        describe(ForeignSource(kind="sr3", where=str(folder)))
    path, _, name = str(refused.value.field).rpartition(":")
    assert Path(path) in {folder / "config.json", folder / "model.safetensors"}
    assert name == case.refused
    assert str(refused.value).startswith(f"{path}: {name}")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "config.json: this file is missing"),
        (b"\xff", "config.json: not JSON"),
        (b"[]", "config.json: expected an object"),
        (b'{"model": 3}', "model is '3'; supported: an object"),
        (b"{" * 100_000, "config.json: not JSON"),
    ],
)
def test_broken_configurations_are_refused(tmp_path: Path, data: bytes | None, words: str) -> None:
    """One line that names the file."""
    folder = write_sr3(PLAIN, tmp_path)
    (folder / "config.json").unlink()
    if data is not None:
        (folder / "config.json").write_bytes(data)
    with pytest.raises(UnsupportedModel, match=words):
        describe(ForeignSource(kind="sr3", where=str(folder)))


def test_networks_in_a_row_start_from_each_other_s_pictures(tmp_path: Path) -> None:
    """8 to 16 to 32; a second network that starts elsewhere is refused."""
    first = write_sr3(PLAIN, tmp_path)
    second = write_sr3(Sr3Case(name="second", unet={}, schedule={}, size=32, low=16), tmp_path)
    source = ForeignSource(kind="sr3", where=str(first), upscalers=(second,))
    assert [stage.name for stage in describe(source).stages] == ["sr16", "sr32"]
    with pytest.raises(UnsupportedModel, match="l_resolution is '8'; supported: the 16"):
        describe(ForeignSource(kind="sr3", where=str(first), upscalers=(first,)))


def test_warm_ups_end_at_the_last_beta() -> None:
    """A tenth or a half of the steps grow, the others are the last; as many as were asked."""
    assert betas_of("warmup10", 20, 0.1, 0.3).tolist() == [0.1, 0.3] + [0.3] * 18
    np.testing.assert_allclose(betas_of("warmup50", 4, 0.1, 0.3), [0.1, 0.3, 0.3, 0.3])
    np.testing.assert_allclose(betas_of("quad", 3, 0.01, 0.09), [0.01, 0.04, 0.09])
    assert betas_of("const", 2, 0.1, 0.3).tolist() == [0.3, 0.3]


def test_the_exported_network_enlarges_a_picture_of_one_s_own(tmp_path: Path) -> None:
    """No encoder, no base stage: the bundle begins with a picture, here and on a server alike."""
    folder = write_sr3(PLAIN, tmp_path)
    assert main(["export", "--from", "sr3", str(folder), "--out", str(tmp_path / "out")]) == 0
    bundle = open_bundle(tmp_path / "out")
    assert [spec.name for spec in bundle.manifest.components] == ["sr16"]
    request = GenerateRequest(picture=picture_of(8), seed=11)
    drawn = []
    for cut in (0, 1):
        with Client(bundle, cut=cut, threads=1) as client:
            drawn.append(client.run(request).image)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert psnr_of([(drawn[0], our_sr3(PLAIN, folder)["sr16"])]) >= 60
