"""Solvers, schedules, guidance and enlarging of other people's cascades: the same at every cut."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import write_manifest
from cascade.diffusion.betas import BetaSpec
from cascade.diffusion.continuous import FlowSpec, SigmaSpec
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.schedule import TableSpec
from cascade.diffusion.spec import ORTHOGONAL, GuidanceSpec
from cascade.edit import Edit
from cascade.request import GenerateRequest
from runtime_client.client import Client
from tests.support.manifests import stages_of, with_stages
from tests.support.serving import running
from tests.support.tiny_bundle import write_tiny_bundle

ZERO = BetaSpec(
    kind="betas", rule="scaled_linear", train_steps=100, zero_terminal_snr=True, spacing="trailing"
)
EDM = SigmaSpec(kind="sigmas", rule="karras", lowest=0.01, highest=20.0)
PICTURE = np.arange(32 * 32 * 3, dtype=np.uint8).reshape(32, 32, 3)
REQUESTS = (
    GenerateRequest(prompt="a red apple", seed=1),
    GenerateRequest(prompt="a cat", seed=2, options={"base": DiffusionOptions(steps=5)}),
    GenerateRequest(prompt="cat", seed=3, edit=Edit(picture=PICTURE, strength=0.7)),
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle with three solvers, three schedules, projected guidance, two enlargings."""
    tiny = write_tiny_bundle(tmp_path_factory.mktemp("kinds") / "tiny")
    base, second, third = stages_of(tiny.manifest)
    guidance = GuidanceSpec(kind="constant", weight=3.0, convention=ORTHOGONAL)
    stages = (
        replace(
            base, sampler="heun", schedule=FlowSpec(kind="flow", shift=2.0), prediction="flow",
            guidance=guidance,
        ),
        replace(
            second, sampler="dpmpp_2m", schedule=ZERO, prediction="v", enlarge="bicubic_pil",
            guidance=replace(guidance, convention="cond + (w - 1) orthogonal to prediction"),
        ),
        replace(third, sampler="euler", schedule=EDM, enlarge="nearest"),
    )  # fmt: skip
    text = write_manifest(with_stages(tiny.manifest, stages))
    (tiny.folder / "manifest.json").write_text(text)
    return open_bundle(tiny.folder)


@pytest.fixture(scope="module")
def server(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of every component."""
    place = tmp_path_factory.mktemp("socket") / "s"
    with running(bundle, listen=f"unix:{place}", cut=0) as started:
        yield started.address


def test_every_cut_makes_the_same_pixels(bundle: Bundle, server: str) -> None:
    """From words and from a picture."""
    check_every_cut(bundle, server)


TABLE = TableSpec(
    alpha_bar=tuple(0.99 - 0.97 * n / 100 for n in range(100)), offset=1, at_zero=0.99
)
"""Ends at the first training step's noise, as published folders of Stable Diffusion do."""


def test_steps_that_remember_are_the_same_at_every_cut(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """PLMS, whose noises of the steps before belong to a request; alone and in one batch."""
    tiny = write_tiny_bundle(tmp_path_factory.mktemp("plms") / "tiny")
    base, second, third = stages_of(tiny.manifest)
    guidance = GuidanceSpec(kind="constant", weight=3.0)
    stages = (
        replace(
            base, sampler="plms", schedule=TABLE, prediction="epsilon", guidance=guidance,
            timesteps=(), steps=6,
        ),
        replace(second, sampler="ddim_final_step", schedule=TABLE, timesteps=()),
        replace(third, sampler="plms", schedule=TABLE, guidance=guidance, timesteps=(), steps=5),
    )  # fmt: skip
    text = write_manifest(with_stages(tiny.manifest, stages))
    (tiny.folder / "manifest.json").write_text(text)
    bundle = open_bundle(tiny.folder)
    place = tmp_path_factory.mktemp("socket") / "s"
    with running(bundle, listen=f"unix:{place}", cut=0) as server:
        check_every_cut(bundle, server.address)


def check_every_cut(bundle: Bundle, server: str) -> None:
    """The same pixels wherever it is cut, and in one batch whose rows are at different steps."""
    found = []
    for cut in range(5):
        with Client(bundle, server=server, cut=cut, threads=1) as client:
            found.append([client.run(request).image for request in REQUESTS])
    with (
        Client(bundle, server=server, cut=0, threads=1) as client,
        ThreadPoolExecutor(len(REQUESTS)) as pool,
    ):
        found.append([result.image for result in pool.map(client.run, REQUESTS)])
    for pictures in found[1:]:
        for one, other in zip(found[0], pictures, strict=True):
            np.testing.assert_array_equal(one, other)
    assert all(picture.std() > 1 for picture in found[0])


def test_own_pictures_of_another_size_are_the_same_here_and_there(
    bundle: Bundle, server: str
) -> None:
    """Enlarged in tiles by the last two stages, on either side."""
    found = []
    for cut in (0, 2, 4):
        with Client(bundle, server=server, cut=cut, threads=1) as client:
            result = client.upscale(PICTURE[:11, :7], seed=4, first_stage="sr16")
            found.append(result.image)
    assert found[0].shape == (44, 28, 3)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_progress_counts_the_evaluations(bundle: Bundle, server: str) -> None:
    """Heun's two of every step but the last, here and there, as the cost says."""
    for cut in (0, 4):
        with Client(bundle, server=server, cut=cut, threads=1) as client:
            events = list(client.events(REQUESTS[1]))
        done = [e.done for e in events if getattr(e, "stage", "") == "base" and hasattr(e, "done")]
        total = {
            e.total for e in events if getattr(e, "stage", "") == "base" and hasattr(e, "done")
        }
        assert total == {9}
        assert max(done) == 9
