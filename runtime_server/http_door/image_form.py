"""A body of `POST /v1/images/edits`: a form with a picture, a mask and the fields of a request.

Knows the bytes of `multipart/form-data`; the fields themselves are read as those of JSON are.

References:
    RFC 7578, multipart/form-data; RFC 2046, 5.1.1, where parts end.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cascade.errors import InvalidRequest

BOUNDARY = re.compile(r'^multipart/form-data\s*;.*?boundary="?([^";,\s]{1,70})"?', re.IGNORECASE)
NAME = re.compile(rb'content-disposition:[^\r\n]*?[;\s]name="([^"\r\n]{1,64})"', re.IGNORECASE)
MAX_PARTS = 64
FILES = {"image": "image", "image[]": "image", "mask": "mask"}
"""Parts that are files, by the names that clients give them."""
TEXTS = frozenset(
    {
        "prompt", "negative_prompt", "model", "size", "quality", "background", "moderation",
        "output_format", "partial_format", "response_format", "user", "style",
    }
)  # fmt: skip
"""Fields that are text; every other one is written as JSON has it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageForm:
    """The parts of a form."""

    files: Mapping[str, bytes]
    """`image`, and `mask` where there is one."""
    fields: Mapping[str, object]
    """As JSON would have them."""


def read_form(body: bytes, content_type: str) -> ImageForm:
    """The parts of a body.

    Raises:
        InvalidRequest: it is no form, a part has no name or comes twice, or a number is none.
    """
    found = BOUNDARY.match(content_type)
    if found is None:
        raise InvalidRequest(
            "content-type: expected multipart/form-data with a boundary", field="content-type"
        )
    files: dict[str, bytes] = {}
    fields: dict[str, object] = {}
    for name, data in parts_of(body, found.group(1).encode("latin-1")):
        kept: dict[str, bytes] | dict[str, object] = files if name in FILES else fields
        key = FILES.get(name, name)
        if key in kept:
            raise InvalidRequest(f"{key}: it is given twice", field=key)
        if name in FILES:
            files[key] = data
        else:
            fields[key] = value_of_text(key, data)
    if "image" not in files:
        raise InvalidRequest("image: it is missing; give a picture file", field="image")
    return ImageForm(files=files, fields=fields)


def parts_of(body: bytes, boundary: bytes) -> list[tuple[str, bytes]]:
    """Name and content of every part.

    Raises:
        InvalidRequest: the form is cut off, or a part has no name.
    """
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary, MAX_PARTS + 1)
    # Before the first there may be words for people, and the last begins the end.
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise InvalidRequest(
            f"body: no form that ends with its boundary, or more than {MAX_PARTS} parts",
            field="body",
        )
    found = []
    for piece in pieces[1:-1]:
        head, _, data = piece.partition(b"\r\n\r\n")
        name = NAME.search(head)
        if name is None:
            raise InvalidRequest("body: a part of the form has no name", field="body")
        found.append((name.group(1).decode("utf-8", "replace"), data))
    return found


def value_of_text(name: str, data: bytes) -> object:
    """The value of a field that is no file."""
    text = data.decode("utf-8", "replace")
    if name in TEXTS:
        return text
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        # Its reader says what it should be.
        return text
    return value
