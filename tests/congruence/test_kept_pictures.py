"""A picture that a server kept, enlarged again by its request id, without sending it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade.bundle.bundle import Bundle
from cascade.commands.cli import main
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import InvalidRequest, TransportError, UnknownRequest
from cascade.events import Resumed, StageFinished
from cascade.request import GenerateRequest, KeptPicture
from runtime_client.client import Client
from runtime_client.result import Result
from runtime_server.auth.static_keys import hash_token, make_token
from runtime_server.requests.idempotency_index import RequestKey
from tests.support.breakable_wire import BreakableWire
from tests.support.serving import RunningServer, running, wait_until
from tests.support.unhurried_engine import UnhurriedEngine

WORDS, SEED = "a red cat", 3


@pytest.fixture(scope="module")
def server(bundle: Bundle) -> Iterator[RunningServer]:
    """A server of every component, in this process."""
    with running(bundle, cut=0) as running_server:
        yield running_server


@pytest.fixture(scope="module")
def whole(bundle: Bundle, server: RunningServer) -> Result:
    """A finished request whose every stage the server made."""
    with Client(bundle, server=server.address, cut=0) as client:
        return client.generate(WORDS, seed=SEED)


@pytest.fixture
def client(bundle: Bundle, server: RunningServer) -> Iterator[Client]:
    """One whose words are encoded here and whose stages run there."""
    with Client(bundle, server=server.address, cut=1, threads=1) as connected:
        yield connected


@pytest.mark.parametrize("stage", ["base", "sr16"])
def test_it_comes_to_the_pixels_of_the_whole_way(
    client: Client, whole: Result, bundle: Bundle, stage: str
) -> None:
    """From either stage; other seeds, levels, steps and words come to others; nothing goes up."""
    kept = KeptPicture(request_id=whole.request_id, stage=stage)
    again = client.upscale_kept(kept, prompt=WORDS, seed=SEED)
    np.testing.assert_array_equal(again.image, whole.image)
    assert stage not in again.images
    first = "sr16" if stage == "base" else "sr32"
    with Client(bundle, cut=4, threads=1) as here:
        for words, seed, options in (
            (WORDS, 4, {}),
            (None, SEED, {}),
            ("an apple", SEED, {}),
            (WORDS, SEED, {first: DiffusionOptions(augmentation=0.5)}),
            (WORDS, SEED, {"sr32": DiffusionOptions(steps=1)}),
        ):
            other = client.upscale_kept(kept, prompt=words, seed=seed, options=options)
            assert (other.image != whole.image).any()
            sent = GenerateRequest(
                picture=whole.images[stage], own_picture=True, first_stage=first, prompt=words,
                seed=seed, options=options,
            )  # fmt: skip
            np.testing.assert_array_equal(other.image, here.run(sent).image)


@pytest.mark.parametrize("cut", [0, 2])
def test_any_cut_before_it_does(
    bundle: Bundle, server: RunningServer, whole: Result, cut: int
) -> None:
    """The words are encoded on either side; the stages run where the picture is."""
    kept = KeptPicture(request_id=whole.request_id, stage="base")
    with Client(bundle, server=server.address, cut=cut, threads=1) as client:
        again = client.upscale_kept(kept, prompt=WORDS, seed=SEED)
    np.testing.assert_array_equal(again.image, whole.image)


def test_what_was_enlarged_again_is_kept_too(client: Client, whole: Result) -> None:
    """Under its own id: a chain of them, and wide pictures by their size."""
    kept = KeptPicture(request_id=whole.request_id, stage="base")
    second = client.upscale_kept(kept, prompt=WORDS, seed=9)
    third = KeptPicture(request_id=second.request_id, stage="sr16")
    np.testing.assert_array_equal(
        client.upscale_kept(third, prompt=WORDS, seed=9).image, second.image
    )
    wide = client.run(GenerateRequest(prompt=WORDS, seed=1, size=(32, 16)))
    shaped = KeptPicture(request_id=wide.request_id, stage="base", size=(8, 4))
    np.testing.assert_array_equal(
        client.upscale_kept(shaped, prompt=WORDS, seed=1).image, wide.image
    )
    with pytest.raises(InvalidRequest, match=r"kept.width: the picture is 8x4, .* says 8x8"):
        client.upscale_kept(replace(shaped, size=None))


def test_what_is_not_kept_says_why(client: Client, bundle: Bundle, whole: Result) -> None:
    """Gone, of no such stage, of one that ran here, or a stage that does not run there."""
    with pytest.raises(UnknownRequest, match=r"no-id is not kept here.*send the picture") as gone:
        client.upscale_kept(KeptPicture(request_id="no-id", stage="base"))
    assert gone.value.field == "kept.request_id"
    with Client(bundle, server=client.config.server, cut=2, threads=1) as partly:
        half = partly.generate(WORDS, seed=SEED)
    missing = KeptPicture(request_id=half.request_id, stage="base")
    with pytest.raises(UnknownRequest, match="no picture of 'base' here, it made sr16") as other:
        client.upscale_kept(missing)
    assert other.value.field == "kept.stage"
    with pytest.raises(InvalidRequest, match="nothing enlarges what sr32 makes"):
        client.upscale_kept(replace(missing, stage="sr32"))
    with pytest.raises(InvalidRequest, match=r"kept.stage: expected one of base"):
        client.upscale_kept(replace(missing, stage="text_encoder"))
    kept = KeptPicture(request_id=whole.request_id, stage="base")
    with (
        Client(bundle, server=client.config.server, cut=3) as high,
        pytest.raises(InvalidRequest, match=r"sr16 runs here, .*--cut of at most 2"),
    ):
        high.upscale_kept(kept)
    assert client.cancel(half.request_id)
    with pytest.raises(UnknownRequest):
        client.upscale_kept(replace(missing, stage="sr16"))


def test_another_caller_s_looks_like_none(bundle: Bundle, tmp_path: Path) -> None:
    """Both are let in, and each has pictures of its own alone."""
    ann, bob = make_token(), make_token()
    keys = tmp_path / "keys.toml"
    keys.write_text(f'ann = "{hash_token(ann)}"\nbob = "{hash_token(bob)}"')
    with running(bundle, cut=0, token_keys=keys) as guarded:
        where = {"server": guarded.address, "cut": 0}
        with Client(bundle, **where, token=ann) as client:
            made = client.generate(WORDS, seed=SEED)
            kept = KeptPicture(request_id=made.request_id, stage="base")
            np.testing.assert_array_equal(
                client.upscale_kept(kept, prompt=WORDS, seed=SEED).image, made.image
            )
        with (
            Client(bundle, **where, token=bob) as other,
            pytest.raises(UnknownRequest, match="is not kept here"),
        ):
            other.upscale_kept(kept, prompt=WORDS, seed=SEED)


def test_a_lost_line_is_resumed_though_the_picture_is_gone(bundle: Bundle) -> None:
    """The repeated call joins its own work; without that it is refused, and nothing falls back."""
    steps = {"sr32": DiffusionOptions(steps=60)}
    with (
        running(bundle, UnhurriedEngine, cut=0) as server,
        BreakableWire(server.address) as wire,
        Client(bundle, server=wire.address, cut=0, fallback="local") as client,
    ):
        made = client.generate(WORDS, seed=5, options=steps)
        kept = KeptPicture(request_id=made.request_id, stage="base")
        request = GenerateRequest(prompt=WORDS, seed=5, kept=kept, options=steps)
        events = []
        for event in client.events(request):
            events.append(event)
            if isinstance(event, StageFinished) and event.stage == "sr16":
                forget(server, made.request_id)
                wire.cut()
        assert any(isinstance(event, Resumed) for event in events)
        last = [event for event in events if isinstance(event, StageFinished)][-1]
        np.testing.assert_array_equal(last.handoff.image, made.image)
        with pytest.raises(UnknownRequest):
            client.run(request)
        wait_until(lambda: server.is_at_rest)


def test_without_its_server_nothing_falls_back(bundle: Bundle, tmp_path: Path) -> None:
    """The picture is nowhere else: the error is that of the server, not of a missing picture."""
    kept = KeptPicture(request_id="r-1", stage="base")
    gone = f"unix:{tmp_path}/none"
    with (
        Client(bundle, server=gone, cut=1, threads=1, fallback="local") as client,
        pytest.raises(TransportError),
    ):
        client.upscale_kept(kept, prompt=WORDS)


def forget(server: RunningServer, request_id: str) -> None:
    """The server keeps nothing of a request any more, as when room was needed."""
    for key in (request_id, f"{request_id}.0"):
        server.requests.index.forget(RequestKey("anonymous", key))


def test_the_command_line_asks_as_python_does(
    bundle: Bundle, server: RunningServer, whole: Result, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """`--kept`, `--kept-stage` and `--kept-size`; and what contradicts them."""
    out = tmp_path / "again.png"
    base = ["upscale", "-o", str(out), "--bundle", str(bundle.folder), "-q", "--prompt", WORDS]
    base += ["--seed", str(SEED)]
    there = ["--server", server.address, "--kept", whole.request_id]
    for flags in (
        ["--first-stage", "sr16", "--cut", "1"],
        [],
        ["--kept-stage", "base", "--kept-size", "8x8"],
    ):
        assert main([*base, *there, *flags]) == 0
        with Image.open(out) as picture:
            np.testing.assert_array_equal(np.asarray(picture), whole.image)
    assert main(["generate", "--from", str(out), "-o", str(out), *base[3:6]]) == 2
    assert "ask with `cascade upscale --kept`" in capsys.readouterr().err
    for words, flags in (
        ("picture: name a picture, or --kept", []),
        ("kept-stage: it goes with --kept", ["--kept-stage", "base"]),
        ("kept: there is a PICTURE too", [str(out), *there]),
        ("kept: name the --server", ["--kept", "x"]),
        ("first_stage: expected one of sr16, sr32", [*there, "--first-stage", "base"]),
        ("expected WxH", [*there, "--kept-size", "8"]),
    ):
        assert main([*base, *flags]) == 2
        assert words in capsys.readouterr().err
