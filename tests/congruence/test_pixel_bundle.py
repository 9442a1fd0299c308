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
from runtime_client.client import Client
from tests.congruence.children import serving

FOLDER = Path(__file__).resolve().parents[2] / "bundles" / "emoji-pixels-1"
KINDS = [k for k in installed_kinds() if k in (EngineKind.ORT, EngineKind.OPENVINO)]
PROMPT, SEED = "a red apple, noto style", 1
SHA256 = "ffe2e3a26d255056d745e7bc448122d20196f60b53e9055ca62e8c741490e149"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The bundle that lies in the repository."""
    return open_bundle(FOLDER)


@pytest.fixture(scope="module")
def address(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of every component."""
    with serving(bundle, f"unix:{tmp_path_factory.mktemp('s') / 's.sock'}") as server:
        yield server.address


@pytest.mark.parametrize("cut", range(6))
def test_every_cut_makes_the_picture_that_is_written_here(
    bundle: Bundle, address: str, cut: int
) -> None:
    """Text encoder and four stages, any number of them on the other side."""
    server = address if cut < len(bundle.manifest.components) else None
    with Client(bundle, server=server, cut=cut, threads=1) as client:
        image = client.generate(PROMPT, seed=SEED).image
    assert image.shape == (64, 64, 3)
    assert hashlib.sha256(image.tobytes()).hexdigest() == SHA256


@pytest.mark.parametrize("kind", KINDS)
def test_every_engine_makes_the_picture_that_is_written_here(
    bundle: Bundle, kind: EngineKind
) -> None:
    """On two threads, everything in this process."""
    with Client(bundle, cut=5, threads=2, engine=kind.value) as client:
        image = client.generate(PROMPT, seed=SEED).image
    assert hashlib.sha256(image.tobytes()).hexdigest() == SHA256


def test_the_bundle_is_small() -> None:
    """Below 12 MB with its text encoder."""
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 12_000_000
