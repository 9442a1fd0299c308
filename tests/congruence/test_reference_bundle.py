"""The first law on the bundle that the product ships: real networks, real sizes, few steps.

The whole cascade runs here once (cut 4), on another number of threads than the server's: a picture
may depend on neither.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.request import GenerateRequest
from cascade.types import ImageU8
from runtime_client.client import Client
from tests.congruence.children import ONE_BY_ONE, serving
from tests.support.manifests import stages_of

FOLDER = Path(__file__).resolve().parents[2] / "bundles" / "emoji-1"
PROMPTS = (
    "a red apple, noto style",
    "a smiling cat, fluent style",
    "a green tree, twemoji style",
    "two hearts",
)

pytestmark = pytest.mark.skipif(
    not (FOLDER / "manifest.json").is_file(),
    reason="bundles/emoji-1 IS MISSING: the reference bundle was not checked at any cut",
)


@pytest.fixture(scope="module")
def reference() -> Bundle:
    """The bundle that lies in the repository."""
    return open_bundle(FOLDER)


@pytest.fixture(scope="module")
def requests(reference: Bundle) -> list[GenerateRequest]:
    """Four prompts, the fewest steps that still exercise the sampler."""
    options = {
        component.name: DiffusionOptions(steps=2 if component.low is None else 1)
        for component in stages_of(reference.manifest)
    }
    return [
        GenerateRequest(prompt=prompt, seed=seed, options=options)
        for seed, prompt in enumerate(PROMPTS)
    ]


@pytest.fixture(scope="module")
def expected(reference: Bundle, requests: list[GenerateRequest]) -> list[dict[str, ImageU8]]:
    """The pictures of cut 4: a run in this process alone."""
    with Client(reference, cut=len(reference.manifest.components), threads=2) as client:
        return [dict(client.run(request).images) for request in requests]


@pytest.fixture(scope="module")
def address(reference: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of every component."""
    place = f"unix:{tmp_path_factory.mktemp('s') / 's.sock'}"
    with serving(reference, place, options=ONE_BY_ONE) as server:
        yield server.address


@pytest.mark.parametrize("cut", range(4))
def test_every_other_cut_makes_the_same_picture(
    reference: Bundle,
    requests: list[GenerateRequest],
    expected: list[dict[str, ImageU8]],
    address: str,
    cut: int,
) -> None:
    """Byte for byte, at every stage and at full size."""
    with Client(reference, server=address, cut=cut) as client:
        for request, images in zip(requests, expected, strict=True):
            result = client.run(request)
            assert result.image.shape == (1024, 1024, 3)
            assert result.images.keys() == images.keys()
            for name, image in result.images.items():
                np.testing.assert_array_equal(image, images[name], err_msg=f"{name}, cut {cut}")
            assert cut > 2 or result.bytes_up < 20_000
