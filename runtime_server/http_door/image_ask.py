"""What a body of `POST /v1/images/generations` asks for, as a value.

Names and types are checked here, for JSON has them and a message of `Generate` does not. Bounds and
defaults of what a picture is made with are the admission's. Knows JSON; no bundle.
"""

import difflib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from cascade.edit import MAX_RESAMPLE
from cascade.errors import InvalidRequest
from cascade.request import MAX_IMAGE_INDEX, SURROGATES, check_prompt
from cascade.types import Vector
from cascade.vector_values import checked_vectors

OutputFormat = Literal["png", "webp", "webp90", "jpeg", "avif"]
OUTPUT_FORMATS: tuple[OutputFormat, ...] = get_args(OutputFormat)
MAX_PICTURES = 10
MAX_PARTIAL = 3
MAX_STYLE = 64
MAX_WORD = 256
LONGEST_WORDS = 1 << 20
"""More than a body holds: how long a prompt may be, its own check says."""
SHOWN = 64
NO_STYLE = ("vivid", "natural")
"""Styles of another model: they choose nothing here."""

PerStage = Mapping[str, float]
"""By stage; the empty name is the first one that takes the option."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageAsk:
    """One body."""

    prompt: str = ""
    n: int = 1
    model: str = ""
    size: str = "auto"
    quality: str = "auto"
    background: str = "auto"
    moderation: str = "auto"
    output_format: OutputFormat = "png"
    output_compression: int | None = None
    """0 to 100; None is the format's own."""
    partial_format: OutputFormat | None = None
    """None is JPEG beside a lossless picture, and else the picture's own."""
    response_format: str = "b64_json"
    user: str = ""
    stream: bool = False
    partial_images: int = 0
    seed: int = 0
    image_index: int = 0
    steps: PerStage = field(default_factory=dict)
    guidance: PerStage = field(default_factory=dict)
    negative_prompt: str = ""
    vectors: Mapping[str, Vector] = field(default_factory=dict)
    """`[width]` float32 by name."""
    style: str = ""
    strength: float | None = None
    """Of an edit; None is the default."""
    resample: int = 1
    linger_seconds: float = 0.0
    timeout_seconds: float | None = None

    @property
    def words(self) -> str:
        """The prompt with its style, as the reference bundle's captions have it."""
        if not self.style or self.style in NO_STYLE:
            return self.prompt
        return f"{self.prompt}, {self.style} style"


def wrong(name: str, expected: str, value: object) -> InvalidRequest:
    """The error for a field's value."""
    text = repr(value)[:SHOWN]
    return InvalidRequest(f"{name}: expected {expected}, got {text}", field=name)


def text_of(longest: int) -> Callable[[str, object], str]:
    """A reader of text of at most so many characters."""

    def read(name: str, value: object) -> str:
        if not isinstance(value, str):
            raise wrong(name, "a text", value)
        if SURROGATES.search(value):
            raise InvalidRequest(f"{name}: it is not valid Unicode text", field=name)
        if len(value) > longest:
            raise InvalidRequest(
                f"{name}: {len(value)} characters, at most {longest} are accepted", field=name
            )
        return value

    return read


def words(name: str, value: object) -> str:
    """A prompt; the core checks the one that the picture is made of again, with its style."""
    text = text_of(LONGEST_WORDS)(name, value)
    check_prompt(text, name)
    return text


