"""What `cascade generate` and `fetch` do: check, make or get the picture, write it, account for it.

The function behind the command line; takes values. Knows the client, a file and two streams.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from cascade.boundary import Image
from cascade.bundle.bundle import open_bundle
from cascade.bundle.manifest import Manifest
from cascade.errors import InvalidRequest
from cascade.events import Event
from cascade.families import family_of
from cascade.labels.family import label_named
from cascade.request import GenerateRequest
from cascade.system.nvidia import card_names
from cascade.system.standard_streams import OutputLost
from cascade.tuning.hints import as_line, hints_of, hints_wanted
from cascade.tuning.plan import plan_here
from cascade.types import PlaneU8
from runtime_client.cli.contradictions import refuse_idle_server
from runtime_client.cli.picture_file import check_target, write_picture
from runtime_client.cli.picture_format import (
    STANDARD_OUTPUT,
    encode_picture,
    format_of,
    read_metadata,
)
from runtime_client.cli.picture_metadata import as_text, metadata_of, metadata_of_fetched
from runtime_client.cli.plan_table import render_plan
from runtime_client.cli.previews import PreviewFolder
from runtime_client.cli.progress_bars import ProgressBars
from runtime_client.cli.remake import Remake, check_engines_here, remake_of
from runtime_client.cli.set_options import Choice, with_choices
from runtime_client.cli.time_table import (
    ENCODE_PNG,
    TOTAL,
    WorkRows,
    host_words,
    render,
    render_hops,
    rows,
)
from runtime_client.client import Client
from runtime_client.config import ClientConfig
from runtime_client.placement import HERE, THERE
from runtime_client.placement_chooser import configured_placement
from runtime_client.result import HopAccount, Result


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateArgs:
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
    alpha: PlaneU8 | None = None
    """`[height, width]` of the picture to be written, where it is to be transparent."""
    choices: tuple[Choice, ...] = ()
    """Options beside those of `request`, as `--set` gives them."""
    class_name: str | None = None
    """Of the class to begin with, where it was not given by its number."""

    def asked(self, manifest: Manifest) -> GenerateRequest:
        """The request with what a bundle must be known for: its options, and the class's number.

        Raises:
            InvalidRequest: no such option, or no such class.
        """
        request = with_choices(manifest, self.request, self.choices)
        if self.class_name is None:
            return request
        return replace(request, label=label_named(manifest.components, self.class_name))


def run_foreground(args: GenerateArgs) -> None:
    """Make the picture and write it.

    Raises:
        CascadeError: nothing was written to the output.
    """
    begun = time.perf_counter()
    output = target_of(args)
    check_target(output)
    bars = progress_of(args)
    try:
        client, request, remake = prepared(args)
        with client:
            refuse_idle_server(client.placement, client.config)
            if not args.request_id:
                warn(client, request)
                hint(args, client)
            watchers = watchers_of(args, client, bars, remake)

            def on_event(event: Event) -> None:
                for watch in watchers:
                    watch(event)

            bars.begin()
            if args.request_id:
                result = client.fetch(args.request_id, on_event=on_event)
                metadata = metadata_of_fetched(client.bundle.manifest, result)
            else:
                result = client.run(request, on_event=on_event)
                metadata = metadata_of(client.bundle.manifest, request, result)
            if remake is not None:
                remake.check_picture(result.image)
            warn_of_loss(result)
            seconds = save(output, result, metadata, args.alpha)
            seconds[TOTAL] = time.perf_counter() - begun
            manifest = client.bundle.manifest
    finally:
        bars.close()
    report(args, manifest, result, metadata, seconds)


def submit_detached(args: GenerateArgs) -> None:
    """Run the first components here, leave the rest to the server, and say under which id.

    Raises:
        CascadeError: nothing was left there.
    """
    bars = progress_of(args)
    try:
        with Client(args.bundle, args.config) as client:
            request = args.asked(client.bundle.manifest)
            warn(client, request)
            hint(args, client)
            bars.begin()
            request_id = client.submit(request, on_event=bars.show)
    finally:
        bars.close()
    line = json.dumps({"request_id": request_id}) if args.as_json else request_id
    sys.stdout.write(line + "\n")


def warn(client: Client, request: GenerateRequest) -> None:
    """Say on standard error, before any work, what the request asks for at its own risk."""
    for warning in client.warnings(request):
        sys.stderr.write(f"warning: {warning}\n")


def warn_of_loss(result: Result) -> None:
    """Say on standard error that a picture lost pixels on its way, which was not asked for."""
    if result.sent_as and result.plan is not None:
        within_s = result.plan["wish"]["within_s"]
        sys.stderr.write(
            f"warning: the picture came as {result.sent_as}, which loses pixels: without loss it "
            f"would be later than {within_s:g} s\n"
        )


def hint(args: GenerateArgs, client: Client) -> None:
    """Say on standard error what would make pictures faster here; once, and not in JSON."""
    if args.quiet or args.as_json or not hints_wanted():
        return
    config, components = client.config, client.bundle.manifest.components
    mine = client.placement.at(HERE) if config.addresses else tuple(range(len(components)))
    plan = plan_here(client.bundle.manifest, config.engine_options, mine)
    line = as_line(hints_of(plan, card_names()))
    if line:
        sys.stderr.write(f"hint: {line}\n")


def target_of(args: GenerateArgs) -> Path:
    """Where the picture is written."""
    if args.output is None:
        raise InvalidRequest("output: name the file of the picture", field="output")
    return args.output


def progress_of(args: GenerateArgs) -> ProgressBars:
    """What is shown on standard error meanwhile."""
    redrawn = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    return ProgressBars(sys.stderr, interactive=redrawn, silent=args.quiet)


def prepared(args: GenerateArgs) -> tuple[Client, GenerateRequest, Remake | None]:
    """The client and what it is asked for; with `--from`, what must come of it.

    Raises:
        InvalidRequest: the picture of `--from` cannot be made again.
        CascadeError: see `Client`.
    """
    if args.source is None:
        # One picture, and the end: nothing is made ready for a next one.
        client = Client(args.bundle, replace(args.config, works_ahead=False))
        return client, args.asked(client.bundle.manifest), None
    bundle = open_bundle(args.bundle, args.config.require_signature, runs=())
    remake = remake_of(args.source, read_metadata(args.source), bundle.manifest)
    given = args.config
    placement = configured_placement(bundle.manifest, given)
    private = placement.at(THERE) if given.server is None else ()
    check_engines_here(remake, (*placement.at(HERE), *private), bundle.manifest)
    config = replace(given, engine=remake.engine, precision=remake.precision)
    request = replace(remake.request, previews=args.request.previews)
    return Client(bundle, config), request, remake


def watchers_of(
    args: GenerateArgs, client: Client, bars: ProgressBars, remake: Remake | None
) -> list[Callable[[Event], None]]:
    """Who is told of every event."""
    watchers: list[Callable[[Event], None]] = [bars.show]
    if remake is not None:
        watchers.append(remake.check_event)
    if args.preview is not None:
        names = [component.name for component in client.bundle.manifest.components]
        watchers.append(PreviewFolder(args.preview, names, bars.say).take)
    return watchers


def save(
    output: Path, result: Result, metadata: dict[str, Any], alpha: PlaneU8 | None = None
) -> dict[str, float]:
    """Write the picture; returns the seconds of the whole run so far."""
    begun = time.perf_counter()
    image = result.image if alpha is None else np.dstack([result.image, alpha])
    write_picture(output, encode_picture(image, format_of(output), as_text(metadata)))
    return {**result.seconds, ENCODE_PNG: time.perf_counter() - begun}


def report(
    args: GenerateArgs,
    manifest: Manifest,
    result: Result,
    metadata: dict[str, Any],
    seconds: dict[str, float],
) -> None:
    """The table, or one JSON object; on standard error where the picture is on the other.

    Raises:
        OutputLost: the object could not be written; the picture is.
    """
    out: TextIO = sys.stderr if args.output == STANDARD_OUTPUT else sys.stdout
    table = rows(seconds, work_rows(manifest, result))
    try:
        if args.as_json:
            out.write(json.dumps(as_object(args, result, metadata, table)) + "\n")
        elif not args.quiet:
            words = computed_rows(manifest, result)
            out.write(render(table, result.bytes_up, result.bytes_down, words) + "\n")
            if args.config.placement is not None:
                out.write(render_hops(result.hops) + "\n")
            if result.plan is not None:
                out.write(render_plan(result.plan) + "\n")
        out.flush()
    except OutputLost as lost:
        # For people the picture is the result and the table a courtesy; for programs the object is.
        if args.as_json:
            raise
        if not lost.closed:
            sys.stderr.write(f"{lost}; the table is lost, {args.output} is written\n")


def as_object(
    args: GenerateArgs, result: Result, metadata: dict[str, Any], table: dict[str, float]
) -> dict[str, Any]:
    """The metadata, and the time that it took."""
    height, width = result.image.shape[:2]
    return {
        "output": str(args.output),
        "width": width,
        "height": height,
        "seed": result.seed,
        "image_index": result.image_index,
        "prompt": args.request.prompt,
        "cut": result.cut,
        **metadata,
        "request_id": result.request_id,
        "warnings": [str(warning) for warning in result.warnings],
        "seconds": {name: round(spent, 6) for name, spent in table.items()},
        "engine_seconds": {name: round(s, 6) for name, s in result.engine_seconds.items()},
        "bytes_up": result.bytes_up,
        "bytes_down": result.bytes_down,
        "formats": dict(result.formats),
        "preview_formats": dict(result.preview_formats),
        "hops": [hop_object(hop) for hop in result.hops],
        "plan": result.plan,
    }


def hop_object(hop: HopAccount) -> dict[str, Any]:
    """One hop as JSON."""
    seconds = {name: round(spent, 6) for name, spent in hop.seconds.items()}
    return {**asdict(hop), "seconds": seconds}


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
            (here if ran_here(result, position, spec.name) else there).extend(names)
    return WorkRows(words=words, here=here, there=there)


def ran_here(result: Result, position: int, name: str) -> bool:
    """Whether a component was to run here."""
    return position < result.cut if result.cut is not None else result.sides.get(name) == HERE


def computed_rows(manifest: Manifest, result: Result) -> dict[str, str]:
    """By row of the table, engine, precision and host: the last row of each component has it."""
    return {
        family_of(spec).time_rows(spec)[-1]: f"{computed.engine} {computed.precision}"
        + host_words(result.engine_seconds, result.seconds, spec.name)
        for spec in manifest.components
        if (computed := result.computed.get(spec.name)) is not None
    }
