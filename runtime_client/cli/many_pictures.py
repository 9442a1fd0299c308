"""`cascade generate --count N` and `--prompts FILE`: many pictures in one run, each a file.

Requests run at once where a server has stages of them, so that their steps share runs of its
engines where that pays there. One that fails costs the others nothing. Knows the client and files.
"""

import json
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from cascade.commands.errors import as_object, describe
from cascade.commands.exit_codes import DONE, exit_code
from cascade.errors import CascadeError, InvalidRequest
from cascade.request import GenerateRequest
from runtime_client.cli.contradictions import refuse_idle_server
from runtime_client.cli.generate_command import GenerateArgs, hint, target_of, warn
from runtime_client.cli.picture_file import check_target, write_picture
from runtime_client.cli.picture_format import STANDARD_OUTPUT, encode_picture, format_of
from runtime_client.cli.picture_metadata import as_text, metadata_of
from runtime_client.client import Client
from runtime_client.many_requests import in_parallel
from runtime_client.placement import HERE
from runtime_client.result import Result

AT_ONCE = 4
"""Requests of one run: more share runs of a server's engines, and more wait in its queue."""
MAX_PROMPTS_BYTES = 16 << 20
COMMENT = "#"


End = tuple[GenerateRequest, Result] | CascadeError
Ends = Generator[tuple[int, End], None, None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One picture of many."""

    prompt: str | None
    image_index: int
    output: Path


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file, one a line; empty lines and those that begin with # are left out.

    Raises:
        InvalidRequest: there is no such file, it is no text, or there is no prompt in it.
    """
    try:
        if path.stat().st_size > MAX_PROMPTS_BYTES:
            raise InvalidRequest(
                f"prompts: {path} is larger than {MAX_PROMPTS_BYTES >> 20} MiB", field="prompts"
            )
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except OSError as exc:
        raise InvalidRequest(f"prompts: {path}: {exc.strerror}", field="prompts") from exc
    except UnicodeDecodeError as exc:
        raise InvalidRequest(f"prompts: {path} is not UTF-8 text", field="prompts") from exc
    prompts = [line for line in lines if line and not line.startswith(COMMENT)]
    if not prompts:
        raise InvalidRequest(
            f"prompts: {path} has no prompt; write one on each line", field="prompts"
        )
    return prompts


def wanted_of(
    prompts: Sequence[str | None], count: int, first_index: int, output: Path
) -> list[Wanted]:
    """The pictures in order: of every prompt `count`, named after their place.

    Args:
        prompts: at least one; None where the cascade begins otherwise.
        count: pictures of each, from 1.
        first_index: image index of the first one of each.
        output: `a.png` becomes `a-000.png`, `a-001.png`, ...
    """
    asked = [(prompt, first_index + number) for prompt in prompts for number in range(count)]
    digits = max(3, len(str(len(asked) - 1)))
    return [
        Wanted(prompt, index, output.with_stem(f"{output.stem}-{at:0{digits}}"))
        for at, (prompt, index) in enumerate(asked)
    ]


def run_many(args: GenerateArgs, wanted: Sequence[Wanted]) -> int:
    """Make all pictures and write each as it comes; returns the exit code of the first failure.

    Args:
        args: of the command; its request says all but prompt and image index.
        wanted: the pictures.

    Raises:
        CascadeError: what all of them would fail with.
    """
    begun = time.perf_counter()
    check_target(target_of(args))
    told: dict[int, dict[str, Any]] = {}
    codes: dict[int, int] = {}
    with Client(args.bundle, args.config) as client:
        refuse_idle_server(client.placement, client.config)
        asked = args.asked(client.bundle.manifest)
        # Of the options alone, which all have in common: a wrong prompt is its own picture's.
        warn(client, replace(asked, prompt=None if wanted[0].prompt is None else "a picture"))
        hint(args, client)
        # Here one engine runs at a time: to begin more requests would only hold more pictures.
        parallel = 1 if set(client.placement.places) == {HERE} else AT_ONCE

        def make(one: Wanted) -> tuple[GenerateRequest, Result]:
            request = replace(asked, prompt=one.prompt, image_index=one.image_index)
            result = client.run(request)
            save(client, one, request, result)
            return request, result

        with closing(cast(Ends, in_parallel(make, wanted, parallel))) as ends:
            for at, end in ends:
                one = wanted[at]
                told[at] = entry_of(one, end)
                if isinstance(end, CascadeError):
                    codes[at] = exit_code(end)
                say(args, f"{len(told)}/{len(wanted)} {line_of(one, end)}")
    report(args, [told[at] for at in sorted(told)], time.perf_counter() - begun)
    return codes[min(codes)] if codes else DONE


def save(client: Client, one: Wanted, request: GenerateRequest, result: Result) -> None:
    """Write one picture with its metadata."""
    metadata = as_text(metadata_of(client.bundle.manifest, request, result))
    write_picture(one.output, encode_picture(result.image, format_of(one.output), metadata))


def entry_of(one: Wanted, end: End) -> dict[str, Any]:
    """One picture's part of the JSON object."""
    entry: dict[str, Any] = {
        "output": str(one.output),
        "prompt": one.prompt,
        "image_index": one.image_index,
    }
    if isinstance(end, CascadeError):
        return {**entry, "error": as_object(end, exit_code(end))}
    request, result = end
    height, width = result.image.shape[:2]
    return {
        **entry,
        "seed": request.seed,
        "width": width,
        "height": height,
        "request_id": result.request_id,
        "sent_as": result.sent_as,
        "seconds": round(result.seconds["total"], 6),
    }


def line_of(one: Wanted, end: End) -> str:
    """One picture's line of progress."""
    if isinstance(end, CascadeError):
        return f"{one.output}: {describe(end)}"
    lossy = f", as {end[1].sent_as} with loss" if end[1].sent_as else ""
    return f"{one.output} {1000 * end[1].seconds['total']:.0f} ms{lossy}"


def say(args: GenerateArgs, line: str) -> None:
    """A line of progress on standard error; of a failure also where progress is switched off."""
    if not args.quiet or ": error: " in line:
        sys.stderr.write(line + "\n")


def report(args: GenerateArgs, entries: list[dict[str, Any]], seconds: float) -> None:
    """How many were made, or one JSON object that says of each."""
    made = sum("error" not in entry for entry in entries)
    if args.as_json:
        found = {"made": made, "failed": len(entries) - made, "seconds": round(seconds, 6)}
        sys.stdout.write(json.dumps({**found, "pictures": entries}) + "\n")
    elif not args.quiet:
        sys.stdout.write(f"{made} of {len(entries)} pictures in {seconds:.1f} s\n")


def refuse_beside_many(args: GenerateArgs) -> None:
    """Raise `InvalidRequest` for what has no meaning for many pictures."""
    if args.output == STANDARD_OUTPUT:
        raise InvalidRequest(
            "output: many pictures need a file's name, which is numbered", field="output"
        )
    if args.preview is not None:
        raise InvalidRequest("preview: it goes with one picture alone", field="preview")
