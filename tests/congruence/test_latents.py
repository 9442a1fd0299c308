"""A cascade of latents: the same bits at every cut and at every placement, up and down."""

from collections.abc import Iterator

import numpy as np
import pytest

from cascade.boundary import Image, Tensor
from cascade.bundle.bundle import Bundle
from cascade.edit import Edit
from cascade.errors import InvalidRequest
from cascade.events import Preview, StageFinished
from cascade.generate import generate
from cascade.request import GenerateRequest, Handoff
from cascade.stage_factory import open_stages
from cascade.tuning.plan import EnginePlan
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_client.client import Client
from tests.support.latent_bundle import NAMES, write_latent_bundle
from tests.support.serving import (
    RunningServer,
    connect,
    request_message,
    results_of,
    running,
)

REQUEST = GenerateRequest(prompt="a red apple", seed=3)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Nine components, five of them make latents."""
    return write_latent_bundle(tmp_path_factory.mktemp("latents") / "bundle")


@pytest.fixture(scope="module")
def server(bundle: Bundle) -> Iterator[RunningServer]:
    """A server of every component."""
    with running(bundle, cut=0) as started:
        yield started


@pytest.fixture(scope="module")
def handoffs(bundle: Bundle) -> dict[str, Handoff]:
    """What every component makes here."""
    stages = open_stages(bundle, range(len(NAMES)), EnginePlan(threads=1))
    events = list(generate(stages, REQUEST))
    for stage in stages:
        stage.close()
    return {e.stage: e.handoff for e in events if isinstance(e, StageFinished)}


def made_by(client: Client, request: GenerateRequest = REQUEST) -> dict[str, Handoff]:
    """What every component of a request makes, wherever it runs."""
    return {e.stage: e.handoff for e in client.events(request) if isinstance(e, StageFinished)}


def check_same(found: dict[str, Handoff], expected: dict[str, Handoff]) -> None:
    """Every picture and every latent, to the bit and the dtype."""
    assert list(found) == list(expected)
    for name, handoff in expected.items():
        for kind in ("image", "tensor"):
            mine, theirs = getattr(found[name], kind), getattr(handoff, kind)
            assert (mine is None) == (theirs is None), name
            if mine is not None:
                assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
                assert mine.tobytes() == theirs.tobytes(), name


def test_every_component_makes_what_the_manifest_says(
    bundle: Bundle, handoffs: dict[str, Handoff]
) -> None:
    """Latents of their shapes and dtypes, pictures of theirs, never both."""
    for spec in bundle.manifest.components:
        handoff, made = handoffs[spec.name], spec.makes
        if isinstance(made, Tensor):
            assert handoff.image is None
            assert handoff.tensor is not None
            assert (handoff.tensor.shape, handoff.tensor.dtype.name) == (made.shape, made.dtype)
        elif isinstance(made, Image):
            assert handoff.tensor is None
            assert handoff.image is not None
            assert handoff.image.shape == made.shape
            assert handoff.image.std() > 1


@pytest.mark.parametrize("cut", range(len(NAMES) + 1))
def test_every_cut_makes_the_same_bits(
    bundle: Bundle, server: RunningServer, handoffs: dict[str, Handoff], cut: int
) -> None:
    """The picture and every latent and picture on the way, from either side."""
    with Client(bundle, server=server.address, cut=cut, threads=1) as client:
        check_same(made_by(client), handoffs)


@pytest.mark.parametrize("first", [0, 1])
def test_components_in_turns_here_and_there_make_the_same_bits(
    bundle: Bundle, server: RunningServer, handoffs: dict[str, Handoff], first: int
) -> None:
    """So each latent and picture travels up once, and down once."""
    places = {name: ("here", "there")[(at + first) % 2] for at, name in enumerate(NAMES)}
    with Client(bundle, server=server.address, placement=places, threads=1) as client:
        check_same(made_by(client), handoffs)


def test_a_latent_shows_no_preview_and_pictures_are_those_of_decoders(
    bundle: Bundle, server: RunningServer
) -> None:
    """Three stages of a result have a picture; the last one is the request's."""
    request = GenerateRequest(prompt="a cat", previews=4)
    with Client(bundle, server=server.address, cut=2, threads=1) as client:
        assert not [e for e in client.events(request) if isinstance(e, Preview)]
        result = client.run(request)
    assert list(result.images) == ["decode", "show", "final"]
    assert result.image.shape == (128, 96, 3)


