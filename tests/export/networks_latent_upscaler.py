"""The bundle of a latent upscaler behind a base pipeline, at every cut.

`make networks` runs it: the export takes a minute of a core, since K blocks need three levels.
`test_latent_upscaler` compares the same stages over their networks.
"""

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.commands.cli import main
from runtime_client.client import Client
from stages.evaluation.metrics import psnr_db
from tests.export.test_latent_upscaler import reference, request, saved
from tests.support.serving import running
from tests.support.tiny_sd import Pipelines

__all__ = ["saved"]
"""The fixture that the tests below ask for by name."""


@pytest.fixture(scope="module")
def bundle(saved: Pipelines) -> Bundle:
    """Both pipelines' bundle, written by the command."""
    out = saved.folders[0].parent / "bundle"
    first, second = map(str, saved.folders)
    arguments = ["--from", "diffusers-sd", first, "--upscaler", second, "--out", str(out)]
    assert main(["export", *arguments]) == 0
    return open_bundle(out)


def test_a_bundle_makes_the_pipelines_picture_at_every_cut(
    saved: Pipelines, bundle: Bundle
) -> None:
    """Pooled words and a latent cross each boundary: the same bytes."""
    found = []
    with running(bundle, cut=0) as server:
        for cut in range(5):
            with Client(bundle, server=server.address, cut=cut, threads=1) as client:
                found.append(client.run(request()).image)
    assert found[-1].shape == (32, 32, 3)
    assert psnr_db(found[-1], reference(saved)[1]) >= 60
    for image in found[:-1]:
        np.testing.assert_array_equal(image, found[-1])
