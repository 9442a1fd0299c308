"""Edits over HTTP: the pictures that the Python client gets of the same picture and mask."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from cascade.bundle.bundle import Bundle
from cascade.edit import Edit
from cascade.request import GenerateRequest
from cascade.types import Array, ImageU8
from runtime_client.client import Client
from tests.support.http_calls import ask
from tests.support.serving import PROMPT, RunningServer, running

EDITS = "/v1/images/edits"
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.fixture(scope="module")
def server(bundle: Bundle) -> Iterator[RunningServer]:
    """A server of the quick bundle with both doors."""
    with running(bundle, http="127.0.0.1:0") as running_server:
        yield running_server


def own() -> ImageU8:
    """A picture `[32, 40, 3]` of two slopes and an edge."""
    y, x = np.mgrid[0:32, 0:40]
    return np.stack((x * 6, y * 7, (x > y) * 200), -1).astype(np.uint8)


def hole() -> np.ndarray:
    """A mask `[32, 40]` with a hole in the middle, 255."""
    mask = np.zeros((32, 40), np.uint8)
    mask[8:16, 12:28] = 255
    return mask


def png(pixels: Array) -> bytes:
    """A PNG file of RGB or RGBA."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def transparent(mask: np.ndarray) -> bytes:
    """A mask as the API has it: transparent is made anew."""
    return png(np.dstack([own(), 255 - mask]))


def decoded(text: str | None) -> Array:
    """The pixels of a picture in base64."""
    with Image.open(io.BytesIO(base64.b64decode(text or ""))) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("kind", ["image-to-image", "inpainting"])
def test_an_edit_is_that_of_the_python_client(
    server: RunningServer, bundle: Bundle, kind: str
) -> None:
    """With the official package, whole and as a stream with the true pictures on the way."""
    masked = kind == "inpainting"
    edit = Edit(picture=own(), mask=hole() if masked else None, resample=2 if masked else 1)
    with Client(bundle, server=server.address, cut=0) as plain:
        right = plain.run(GenerateRequest(prompt=PROMPT, seed=4, edit=edit))
    files: dict[str, Any] = {"image": ("own.png", png(own()))}
    if masked:
        files["mask"] = ("mask.png", transparent(hole()))
    extra = {"seed": 4, "resample": edit.resample}
    with openai.OpenAI(
        base_url=f"http://{server.http}/v1", api_key="none", max_retries=0
    ) as client:
        made = client.images.edit(prompt=PROMPT, extra_body=extra, **files)
        assert made.data is not None
        assert np.array_equal(decoded(made.data[0].b64_json), right.image)
        more = {**extra, "partial_format": "png"}
        stream = client.images.edit(
            prompt=PROMPT, stream=True, partial_images=2, extra_body=more, **files
        )
        events = list(stream)
    kinds = ["image_edit.partial_image"] * 2 + ["image_edit.completed"]
    assert [event.type for event in events] == kinds
    for event, name in zip(events, ("base", "sr16", "sr32"), strict=True):
        assert np.array_equal(decoded(event.b64_json), right.images[name])


def form(*parts: tuple[str, bytes]) -> bytes:
    """A body with the boundary `x`."""
    head = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    return b"".join(head % (name.encode(), data) for name, data in parts) + b"--x--\r\n"


IMAGE, WORDS = ("image", png(own())), ("prompt", PROMPT.encode())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", "body"),
        (b"--x", "body"),
        (form(IMAGE, WORDS)[:-5], "body"),
        (form(*[("n", b"1")] * 65), "body"),
        (b"--x\r\n\r\ndata\r\n--x--\r\n", "body"),
        (form(WORDS), "image"),
        (form(IMAGE, IMAGE), "image"),
        (form(IMAGE, WORDS, WORDS), "prompt"),
        (form(("image", b"GIF89a"), WORDS), "image"),
        (form(("image", png(np.zeros((1, 2049, 3), np.uint8))), WORDS), "image"),
        (form(("image", IMAGE[1][:60]), WORDS), "image"),
        (form(IMAGE, ("mask", png(own())), WORDS), "mask"),
        (form(IMAGE, ("mask", transparent(hole())[:80]), WORDS), "mask"),
        (form(IMAGE, ("mask", transparent(np.zeros((32, 40), np.uint8))), WORDS), "edit.mask"),
        (form(IMAGE, WORDS, ("strength", b"2")), "edit.strength"),
        (form(IMAGE, WORDS, ("strength", b"[" * 9999)), "strength"),
        (form(IMAGE, WORDS, ("resample", b"21")), "resample"),
        (form(IMAGE, WORDS, ("resample", b"2")), "edit.resample"),
        (form(IMAGE, WORDS, ("../n", b"2")), "../n"),
    ],
    ids=range(19),
)
def test_a_form_that_is_wrong(server: RunningServer, body: bytes, param: str) -> None:
    """Each ends in a typed error that names the part."""
    refused = ask(server.http, body, EDITS, FORM)
    assert (refused.status, refused.error["param"]) == (400, param), refused.body
    assert len(refused.body) < 2000


def test_a_body_that_is_no_form(server: RunningServer) -> None:
    """By its declared type, whatever is in it."""
    for kind in ("application/json", "multipart/form-data", "multipart/form-data; boundary="):
        refused = ask(server.http, form(IMAGE, WORDS), EDITS, {"Content-Type": kind})
        assert (refused.status, refused.error["param"]) == (400, "content-type")
