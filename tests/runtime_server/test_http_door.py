"""The HTTP door: pictures, refusals and endings of gRPC's door, spelt as OpenAI's API has them."""

import base64
import http.client
import io
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from cascade.bundle.bundle import Bundle
from cascade.codecs.image import encode_image
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import InvalidRequest
from cascade.request import GenerateRequest
from cascade.types import Array
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_client.client import Client
from runtime_server.auth.static_keys import hash_token, make_token
from runtime_server.config.config import ServerConfig
from runtime_server.http_door.door import MAX_BODY_BYTES
from runtime_server.http_door.http_errors import STATUSES
from runtime_server.http_door.image_ask import EDIT_READERS
from runtime_server.telemetry.metrics import PrometheusMetrics
from runtime_server.telemetry.server_events import CallEnded
from tests.support.http_calls import ask, events_of, words
from tests.support.serving import (
    PROMPT,
    RunningServer,
    connect,
    request_message,
    results_of,
    running,
    wait_until,
)
from tests.support.unhurried_engine import UnhurriedEngine

ONE = {name: pb.StageOptions(steps=1) for name in ("base", "sr16", "sr32")}
LONG = {"base": 1, "sr16": 1000, "sr32": 1000}
HTTP = {"http": "127.0.0.1:0"}
ROOT = Path(__file__).parents[2]
STATUS_ROWS = re.compile(r"^\| (\d{3}(?:, \d{3})*) \|", re.MULTILINE)


@pytest.fixture(scope="module")
def server(bundle: Bundle) -> Iterator[RunningServer]:
    """A server of the quick bundle with both doors."""
    with running(bundle, **HTTP) as running_server:
        yield running_server


@pytest.fixture(scope="module")
def slow(slow_bundle: Bundle) -> Iterator[RunningServer]:
    """One whose steps last."""
    with running(slow_bundle, UnhurriedEngine, max_linger_s=60.0, **HTTP) as running_server:
        yield running_server


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    """The official package."""
    with openai.OpenAI(
        base_url=f"http://{server.http}/v1", api_key="none", max_retries=0
    ) as connected:
        yield connected


def by_grpc(server: RunningServer, bundle: Bundle, **fields: Any) -> dict[str, Any]:
    """The encoded pictures of gRPC's door by stage."""
    start = pb.PromptStart(prompt=PROMPT)
    fields = {"options": ONE, "prompt": start, **fields}
    with connect(server.address) as caller:
        results = results_of(caller.generate(request_message(bundle, **fields)))
    return {name: result.image.data for name, result in results.items() if result.image.data}


