"""The product's first law: the same request with the same seed is the same picture at every cut."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.codecs.image import decode_image, encode_image
from cascade.diffusion.request_options import DiffusionOptions
from cascade.events import Accepted, Event, Preview, Progress, StageFinished, Transferred
from cascade.request import GenerateRequest
from runtime_client.client import Client
from runtime_client.config import ClientConfig, PictureFormat
from tests.congruence.children import LocalAnswers

CUTS = range(5)
REQUESTS = (
    GenerateRequest(prompt="a red apple, noto style", seed=1),
    GenerateRequest(prompt="a green cat", seed=2**64 - 1, image_index=3),
    GenerateRequest(prompt="apple", options={"base": DiffusionOptions(steps=5, guidance=1.0)}),
    GenerateRequest(
        prompt="cat , cat", options={"sr16": DiffusionOptions(augmentation=0.3, steps=2)}
    ),
    GenerateRequest(prompt="a cat", last_stage="sr16", seed=7),
)


def check_same(bundle_images: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> None:
    """Every stage's picture, byte for byte."""
    for name, image in found.items():
        np.testing.assert_array_equal(image, bundle_images[name], err_msg=name)


@pytest.mark.parametrize("transport", ["unix", "tcp"])
@pytest.mark.parametrize("cut", CUTS)
def test_every_cut_makes_the_same_picture(
    bundle: Bundle, answers: LocalAnswers, addresses: dict[str, str], cut: int, transport: str
) -> None:
    """Over a Unix socket and over TCP, for several prompts, seeds and options."""
    with Client(bundle, server=addresses[transport], cut=cut, threads=1) as client:
        for request in REQUESTS:
            result = client.run(request)
            expected = answers.images(request)
            assert result.image.shape == expected[request.last_stage or "sr32"].shape
            check_same(expected, dict(result.images))


def test_the_format_of_pictures_changes_bytes_and_no_picture(
    bundle: Bundle, answers: LocalAnswers, tcp_server: str
) -> None:
    """Raw pixels from this machine unless WebP is asked for, as behind a tunnel."""
    taken = {}
    for name in ("auto", "raw", "webp"):
        config = ClientConfig(server=tcp_server, cut=2, threads=1, picture_format=name)
        with Client(bundle, config) as client:
            result = client.run(REQUESTS[0])
        check_same(answers.images(REQUESTS[0]), dict(result.images))
        taken[name] = result.bytes_down
        assert sum(result.packing.values()) == pytest.approx(result.seconds["serialise"])
    assert taken["webp"] != taken["raw"]
    assert abs(taken["auto"] - taken["raw"]) < 100


@pytest.mark.parametrize("name", ["webp90", "jpeg", "avif"])
def test_a_format_that_loses_is_near_the_picture_and_says_so(
    bundle: Bundle, answers: LocalAnswers, tcp_server: str, name: PictureFormat
) -> None:
    """The very bytes of that format; what another hop begins with is sent without loss."""
    request = REQUESTS[0]
    right = answers.images(request)
    lossy = ClientConfig(server=tcp_server, cut=2, threads=1, picture_format=name)
    with Client(bundle, lossy) as client:
        result = client.run(request)
    data = encode_image(right["sr32"], name)
    assert np.array_equal(result.image, decode_image(data, name, (32, 32), field="image"))
    assert not np.array_equal(result.image, right["sr32"])
    assert result.sent_as == name
    places = {"*": "there", "sr32": "here"}
    hops = ClientConfig(server=tcp_server, placement=places, threads=1, picture_format=name)
    with Client(bundle, hops) as client:
        result = client.run(request)
    check_same(right, dict(result.images))
    assert result.sent_as == ""


def test_a_private_server_makes_the_same_picture(bundle: Bundle, answers: LocalAnswers) -> None:
    """With no address at all, from the first component after the cut on."""
    with Client(bundle, cut=3, threads=1) as client:
        check_same(answers.images(REQUESTS[0]), dict(client.run(REQUESTS[0]).images))


def test_requests_in_flight_together_do_not_mix(
    bundle: Bundle, answers: LocalAnswers, unix_server: str
) -> None:
    """Two at a time on one client, each its own picture."""
    requests = [GenerateRequest(prompt="a red cat", seed=seed) for seed in range(8)]
    with (
        Client(bundle, server=unix_server, cut=2, threads=1) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        results = list(pool.map(client.run, requests))
    for request, result in zip(requests, results, strict=True):
        check_same(answers.images(request), dict(result.images))


@pytest.mark.parametrize("cut", [0, 2])
def test_events_come_in_order(bundle: Bundle, unix_server: str, cut: int) -> None:
    """Components in order, previews inside their stage, the traffic last."""
    request = GenerateRequest(prompt="a cat", preview_every=1)
    with Client(bundle, server=unix_server, cut=cut, threads=1) as client:
        events: list[Event] = list(client.events(request))
    finished = [e.stage for e in events if isinstance(e, StageFinished)]
    assert finished == ["text_encoder", "base", "sr16", "sr32"]
    seen = [e.stage for e in events if isinstance(e, Progress | Preview | StageFinished)]
    assert seen == sorted(seen, key=finished.index)
    assert sum(isinstance(e, Accepted) for e in events) == 1
    assert {e.stage for e in events if isinstance(e, Preview)} == {"base", "sr16", "sr32"}
    assert isinstance(events[-1], Transferred)
    assert events[-1].bytes_up > 0
    assert events[-1].bytes_down > 32 * 32 * 3


def test_the_second_request_of_a_prompt_sends_less(bundle: Bundle, unix_server: str) -> None:
    """The context goes up once; then its handle is enough.

    What comes down is not compared: progress that nobody reads in time is left out.
    """
    with Client(bundle, server=unix_server, cut=2, threads=1) as client:
        first = client.generate("a red apple , noto style", seed=1)
        second = client.generate("a red apple , noto style", seed=1)
        other = client.generate("a green apple , noto style", seed=1)
    assert second.bytes_up < first.bytes_up
    assert other.bytes_up > second.bytes_up


def test_where_the_time_went_adds_up(bundle: Bundle, unix_server: str) -> None:
    """Every hop is named, and the hops are not more than the total."""
    with Client(bundle, server=unix_server, cut=2, threads=1) as client:
        client.generate("a cat")
        seconds = dict(client.generate("a cat").seconds)
    hops = {"tokenise", "encode", "base", "serialise", "upload", "queue", "sr16", "sr32"}
    assert hops <= seconds.keys()
    total = seconds.pop("total")
    assert 0 < sum(seconds.values()) <= 1.05 * total
