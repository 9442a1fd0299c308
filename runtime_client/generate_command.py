"""What `cascade generate` and `fetch` do: check, make or get the picture, write it, account for it.

The function behind the command line; takes values. Knows the client, a file and two streams.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade import __version__
from cascade.errors import InvalidRequest
from cascade.events import Event, Preview, StageFinished
from cascade.image_codec import encode_image
from cascade.request import GenerateRequest
from cascade.types import ImageU8
from runtime_client.client import Client
from runtime_client.config import ClientConfig
from runtime_client.contradictions import refuse_idle_server
from runtime_client.picture_file import check_target, prepare_folder, write_whole
from runtime_client.progress_bars import ProgressBars
from runtime_client.result import Result
from runtime_client.time_table import ENCODE, ENCODE_PNG, TOTAL, render, rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """One run of the command."""

    bundle: Path
    config: ClientConfig
    request: GenerateRequest
    request_id: str = ""
    """Of a request that the server has already; `request` then says nothing."""
    output: Path | None
    """None when the picture is left to the server."""
    preview: Path | None
    as_json: bool


def carry_out(order: Order) -> None:
    """Make the picture and write it.

    Raises:
        CascadeError: nothing was written to the output.
    """
    begun = time.perf_counter()
    output = target_of(order)
    check_target(output)
    if order.preview is not None:
        prepare_folder(order.preview)
    bars = ProgressBars(sys.stderr, interactive=sys.stderr.isatty())

    def on_event(event: Event) -> None:
        bars.show(event)
        if order.preview is not None:
            write_preview(order.preview, event)

    try:
        with Client(order.bundle, order.config) as client:
            count = len(client.bundle.manifest.components)
            refuse_idle_server(order.config.cut, count, order.config.server)
            if order.request_id:
                result = client.fetch(order.request_id, on_event=on_event)
            else:
                result = client.run(order.request, on_event=on_event)
            seconds = save(order, output, result)
            seconds[TOTAL] = time.perf_counter() - begun
    finally:
        bars.close()
    print_account(order, result, seconds)


def leave(order: Order) -> None:
    """Run the first components here, leave the rest to the server, and say under which id.

    Raises:
        CascadeError: nothing was left there.
    """
    bars = ProgressBars(sys.stderr, interactive=sys.stderr.isatty())
    try:
        with Client(order.bundle, order.config) as client:
            request_id = client.submit(order.request, on_event=bars.show)
    finally:
        bars.close()
    line = json.dumps({"request_id": request_id}) if order.as_json else request_id
    sys.stdout.write(line + "\n")


def target_of(order: Order) -> Path:
    """Where the picture is written."""
    if order.output is None:
        raise InvalidRequest("output: name the file of the picture", field="output")
    return order.output


def save(order: Order, output: Path, result: Result) -> dict[str, float]:
    """Write the picture; returns the seconds of the whole run so far."""
    begun = time.perf_counter()
    write_whole(output, encode_image(result.image, "png", png_text(order, result)))
    return {**result.seconds, ENCODE_PNG: time.perf_counter() - begun}


def png_text(order: Order, result: Result) -> dict[str, str]:
    """What the picture says about itself; enough to make it again."""
    seconds = {name: round(spent, 6) for name, spent in result.seconds.items()}
    return {
        **asked_text(order, result),
        "bundle_id": result.bundle_id,
        "cut": str(result.cut),
        "computed": json.dumps(computed_words(result), sort_keys=True),
        "timings": json.dumps(seconds, sort_keys=True),
        "software": f"edge-cascade {__version__}",
    }


def asked_text(order: Order, result: Result) -> dict[str, str]:
    """What was asked for; of a fetched picture only its id is known here."""
    if order.request_id:
        return {"request_id": order.request_id}
    return {
        "prompt": order.request.prompt or "",
        "seed": str(result.seed),
        "image_index": str(result.image_index),
    }


def print_account(order: Order, result: Result, seconds: dict[str, float]) -> None:
    """The table, or one JSON object, on standard output."""
    table = rows(seconds, list(result.images), result.cut)
    if not order.as_json:
        sys.stdout.write(
            render(table, result.bytes_up, result.bytes_down, computed_rows(result)) + "\n"
        )
        return
    height, width = result.image.shape[:2]
    account: dict[str, Any] = {
        "output": str(order.output),
        "width": width,
        "height": height,
        "prompt": order.request.prompt,
        "seed": result.seed,
        "image_index": result.image_index,
        "bundle_id": result.bundle_id,
        "cut": result.cut,
        "fell_back": result.fell_back,
        "computed": {
            name: {"engine": computed.engine, "precision": computed.precision.value}
            for name, computed in result.computed.items()
        },
        "seconds": {name: round(spent, 6) for name, spent in table.items()},
        "bytes_up": result.bytes_up,
        "bytes_down": result.bytes_down,
    }
    sys.stdout.write(json.dumps(account) + "\n")


def computed_words(result: Result) -> dict[str, str]:
    """Engine and precision of every component, in two words."""
    return {
        name: f"{computed.engine} {computed.precision}"
        for name, computed in result.computed.items()
    }


def computed_rows(result: Result) -> dict[str, str]:
    """The same by row of the table: the text encoder's time is the row `encode`."""
    return {
        name if name in result.images else ENCODE: words
        for name, words in computed_words(result).items()
    }


def write_preview(folder: Path, event: Event) -> None:
    """Write the picture of a preview or a finished stage as it comes."""
    image: ImageU8 | None = None
    if isinstance(event, Preview):
        name, image = f"{event.stage}-step-{event.step:04d}.png", event.image
    elif isinstance(event, StageFinished):
        name, image = f"{event.stage}.png", event.handoff.image
    if image is not None:
        write_whole(folder / name, encode_image(image, "png"))