def one_of(*choices: str) -> Callable[[str, object], str]:
    """A reader of one of some words."""

    def read(name: str, value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            raise wrong(name, f"one of {', '.join(choices)}", value)
        return value

    return read


def whole(least: int, most: int) -> Callable[[str, object], int]:
    """A reader of a whole number within bounds."""

    def read(name: str, value: object) -> int:
        # A bool is an int to Python, and `1.0` none to JSON's readers.
        if type(value) is not int or not least <= value <= most:
            raise wrong(name, f"a whole number, {least} to {most}", value)
        return value

    return read


def number(name: str, value: object) -> float:
    """A number; its bounds are the core's."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(name, "a number", value)
    try:
        return float(value)
    except OverflowError as exc:
        raise wrong(name, "a number", "one too large") from exc


def truth(name: str, value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise wrong(name, "true or false", value)
    return value


def per_stage(name: str, value: object) -> PerStage:
    """A number for the first stage that takes it, or an object of numbers by stage."""
    if not isinstance(value, dict):
        return {"": number(name, value)}
    return {
        text_of(MAX_WORD)(name, stage): number(f"{name}.{str(stage)[:SHOWN]}", each)
        for stage, each in value.items()
    }


def numbers_by_name(name: str, value: object) -> Mapping[str, Vector]:
    """An object of lists of numbers, as float32."""
    if not isinstance(value, dict):
        raise wrong(name, "an object of lists of numbers", value)
    for vector, numbers in value.items():
        path = f"{name}.{vector[:SHOWN]}"
        if not isinstance(numbers, list):
            raise wrong(path, "a list of numbers", numbers)
        for each in numbers:
            number(path, each)
    return checked_vectors(value)


def whole_seed(name: str, value: object) -> int:
    """A whole number; its bounds are the core's."""
    if type(value) is not int:
        raise wrong(name, "a whole number, 0 to 2^64 - 1", value)
    return value


Reader = Callable[[str, object], Any]
READERS: Mapping[str, Reader] = {
    "prompt": words,
    "negative_prompt": words,
    "n": whole(1, MAX_PICTURES),
    "model": text_of(MAX_WORD),
    "size": text_of(MAX_WORD),
    "quality": one_of("auto", "standard"),
    "background": one_of("auto", "opaque"),
    "moderation": one_of("auto", "low"),
    "output_format": one_of(*OUTPUT_FORMATS),
    "output_compression": whole(0, 100),
    "partial_format": one_of(*OUTPUT_FORMATS),
    "response_format": one_of("b64_json"),
    "user": text_of(MAX_WORD),
    "stream": truth,
    "partial_images": whole(0, MAX_PARTIAL),
    "seed": whole_seed,
    "image_index": whole(0, MAX_IMAGE_INDEX),
    "steps": per_stage,
    "guidance": per_stage,
    "vectors": numbers_by_name,
    "style": text_of(MAX_STYLE),
    "linger_seconds": number,
    "timeout_seconds": number,
}
"""By field of the body; `null` is as good as absent."""
EDIT_READERS: Mapping[str, Reader] = {
    **READERS,
    "strength": number,
    "resample": whole(1, MAX_RESAMPLE),
}
"""Of an edit."""


def unknown_field(name: str, readers: Mapping[str, Reader]) -> InvalidRequest:
    """The error for a field that there is none of."""
    near = difflib.get_close_matches(name, readers, n=1, cutoff=0.0)[0]
    return InvalidRequest(
        f"{name}: unknown field, did you mean {near}? There are {', '.join(readers)}", field=name
    )


def read_ask(body: bytes) -> ImageAsk:
    """The body of a request.

    Raises:
        InvalidRequest: no JSON object, a field that is unknown or of another type, or fields that
            contradict each other.
    """
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise InvalidRequest("body: it is not JSON", field="body") from exc
    if not isinstance(values, dict):
        raise InvalidRequest("body: expected a JSON object", field="body")
    return ask_of(values, READERS)


def ask_of(values: Mapping[str, object], readers: Mapping[str, Reader]) -> ImageAsk:
    """Fields as an ask.

    Args:
        values: as JSON has them.
        readers: those that there are.

    Raises:
        InvalidRequest: see `read_ask`.
    """
    read = {}
    for name, value in values.items():
        if name not in readers:
            raise unknown_field(name[:SHOWN], readers)
        if value is not None:
            read[name] = readers[name](name, value)
    ask = ImageAsk(**read)
    check_consistent(ask)
    return ask


def check_consistent(ask: ImageAsk) -> None:
    """Raise `InvalidRequest` where fields contradict each other."""
    if ask.stream and ask.n > 1:
        raise InvalidRequest("n: a stream carries one picture; leave n at 1", field="n")
    if ask.partial_images and not ask.stream:
        raise InvalidRequest(
            "partial_images: they come in a stream; set stream to true", field="partial_images"
        )
    if ask.output_compression not in (None, 100) and ask.output_format in ("png", "webp90"):
        raise InvalidRequest(
            f"output_compression: {ask.output_format} has none of its own; choose webp, jpeg or "
            "avif, or leave it out",
            field="output_compression",
        )
    if ask.timeout_seconds is not None and not 0 < ask.timeout_seconds < float("inf"):
        raise wrong("timeout_seconds", "more than 0 seconds", ask.timeout_seconds)
