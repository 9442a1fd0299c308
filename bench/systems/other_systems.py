"""What a user would use instead: a function of one's own, or a server behind an HTTP address.

`torch:MODULE:FACTORY` imports a module and calls its factory, which returns a function of prompt
and seed that returns a picture or yields several. `system:MODULE:FACTORY` makes a whole `System`.
`diffusers:DIR` is a pipeline from a folder. `http://...` is an OpenAI-like images endpoint. None is
held to our pictures. Knows no torch: the module may.
"""

import base64
import importlib
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from bench.systems.diffusers_system import PREFIX, DiffusersSystem
from bench.systems.system import OnPicture, PictureOutcome, System
from bench.workload import WorkItem
from cascade.errors import InvalidRequest, StageError, TransportError
from cascade.types import ImageU8

TORCH, SYSTEM, SCHEMES = "torch:", "system:", ("http://", "https://")
ANSWERS = ("caching", "describe", "run", "processes", "close")
"""What `System` asks of a class."""
MAX_REPLY_BYTES = 64 << 20
Draw = Callable[[str, int], "ImageU8 | Iterable[ImageU8]"]
"""Prompt and seed to a picture `[height, width, 3]` uint8, or to several, each shown when made."""


def open_other(text: str, timeout_s: float, steps: int) -> System:
    """The system that `--against` names.

    Args:
        text: `torch:MODULE:FACTORY`, `system:MODULE:FACTORY`, `diffusers:DIR`, or an address.
        timeout_s: longest time of one request over HTTP.
        steps: of a pipeline of diffusers.

    Raises:
        InvalidRequest: it is none of them, or not there.
    """
    if text.startswith(PREFIX):
        return DiffusersSystem(text, steps)
    if text.startswith(SCHEMES):
        return HttpSystem(text, timeout_s)
    if text.startswith(TORCH) and text.count(":") == 2:
        return FunctionSystem(text)
    if text.startswith(SYSTEM) and text.count(":") == 2:
        return own_system(text)
    raise InvalidRequest(
        f"against: expected torch:MODULE:FACTORY, system:MODULE:FACTORY, diffusers:DIR or "
        f"http://ADDRESS, got "
        f"{text[:80]!r}",
        field="against",
    )


def made_by(text: str) -> Any:
    """What the factory of `KIND:MODULE:FACTORY` returns; looked for in the working folder too.

    Raises:
        InvalidRequest: there is none.
    """
    _, module, factory = text.split(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), factory)()
    except (ImportError, AttributeError) as exc:
        raise InvalidRequest(f"against: {text}: {exc}", field="against") from exc
    finally:
        sys.path.remove(str(Path.cwd()))


def own_system(text: str) -> System:
    """A `System` of the user's own.

    Raises:
        InvalidRequest: there is none, or it does not answer everything.
    """
    system: System = made_by(text)
    if lacking := [name for name in ANSWERS if not hasattr(system, name)]:
        raise InvalidRequest(
            f"against: {text} lacks {', '.join(lacking)}: see bench/systems/system.py",
            field="against",
        )
    return system


class FunctionSystem:
    """A function of the user's own, in this process."""

    caching: tuple[str, ...] = ()

    def __init__(self, text: str) -> None:
        """Import the module, from the working folder too, and call its factory.

        Args:
            text: `torch:MODULE:FACTORY`.

        Raises:
            InvalidRequest: there is none.
        """
        self._text = text
        self._draw: Draw = made_by(text)

    def describe(self) -> Mapping[str, object]:
        """Its name."""
        return {"kind": "function", "against": self._text}

    def run(self, item: WorkItem, on_picture: OnPicture) -> PictureOutcome:
        """One call."""
        found = self._draw(item.prompt, item.seed)
        pictures = [found] if isinstance(found, np.ndarray) else found
        count = 0
        for count, picture in enumerate(pictures, 1):
            on_picture(f"picture {count}", np.asarray(picture, np.uint8))
        if not count:
            raise StageError(f"{self._text} made no picture")
        return PictureOutcome()

    def processes(self) -> Mapping[str, int]:
        """It shares this process, so that its use is not told apart."""
        return {}

    def close(self) -> None:
        """Nothing to end."""


class HttpSystem:
    """An endpoint that answers `{"prompt", "seed", "n", "response_format"}` with a picture."""

    caching: tuple[str, ...] = ()

    def __init__(self, url: str, timeout_s: float) -> None:
        """Nothing is sent yet.

        Args:
            url: of the endpoint, such as `http://host:8000/v1/images/generations`.
            timeout_s: of one request.
        """
        self._url, self._timeout_s = url, timeout_s

    def describe(self) -> Mapping[str, object]:
        """Its address."""
        return {"kind": "http", "against": self._url}

    def run(self, item: WorkItem, on_picture: OnPicture) -> PictureOutcome:
        """One request; the picture is in `data[0].b64_json` of the reply."""
        asked = {"prompt": item.prompt, "seed": item.seed, "n": 1, "response_format": "b64_json"}
        body = json.dumps(asked).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310 - http(s) alone
        begun = time.perf_counter()
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as reply:  # noqa: S310
                data = reply.read(MAX_REPLY_BYTES)
        except (OSError, urllib.error.URLError) as exc:
            raise TransportError(f"{self._url}: {exc}") from exc
        received = time.perf_counter()
        on_picture("picture 1", picture_of(data))
        hops = {"request": received - begun, "unpack": time.perf_counter() - received}
        return PictureOutcome(hops=hops, bytes_up=len(body), bytes_down=len(data))

    def processes(self) -> Mapping[str, int]:
        """Wherever it is, it is not ours."""
        return {}

    def close(self) -> None:
        """Each request had its own connection."""


def picture_of(reply: bytes) -> ImageU8:
    """The pixels in a reply, `[height, width, 3]` uint8.

    Raises:
        TransportError: it holds no picture.
    """
    try:
        value: Any = json.loads(reply)
        file = BytesIO(base64.b64decode(value["data"][0]["b64_json"], validate=True))
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except (ValueError, KeyError, IndexError, TypeError, UnidentifiedImageError, OSError) as exc:
        raise TransportError(f"a reply without data[0].b64_json of a picture: {exc}") from exc
