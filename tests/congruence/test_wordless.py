"""Cascades that begin with noise alone or with a picture: the same pixels wherever they are cut."""

from collections.abc import Iterator

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import InvalidRequest
from cascade.request import GenerateRequest
from runtime_client.client import Client
from tests.support.serving import running
from tests.support.wordless_bundle import HIGH, LOW, write_wordless_bundle

PICTURE = np.arange(LOW.size_bytes, dtype=np.uint8).reshape(LOW.shape)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two stages, no words."""
    return write_wordless_bundle(tmp_path_factory.mktemp("wordless") / "bundle")


@pytest.fixture(scope="module")
def server(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of both stages."""
    place = tmp_path_factory.mktemp("socket") / "s"
    with running(bundle, listen=f"unix:{place}", cut=0) as started:
        yield started.address


@pytest.mark.parametrize("request_", [
    GenerateRequest(seed=5),
    GenerateRequest(seed=5, options={"base": DiffusionOptions(steps=2)}),
    GenerateRequest(seed=6, picture=PICTURE, first_stage="sr"),
], ids=["noise", "fewer-steps", "picture"])  # fmt: skip
def test_every_cut_makes_the_same_pixels(
    bundle: Bundle, server: str, request_: GenerateRequest
) -> None:
    """From noise alone, and from a picture that is wider than high."""
    found = []
    for cut in range(3):
        with Client(bundle, server=server, cut=cut, threads=1) as client:
            result = client.run(request_)
        assert result.image.shape == HIGH.shape
        found.append(result.image)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert found[0].std() > 1


def test_a_start_that_does_not_fit_is_refused(bundle: Bundle, server: str) -> None:
    """Words for a cascade without them, another size, nothing for a stage that needs a picture."""
    wrong = {
        "first_stage": GenerateRequest(prompt="a cat"),
        "options.base.guidance": GenerateRequest(options={"base": DiffusionOptions(guidance=2.0)}),
    }
    with Client(bundle, server=server, cut=0) as client:
        for field, request in wrong.items():
            with pytest.raises(InvalidRequest) as caught:
                client.run(request)
            assert caught.value.field == field
        for request in (
            GenerateRequest(first_stage="sr"),
            GenerateRequest(first_stage="sr", picture=PICTURE[:, :3]),
        ):
            with pytest.raises(InvalidRequest, match="sr starts from a picture of 6x4"):
                client.run(request)