def decoded(data: bytes) -> Array:
    """The pixels of a picture file."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize(
    ("name", "number"),
    [("png", pb.IMAGE_FORMAT_PNG), ("webp", pb.IMAGE_FORMAT_WEBP), ("jpeg", pb.IMAGE_FORMAT_JPEG)],
)
def test_a_picture_is_that_of_grpc_to_the_byte(
    client: openai.OpenAI, server: RunningServer, bundle: Bundle, name: Any, number: int
) -> None:
    """Same seed, same file, in every format that both have."""
    made = client.images.generate(
        prompt=PROMPT,
        size="auto",
        output_format=name,
        extra_body={"seed": 7, "steps": {"base": 1, "sr16": 1, "sr32": 1}},
    )
    assert made.data is not None
    right = by_grpc(server, bundle, seed=7, output=pb.OutputOptions(format=number))
    assert base64.b64decode(made.data[0].b64_json or "") == right["sr32"]
    assert (made.size, made.output_format) == ("32x32", name)


def test_several_pictures_are_those_of_successive_image_indices(
    server: RunningServer, bundle: Bundle
) -> None:
    """Of a size that is not the last one, all in one answer."""
    made = ask(server.http, words(n=3, size="16x16", seed=5, image_index=2)).pictures
    right = [by_grpc(server, bundle, seed=5, image_index=at)["sr16"] for at in (2, 3, 4)]
    assert made == right


def test_a_stream_has_the_true_pictures_on_the_way(
    client: openai.OpenAI, server: RunningServer, bundle: Bundle
) -> None:
    """Those of the stages before, lossy unless a format is asked for; then the picture itself."""
    right = by_grpc(server, bundle, seed=3)
    extra = {"seed": 3, "steps": {"base": 1, "sr16": 1, "sr32": 1}}
    for more, form in (({}, "jpeg"), ({"partial_format": "png"}, "png")):
        stream = client.images.generate(
            prompt=PROMPT, stream=True, partial_images=3, extra_body={**extra, **more}
        )
        events = list(stream)
        kinds = ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
        assert [event.type for event in events] == kinds
        shown = [base64.b64decode(event.b64_json) for event in events]
        pictures = [decoded(right[name]) for name in ("base", "sr16")]
        assert shown[:2] == [encode_image(picture, form) for picture in pictures]
        assert shown[2] == right["sr32"]
        assert [event.size for event in events] == ["8x8", "16x16", "32x32"]
        assert [event.partial_image_index for event in events[:2]] == [0, 1]  # type: ignore[union-attr]
    alone = ask(server.http, words(stream=True))
    assert [name for name, _ in events_of(alone.body)] == ["image_generation.completed"]


def test_words_to_be_guided_away_from_and_a_style_are_the_clients(
    server: RunningServer, bundle: Bundle
) -> None:
    """A negative prompt and a guidance weight give what the Python client gets."""
    options = {
        "base": DiffusionOptions(steps=2, guidance=3.0),
        **{name: DiffusionOptions(steps=1) for name in ("sr16", "sr32")},
    }
    request = GenerateRequest(prompt=PROMPT, negative="a cat", seed=2, options=options)
    with Client(bundle, server=server.address, cut=0) as plain:
        right = plain.run(request).image
    body = words(
        prompt="a red apple",
        style="noto",
        seed=2,
        negative_prompt="a cat",
        steps={"base": 2, "sr16": 1, "sr32": 1},
        guidance=3,
    )
    (made,) = ask(server.http, body).pictures
    assert np.array_equal(decoded(made), right)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"output_format": "webp90"}, "WEBP"),
        ({"output_format": "webp", "output_compression": 40}, "WEBP"),
        ({"output_format": "jpeg", "output_compression": 100}, "JPEG"),
        ({"output_format": "avif"}, "AVIF"),
    ],
)
def test_formats_that_lose_are_near_the_pixels(
    server: RunningServer, bundle: Bundle, fields: dict[str, Any], kind: str
) -> None:
    """Of the right format and size; the same request without loss has the exact ones."""
    (made,) = ask(server.http, words(seed=1, **fields)).pictures
    with Image.open(io.BytesIO(made)) as picture:
        assert (picture.format, picture.size) == (kind, (32, 32))
    right = decoded(by_grpc(server, bundle, seed=1)["sr32"])
    apart = np.abs(decoded(made).astype(int) - right).mean()
    assert apart < 60
    exact = words(seed=1, output_format="webp", output_compression=100)
    assert np.array_equal(decoded(ask(server.http, exact).pictures[0]), right)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * 1001}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"n": 11}, "n"),
        ({"n": True}, "n"),
        ({"n": 2, "stream": True}, "n"),
        ({"size": "1x1"}, "size"),
        ({"quality": "hd"}, "quality"),
        ({"background": "transparent"}, "background"),
        ({"output_format": "gif"}, "output_format"),
        ({"output_compression": 101}, "output_compression"),
        ({"output_compression": 50}, "output_compression"),
        ({"partial_images": 1}, "partial_images"),
        ({"partial_images": 4, "stream": True}, "partial_images"),
        ({"response_format": "url"}, "response_format"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"seed": 1.5}, "seed"),
        ({"steps": 0}, "options.base.steps"),
        ({"steps": {"none": 1}}, "steps"),
        ({"steps": {"text_encoder": 1}}, "steps"),
        ({"steps": 1.5}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"guidance": 101}, "options.base.guidance"),
        ({"negative_prompt": "a cat", "guidance": 1}, "negative_prompt"),
        ({"vectors": [1, 2]}, "vectors"),
        ({"vectors": {"face": "1,2"}}, "vectors.face"),
        ({"vectors": {"face": ["1", 2]}}, "vectors.face"),
        ({"vectors": {"face": [True]}}, "vectors.face"),
        ({"vectors": {"face": [1e300]}}, "vectors.face"),
        ({"vectors": {"face": [[1]]}}, "vectors.face"),
        ({"vectors": {"Face": [1]}}, "vectors.Face"),
        ({"vectors": {"face": [1]}}, "vectors.face"),
        ({"linger_seconds": -1}, "linger_seconds"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_field_is_named(server: RunningServer, fields: dict[str, Any], param: str) -> None:
    """By the same checks as behind gRPC's door, or before them where JSON has more types."""
    refused = ask(server.http, {**words(), **fields})
    assert (refused.status, refused.error["param"]) == (400, param), refused.body
    assert refused.error["type"] == "invalid_request_error"
    assert refused.error["code"] == "invalid_request"