def test_a_request_can_end_with_a_decoder_and_not_with_a_latent(
    bundle: Bundle, server: RunningServer, handoffs: dict[str, Handoff]
) -> None:
    """By the name of the stage."""
    with Client(bundle, server=server.address, cut=1, threads=1) as client:
        short = client.run(GenerateRequest(prompt="a red apple", seed=3, last_stage="show"))
        np.testing.assert_array_equal(short.image, handoffs["show"].image)
        with pytest.raises(InvalidRequest, match="expected one of decode, show, final") as caught:
            client.run(GenerateRequest(prompt="a red apple", last_stage="up"))
    assert caught.value.field == "last_stage"


@pytest.mark.parametrize("cut", [0, 4, 9])
def test_an_own_picture_of_the_declared_size_begins_at_an_encoder(
    bundle: Bundle, server: RunningServer, handoffs: dict[str, Handoff], cut: int
) -> None:
    """With words or without; of another size it is refused with the size that there is."""
    picture = handoffs["decode"].image
    with Client(bundle, server=server.address, cut=cut, threads=1) as client:
        own = GenerateRequest(
            prompt="a red apple", picture=picture, own_picture=True, first_stage="encode", seed=3
        )
        np.testing.assert_array_equal(client.run(own).image, handoffs["final"].image)
        wordless = GenerateRequest(picture=picture, own_picture=True, first_stage="encode", seed=3)
        assert client.run(wordless).image.shape == (128, 96, 3)
        small = GenerateRequest(picture=picture[1:], own_picture=True, first_stage="encode")
        with pytest.raises(InvalidRequest, match="24x32, got 24x31") as caught:
            client.run(small)
    assert caught.value.field == "image"


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"size": (192, 256)}, "size", "decode makes a picture of 24x32 alone"),
        ({"edit": "picture"}, "edit", "takes no steps"),
    ],
)
def test_what_latents_cannot_do_is_refused_by_name(
    bundle: Bundle,
    server: RunningServer,
    handoffs: dict[str, Handoff],
    changes: dict[str, object],
    field: str,
    words: str,
) -> None:
    """Other sizes, and pictures that are made of one's own."""
    if "edit" in changes:
        changes = {"edit": Edit(picture=handoffs["decode"].image)}
    with (
        Client(bundle, server=server.address, cut=1, threads=1) as client,
        pytest.raises(InvalidRequest, match=words) as caught,
    ):
        client.run(GenerateRequest(prompt="a cat", **changes))  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a_repeated_and_a_resumed_call_bring_the_same_latents(
    bundle: Bundle, server: RunningServer, handoffs: dict[str, Handoff]
) -> None:
    """From the results on that the caller holds: what was kept is sent, bit for bit."""
    with connect(server.address) as caller:
        message = request_message(
            bundle, request_id="latents-1", prompt=pb.PromptStart(prompt="a red apple"), seed=3
        )
        whole = results_of(caller.generate(message))
        assert list(whole) == list(NAMES)
        message.results_held = 2
        rest = results_of(caller.generate(message))
        resumed = results_of(
            caller.generate(
                request_message(
                    bundle, request_id="latents-1", resume=pb.ResumeStart(), results_held=4
                )
            )
        )
    assert list(rest) == list(NAMES[2:])
    assert list(resumed) == list(NAMES[4:])
    for name, result in {**rest, **resumed}.items():
        assert result == whole[name]
    low = whole["low"].tensor
    assert low.data == np.asarray(handoffs["low"].tensor, "<f4").tobytes()
    assert not whole["low"].HasField("context")
