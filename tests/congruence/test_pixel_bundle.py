"""The first law on the bundle of pixels by groups: one prompt, one picture, everywhere.

Its numbers are exact in float32, so that this holds between engines and machines too: the picture's
hash stands here.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.engines.factory import EngineKind, installed_kinds
from cascade.request import GenerateRequest
from runtime_client.client import Client
from tests.congruence.children import ONE_BY_ONE, serving

FOLDER = Path(__file__).resolve().parents[2] / "bundles" / "emoji-pixels-1"
KINDS = [k for k in installed_kinds() if k in (EngineKind.ORT, EngineKind.OPENVINO)]
PROMPT, SEED = "a red apple, noto style", 1
SMALL, LARGE = "px64", "px256"
SHA256 = {
    SMALL: "f730640302bf04bc1a67ff9d512ee1aaa629d419fd2e9caba0141c4e48e1b597",
    LARGE: "e6797dcba92c34ae942ece648f215321d7317e2a10e8bf47c9a94e309d87aa55",
}
SIZES = {SMALL: 64, LARGE: 256}
CASES = [*((cut, SMALL) for cut in range(6)), (0, LARGE), (6, LARGE)]
"""Upscalers take ten times as long as all before: both on the server, then one on each side."""


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The bundle that lies in the repository."""
    return open_bundle(FOLDER)


@pytest.fixture(scope="module")
def address(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of every component."""
    place = f"unix:{tmp_path_factory.mktemp('s') / 's.sock'}"
    with serving(bundle, place, options=ONE_BY_ONE) as server:
        yield server.address


@pytest.mark.parametrize(("cut", "last"), CASES)
def test_every_cut_makes_the_picture_that_is_written_here(
    bundle: Bundle, address: str, cut: int, last: str
) -> None:
    """Text encoder and six stages, any number of them on the other side."""
    with Client(bundle, server=address, cut=cut, threads=1) as client:
        request = GenerateRequest(prompt=PROMPT, seed=SEED, last_stage=last)
        image = client.run(request).image
    assert image.shape == (SIZES[last], SIZES[last], 3)
    assert hashlib.sha256(image.tobytes()).hexdigest() == SHA256[last]


@pytest.mark.parametrize("kind", KINDS)
def test_every_engine_makes_the_picture_that_is_written_here(
    bundle: Bundle, kind: EngineKind
) -> None:
    """On two threads, everything in this process."""
    with Client(bundle, cut=7, threads=2, engine=kind.value) as client:
        image = client.generate(PROMPT, seed=SEED).image
    assert hashlib.sha256(image.tobytes()).hexdigest() == SHA256[LARGE]


def test_the_bundle_is_small() -> None:
    """Below 12 MB with its text encoder."""
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 12_000_000