def test_errors_are_those_of_the_package(client: openai.OpenAI) -> None:
    """Its own classes, by their status."""
    with pytest.raises(openai.BadRequestError) as wrong:
        client.images.generate(prompt="")
    assert wrong.value.param == "prompt"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.images.generate(prompt=PROMPT, model="dall-e-3")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as broken:
        client.images.edit(image=b"x", prompt=PROMPT)
    assert (broken.value.param, broken.value.code) == ("image", "image_codec_error")


def test_the_models_are_the_bundle(client: openai.OpenAI, bundle: Bundle) -> None:
    """By its name, which a request may give, as it may its id."""
    (model,) = client.models.list().data
    assert model.id == bundle.manifest.name
    extra = {"steps": 1}
    for name in (model.id, bundle.bundle_id):
        assert client.images.generate(prompt=PROMPT, model=name, size="auto", extra_body=extra).data


def test_a_path_and_a_method_that_are_none(server: RunningServer) -> None:
    """Typed errors, and what would be right."""
    unknown = ask(server.http, path="/v1/../etc/passwd").error
    assert unknown["code"] == "unknown_path"
    assert "/v1/images/generations, /v1/images/edits and /v1/models" in unknown["message"]
    wrong = ask(server.http, method="DELETE")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")


def test_an_id_is_not_worked_on_twice(server: RunningServer) -> None:
    """The same key and content give the kept picture; other content is refused."""
    headers = {"Idempotency-Key": "once-1"}
    first = ask(server.http, words(seed=9), headers=headers)
    again = ask(server.http, words(seed=9), headers=headers)
    assert first.pictures == again.pictures
    assert again.headers["x-request-id"] == "once-1"
    taken = ask(server.http, words(seed=10), headers=headers)
    assert (taken.status, taken.error["code"]) == (409, "request_id_taken")
    assert ask(server.http, words(), headers={"Idempotency-Key": "no id"}).status == 400


def test_fifty_at_once(server: RunningServer, bundle: Bundle) -> None:
    """Each has its own picture, and nothing is left inside."""
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda n: busy_ask(server, words(seed=n, size="8x8")), range(50)))
    right = by_grpc(server, bundle, seed=49)["base"]
    assert answers[49] == right
    assert len(set(answers)) == 50
    wait_until(lambda: server.is_at_rest)


def busy_ask(server: RunningServer, body: dict[str, Any]) -> bytes:
    """One picture, asked for again where the server has no room; with the pause that it names."""
    while (answer := ask(server.http, body)).status == 503:
        assert int(answer.headers["retry-after"]) >= 1
        threading.Event().wait(0.05)
    return answer.pictures[0]


@pytest.mark.parametrize("answer", ["whole", "stream"])
def test_a_caller_that_goes_ends_the_work(slow: RunningServer, answer: str) -> None:
    """Within a step; one that lingers is worked for until it comes back."""

    def go(**fields: Any) -> None:
        connection = http.client.HTTPConnection(slow.http, timeout=60)
        body = json.dumps(words(steps=LONG, stream=answer == "stream", **fields))
        connection.request("POST", "/v1/images/generations", body)
        wait_until(lambda: bool(slow.core.executor.counts.running))
        connection.close()
        if connection.sock is not None:
            connection.sock.close()

    go()
    wait_until(lambda: slow.is_at_rest)
    go(linger_seconds=60)
    (lingering,) = slow.requests.index.running
    wait_until(lambda: not lingering.has_subscribers)
    assert slow.core.executor.counts.running
    with connect(slow.address) as caller:
        assert caller.cancel(lingering.key.request_id)
    wait_until(lambda: slow.is_at_rest)


