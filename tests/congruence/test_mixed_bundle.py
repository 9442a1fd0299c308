"""A diffusion base and an upscaler of pixels by groups in one bundle: one picture at every cut."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import write_manifest
from cascade.graph_spec import FileEntry
from cascade.pixels.guess import cell_sums
from cascade.types import Array
from runtime_client.client import Client
from tests.support.pixel_bundle import MEANS, Shape, pixel_stage
from tests.support.serving import RunningServer, running
from tests.support.tiny_bundle import write_tiny_bundle


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Text, a diffusion base of 8 pixels, and 16 pixels drawn from means, without text."""
    folder = tmp_path_factory.mktemp("mixed") / "bundle"
    plain = write_tiny_bundle(folder, sizes=(8,)).manifest
    spec, files = pixel_stage("px16", Shape(MEANS, 16, words=False), 7)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    entries = tuple(
        FileEntry(name=name, sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
        for name, data in files.items()
    )
    manifest = replace(plain, components=(*plain.components, spec), files=(*plain.files, *entries))
    (folder / "manifest.json").write_text(write_manifest(manifest))
    return open_bundle(folder)


@pytest.fixture(scope="module")
def server(mixed: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server of all three components."""
    place = f"unix:{tmp_path_factory.mktemp('s') / 's'}"
    with running(mixed, listen=place, cut=0) as started:
        yield started


def pictures(bundle: Bundle, server: str | None, cut: int, seed: int) -> dict[str, Array]:
    """Every stage's picture, so many components in this process."""
    with Client(bundle, server=server, cut=cut, threads=1) as client:
        return dict(client.generate("a red circle", seed=seed).images)


def test_both_families_make_one_picture_at_every_cut(mixed: Bundle, server: RunningServer) -> None:
    """No, one, two or three components on the client; the base's pixels are the means."""
    families = [spec.family for spec in mixed.manifest.components]
    assert families == ["text_encoder", "diffusion", "pixels"]
    here = pictures(mixed, None, 3, seed=5)
    assert here["px16"].shape == (16, 16, 3)
    assert ((cell_sums(here["px16"][None], 2) + 2) // 4 == here["base"]).all()
    assert (pictures(mixed, None, 3, seed=6)["px16"] != here["px16"]).any()
    for cut in (0, 1, 2):
        there = pictures(mixed, server.address, cut, seed=5)
        assert "px16" in there
        for name, image in there.items():
            np.testing.assert_array_equal(image, here[name], err_msg=f"{name}, cut {cut}")
