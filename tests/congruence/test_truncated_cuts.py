"""Truncated conditioning across a cut: noise is handed on bit for bit, the pixels are the same."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cascade.boundary import Tensor
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import write_manifest
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.spec import AugmentationSpec
from cascade.errors import InvalidRequest
from cascade.events import StageFinished
from cascade.request import GenerateRequest
from runtime_client.client import Client
from tests.support.manifests import stages_of, with_stages
from tests.support.serving import running
from tests.support.tiny_bundle import write_tiny_bundle

STOP = 0.25


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle; its base stage ends early, the next one is told where."""
    folder = tmp_path_factory.mktemp("truncated") / "bundle"
    manifest = write_tiny_bundle(folder, steps=2).manifest
    base, upscaler, last = stages_of(manifest)
    noise = Tensor(shape=(3, base.makes.height, base.makes.width), dtype="float32")
    level = AugmentationSpec(lowest=STOP, highest=STOP, default=STOP, applied_to="before")
    stages = (
        replace(base, makes=noise, ends_at=STOP, sampler="ddpm", gamma=1.0, schedule="cosine"),
        replace(upscaler, starts_from=(upscaler.starts_from[0], noise), augmentation=level),
        replace(last, augmentation=AugmentationSpec(
            lowest=0.0, highest=0.5, default=0.2, applied_to="small")),
    )  # fmt: skip
    (folder / "manifest.json").write_text(write_manifest(with_stages(manifest, stages)))
    return open_bundle(folder)


def test_every_cut_makes_the_same_pixels(bundle: Bundle, tmp_path: Path) -> None:
    """The noise of a level, and both pictures made of it."""
    request, drawn = GenerateRequest(prompt="a red cat", seed=3), []
    with running(bundle, listen=f"unix:{tmp_path / 's'}", cut=0) as server:
        for cut in range(5):
            with Client(bundle, server=server.address, cut=cut, threads=1) as client:
                made = [e for e in client.events(request) if isinstance(e, StageFinished)]
            drawn.append({e.stage: e.handoff for e in made})
    for other in drawn[1:]:
        for name in ("base", "sr16", "sr32"):
            for kind in ("image", "tensor"):
                mine, theirs = getattr(drawn[0][name], kind), getattr(other[name], kind)
                assert (mine is None) == (theirs is None)
                assert mine is None or mine.tobytes() == theirs.tobytes()
    noise = drawn[0]["base"].tensor
    assert noise is not None
    # What is left of the noise stands beyond the range of pictures here and there.
    assert np.abs(noise).max() > 1


def test_another_level_than_the_one_it_stopped_at_is_refused(bundle: Bundle) -> None:
    """Naming the option."""
    options = {"sr16": DiffusionOptions(augmentation=0.5)}
    with Client(bundle, cut=4, threads=1) as client, pytest.raises(InvalidRequest) as caught:
        client.run(GenerateRequest(prompt="a red cat", options=options))
    assert caught.value.field == "options.sr16.augmentation"