def test_a_time_limit_is_the_calls_deadline(slow: RunningServer) -> None:
    """The work is ended at the server."""
    late = ask(slow.http, words(steps=LONG, timeout_seconds=0.3))
    assert (late.status, late.error["code"]) == (504, "deadline_exceeded")
    wait_until(lambda: slow.is_at_rest)


def test_tokens_quota_and_room_are_those_of_grpc(bundle: Bundle, tmp_path: Any) -> None:
    """Who has none is refused before the body; who has used up its own is told when to return."""
    token, keys = make_token(), tmp_path / "keys.toml"
    keys.write_text(f'alice = "{hash_token(token)}"\n')
    with running(bundle, token_keys=keys, quota_megapixels_per_minute=0.001, **HTTP) as guarded:
        nobody = ask(guarded.http, words())
        assert (nobody.status, nobody.error["code"]) == (401, "unauthenticated")
        assert nobody.headers["www-authenticate"] == "Bearer"
        assert ask(guarded.http, path="/v1/models").status == 401
        mine = {"Authorization": f"Bearer {token}"}
        assert ask(guarded.http, words(), headers=mine).status == 200
        over = ask(guarded.http, words(seed=1), headers=mine)
        assert (over.status, over.error["code"]) == (429, "quota_exceeded")
        assert over.error["type"] == "rate_limit_error"
        assert int(over.headers["retry-after"]) >= 1
        with (
            openai.OpenAI(
                base_url=f"http://{guarded.http}/v1", api_key="wrong", max_retries=0
            ) as stranger,
            pytest.raises(openai.AuthenticationError),
        ):
            stranger.images.generate(prompt=PROMPT)


def test_a_server_that_ends_refuses_and_finishes(slow_bundle: Bundle) -> None:
    """What was inside is answered, what comes is refused."""
    with running(slow_bundle, **HTTP) as server, ThreadPoolExecutor(1) as pool:
        inside = pool.submit(ask, server.http, words(steps={"base": 1, "sr16": 40, "sr32": 1}))
        wait_until(lambda: bool(server.core.executor.counts.running))
        server.server.generations.refuse_new()
        refused = ask(server.http, words())
        assert (refused.status, refused.error["code"]) == (503, "transport_error")
        assert inside.result().status == 200


def test_beyond_this_machine_it_wants_tls_as_grpc_does(bundle: Bundle) -> None:
    """And nobody is let in without a name there."""
    with pytest.raises(InvalidRequest, match=r"^http: .* would be plaintext") as plain:
        ServerConfig(bundle=bundle.folder, http="0.0.0.0:0")
    assert plain.value.field == "http"
    with pytest.raises(InvalidRequest, match="anonymous: nobody could call"):
        ServerConfig(bundle=bundle.folder, http="0.0.0.0:0", insecure=True)


def test_the_page_has_every_field_and_status() -> None:
    """Of the body, and of the errors."""
    page = (ROOT / "docs" / "reference" / "http-api.md").read_text()
    assert [name for name in EDIT_READERS if f"| `{name}` |" not in page] == []
    listed = {int(n) for row in STATUS_ROWS.findall(page) for n in row.split(", ")}
    assert {*STATUSES.values(), 405, 408, 429, 500} - {499, 501} <= listed
    assert f"{MAX_BODY_BYTES:,} bytes" in page


def test_calls_are_counted_and_traced_as_those_of_grpc(bundle: Bundle) -> None:
    """Under names of a fixed set, with the code that gRPC would give."""
    events: list[object] = []
    with running(bundle, emit=events.append, **HTTP) as server:
        ask(server.http, words())
        ask(server.http, words(n=0))
        ask(server.http, path="/made/up")
        wait_until(lambda: sum(isinstance(event, CallEnded) for event in events) == 3)
    ended = [(each.method, each.code) for each in events if isinstance(each, CallEnded)]
    assert ended == [
        ("/openai.v1.Images/Create", "OK"),
        ("/openai.v1.Images/Create", "INVALID_ARGUMENT"),
        ("/unknown/unknown", "INVALID_ARGUMENT"),
    ]
    counted = PrometheusMetrics()
    for event in events:
        counted(event)  # type: ignore[arg-type]
    name = 'grpc_method="Create",grpc_service="openai.v1.Images"'
    assert name in counted.exposition().decode()
