"""What `cascade generate` and `fetch` do: check, make or get the picture, write it, account for it.

The function behind the command line; takes values. Knows the client, a file and two streams.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from cascade.boundary import Image
from cascade.bundle.bundle import open_bundle
from cascade.bundle.manifest import Manifest
from cascade.errors import InvalidRequest
from cascade.events import Event
from cascade.families import family_of
from cascade.request import GenerateRequest
from cascade.system.standard_streams import OutputLost
from runtime_client.cli.contradictions import refuse_idle_server
from runtime_client.cli.picture_file import check_target, write_picture
from runtime_client.cli.picture_format import STANDARD_OUTPUT, encode_picture, format_of, read_story
from runtime_client.cli.previews import PreviewFolder
from runtime_client.cli.progress_bars import ProgressBars
from runtime_client.cli.remake import Remake, check_engines_here, remake_of
from runtime_client.cli.story import as_text, story_of, story_of_fetched
from runtime_client.cli.time_table import ENCODE_PNG, TOTAL, WorkRows, render, rows
from runtime_client.client import Client
from runtime_client.config import ClientConfig
from runtime_client.result import Result


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """One run of the command."""

    bundle: Path
    config: ClientConfig
    request: GenerateRequest
    request_id: str = ""
    """Of a request that the server has already; `request` then says nothing."""
    source: Path | None = None
    """A picture to be made again; `request` then says nothing but how often to preview."""
    output: Path | None
    """None when the picture is left to the server."""
    preview: Path | None
    as_json: bool
    quiet: bool
    """No progress and no table; errors are said."""


def carry_out(order: Order) -> None:
    """Make the picture and write it.

    Raises:
        CascadeError: nothing was written to the output.
    """
    begun = time.perf_counter()
    output = target_of(order)
    check_target(output)
    bars = progress_of(order)
    try:
        client, request, remake = prepared(order)
        with client:
            count = len(client.bundle.manifest.components)
            refuse_idle_server(client.config.cut, count, client.config.server)
            if not order.request_id:
                warn(client, request)
            watchers = watchers_of(order, client, bars, remake)

            def on_event(event: Event) -> None:
                for watch in watchers:
                    watch(event)

            bars.begin()
            if order.request_id:
                result = client.fetch(order.request_id, on_event=on_event)
                story = story_of_fetched(client.bundle.manifest, result)
            else:
                result = client.run(request, on_event=on_event)
                story = story_of(client.bundle.manifest, request, result)
            if remake is not None:
                remake.check_picture(result.image)
            seconds = save(output, result, story)
            seconds[TOTAL] = time.perf_counter() - begun
            manifest = client.bundle.manifest
    finally:
        bars.close()
    account(order, manifest, result, story, seconds)


def leave(order: Order) -> None:
    """Run the first components here, leave the rest to the server, and say under which id.

    Raises:
        CascadeError: nothing was left there.
    """
    bars = progress_of(order)
    try:
        with Client(order.bundle, order.config) as client:
            warn(client, order.request)
            bars.begin()
            request_id = client.submit(order.request, on_event=bars.show)
    finally:
        bars.close()
    line = json.dumps({"request_id": request_id}) if order.as_json else request_id
    sys.stdout.write(line + "\n")


def warn(client: Client, request: GenerateRequest) -> None:
    """Say on standard error, before any work, what the request asks for at its own risk."""
    for warning in client.warnings(request):
        sys.stderr.write(f"warning: {warning}\n")


def target_of(order: Order) -> Path:
    """Where the picture is written."""
    if order.output is None:
        raise InvalidRequest("output: name the file of the picture", field="output")
    return order.output


def progress_of(order: Order) -> ProgressBars:
    """What is shown on standard error meanwhile."""
    redrawn = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return ProgressBars(sys.stderr, interactive=redrawn, silent=order.quiet)


def prepared(order: Order) -> tuple[Client, GenerateRequest, Remake | None]:
    """The client and what it is asked for; with `--from`, what must come of it.

    Raises:
        InvalidRequest: the picture of `--from` cannot be made again.
        CascadeError: see `Client`.
    """
    if order.source is None:
        return Client(order.bundle, order.config), order.request, None
    bundle = open_bundle(order.bundle, order.config.require_signature)
    remake = remake_of(order.source, read_story(order.source), bundle.manifest)
    count = len(bundle.manifest.components)
    mine = count if order.config.server is None else min(order.config.cut, count)
    check_engines_here(remake, range(mine), bundle.manifest)
    config = replace(order.config, engine=remake.engine, precision=remake.precision)
    request = replace(remake.request, previews=order.request.previews)
    return Client(bundle, config), request, remake


def watchers_of(
    order: Order, client: Client, bars: ProgressBars, remake: Remake | None
) -> list[Callable[[Event], None]]:
    """Who is told of every event."""
    watchers: list[Callable[[Event], None]] = [bars.show]
    if remake is not None:
        watchers.append(remake.check_event)
    if order.preview is not None:
        names = [component.name for component in client.bundle.manifest.components]
        watchers.append(PreviewFolder(order.preview, names, bars.say).take)
    return watchers


def save(output: Path, result: Result, story: dict[str, Any]) -> dict[str, float]:
    """Write the picture; returns the seconds of the whole run so far."""
    begun = time.perf_counter()
    write_picture(output, encode_picture(result.image, format_of(output), as_text(story)))
    return {**result.seconds, ENCODE_PNG: time.perf_counter() - begun}


def account(
    order: Order,
    manifest: Manifest,
    result: Result,
    story: dict[str, Any],
    seconds: dict[str, float],
) -> None:
    """The table, or one JSON object; on standard error where the picture is on the other.

    Raises:
        OutputLost: the object could not be written; the picture is.
    """
    out: TextIO = sys.stderr if order.output == STANDARD_OUTPUT else sys.stdout
    table = rows(seconds, work_rows(manifest, result))
    try:
        if order.as_json:
            out.write(json.dumps(as_object(order, result, story, table)) + "\n")
        elif not order.quiet:
            words = computed_rows(manifest, result)
            out.write(render(table, result.bytes_up, result.bytes_down, words) + "\n")
        out.flush()
    except OutputLost as lost:
        # For people the picture is the result and the table a courtesy; for programs the object is.
        if order.as_json:
            raise
        if not lost.closed:
            sys.stderr.write(f"{lost}; the table is lost, {order.output} is written\n")


def as_object(
    order: Order, result: Result, story: dict[str, Any], table: dict[str, float]
) -> dict[str, Any]:
    """The story, and what it took this time."""
    height, width = result.image.shape[:2]
    return {
        "output": str(order.output),
        "width": width,
        "height": height,
        "seed": result.seed,
        "image_index": result.image_index,
        "prompt": order.request.prompt,
        "cut": result.cut,
        **story,
        "request_id": result.request_id,
        "warnings": [str(warning) for warning in result.warnings],
        "seconds": {name: round(spent, 6) for name, spent in table.items()},
        "bytes_up": result.bytes_up,
        "bytes_down": result.bytes_down,
    }


def work_rows(manifest: Manifest, result: Result) -> WorkRows:
    """Where the time of each component stands in the table."""
    words: list[str] = []
    here: list[str] = []
    there: list[str] = []
    for position, spec in enumerate(manifest.components):
        names = family_of(spec).time_rows(spec)
        if not isinstance(spec.makes, Image):
            words += names
        elif spec.name in result.images:
            (here if position < result.cut else there).extend(names)
    return WorkRows(words=words, here=here, there=there)


def computed_rows(manifest: Manifest, result: Result) -> dict[str, str]:
    """By row of the table, engine and precision: the last row of each component has it."""
    return {
        family_of(spec).time_rows(spec)[-1]: f"{computed.engine} {computed.precision}"
        for spec in manifest.components
        if (computed := result.computed.get(spec.name)) is not None
    }
