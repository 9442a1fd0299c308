"""`cascade generate`, `fetch` and `cancel`: the command line of the client.

Turns arguments into a configuration and a request; what is raised, `cascade.commands.cli` turns
into one line and an exit code. The commands of files and tables are imported when one runs.
"""

# ruff: noqa: E501  one option per line, however long its help

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cascade.assignments import AUTO, parse_assignment
from cascade.bundle.default_bundle import bundle_or_default
from cascade.commands.exit_codes import DONE
from cascade.diffusion.request_options import DiffusionOptions
from cascade.engines.kinds import ENGINE_WORDS
from cascade.errors import InvalidRequest
from cascade.precision import Precision
from cascade.request import GenerateRequest
from cascade.types import ImageU8
from runtime_client.cli.connection_flags import add_connection_flags, connection_config
from runtime_client.cli.contradictions import refuse_contradictions
from runtime_client.cli.edit_flags import add_edit_flags, edit_of, vectors_of
from runtime_client.cli.placement_flags import add_chosen_placement_flags, with_placement
from runtime_client.cli.upscale_cli import register_upscale
from runtime_client.config import DEFAULT_LINGER_S, FALLBACKS, PICTURE_FORMATS, ClientConfig

PREVIEWS = 8
OUTPUT_HELP = "the picture: .png, .webp, .jpg, .avif, or - for a PNG on standard output"

LABEL_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)
"""A class by its number; what is none is a name."""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommands."""
    register_generate(subparsers)
    register_upscale(subparsers)
    register_fetch(subparsers)
    register_cancel(subparsers)


def register_generate(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `generate`."""
    usage = "%(prog)s PROMPT -o FILE [flags]\n       %(prog)s --from PICTURE -o FILE [flags]"
    parser = subparsers.add_parser("generate", help="make a picture from a prompt", usage=usage)
    add = parser.add_argument
    per_stage: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    # fmt: off
    add("prompt", nargs="?", metavar="PROMPT", help="what the picture shows, up to 1000 characters; needed unless --from or the cascade begins otherwise")
    add("-o", "--output", type=Path, metavar="FILE", help=OUTPUT_HELP + "; needed unless --detach")
    add("--from", dest="source", type=Path, metavar="PICTURE", help="make that picture of ours again, pixel by pixel, or say why that cannot be (default: none)")
    add("--negative", metavar="TEXT", help="what the picture is guided away from, by stages whose --guidance is not 1 (default: no words)")
    add("--seed", type=int, metavar="N", help="0 to 2^64-1; same seed, same picture (default: 0)")
    add("--image-index", type=int, metavar="N", help="which picture of that seed, 0 to 2^32-1 (default: 0)")
    add("--count", type=int, metavar="N", help="pictures of each prompt, 1 to 10000, with image indices from --image-index on, written to FILE with their number (default: one, to FILE)")
    add("--prompts", type=Path, metavar="LIST", help="text file with a prompt on each line; all are drawn, FILE gets their number (default: PROMPT alone)")
    add("--steps", type=option(int), metavar="STAGE=N", help="denoising steps, 1 to 1000 (default: the bundle's)", **per_stage)
    add("--guidance", type=option(float), metavar="STAGE=W", help="guidance weight, 0 to 100; 1 is none (default: the bundle's)", **per_stage)
    add("--augmentation", type=option(float), metavar="STAGE=L", help="noise on the input of a super-resolution stage (default: the bundle's)", **per_stage)
    add("--set", dest="choices", metavar="STAGE.OPTION=VALUE", help="any option of any stage, such as base.steps=4; a wrong name lists what there is (default: none)", **per_stage)
    add("--label", metavar="CLASS", help="begin with this class, a number from 0 or its name, in a cascade that begins with one (default: none)")
    add("--picture", type=Path, metavar="FILE", help="begin with this picture, where a stage starts from one alone (default: none)")
    add("--first-stage", metavar="NAME", help="begin with this stage (default: the bundle's first)")
    add("--last-stage", metavar="NAME", help="stop after this stage (default: the bundle's last)")
    add("--preview", type=Path, metavar="DIR", help="write previews and every stage's picture there (default: none)")
    add("--previews", type=int, default=PREVIEWS, metavar="N", help=f"of each stage written there, 0 to 1000 (default: {PREVIEWS})")
    add("--fallback", choices=FALLBACKS, default="error", help="when the server is gone: fail, or run the rest here (default: error)")
    add("--threads", type=int, default=0, metavar="N", help="threads of the engines here; 0 is one per core allowed (default: 0)")
    add("--engine", default=AUTO, metavar="E", help=f"what runs the stages: auto, {', '.join(ENGINE_WORDS)}, or STAGE=E,... (default: auto, the fastest that `cascade tune` found)")
    add("--precision", default=AUTO, metavar="P", help=f"what they compute in: auto, {', '.join(Precision)}, or STAGE=P,...; a server that differs is refused (default: auto)")
    add("--json", action="store_true", help="print one JSON object instead of the table, of an error too (default: off)")
    add("-q", "--quiet", action="store_true", help="no progress and no table (default: off)")
    add("--linger", type=float, metavar="S", help=f"how long a server on the network works on when the connection is lost, so that it can be resumed (default: {DEFAULT_LINGER_S:g})")
    add("--format", choices=PICTURE_FORMATS, default="auto", help="how servers send pictures: auto is without loss, as are raw, webp and png; webp90, jpeg and avif take fewer bytes and lose pixels (default: auto)")
    add("--detach", action="store_true", help="leave the rest to --server, print the request id and end; see `cascade fetch` (default: off)")
    # fmt: on
    add_edit_flags(parser)
    add_chosen_placement_flags(parser)
    add_connection_flags(
        parser, "host:port or unix:PATH (default: start a private server where the cut needs one)"
    )
    parser.set_defaults(run=run_generate, interrupted="no picture was written")


def register_fetch(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `fetch`."""
    parser = subparsers.add_parser("fetch", help="get the picture of `cascade generate --detach`")
    add = parser.add_argument
    # fmt: off
    add("request_id", metavar="REQUEST_ID", help="as `cascade generate --detach` printed it")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help=OUTPUT_HELP)
    add("--preview", type=Path, metavar="DIR", help="write every stage's picture there (default: none)")
    add("--json", action="store_true", help="print one JSON object instead of the table, of an error too (default: off)")
    add("-q", "--quiet", action="store_true", help="no progress and no table (default: off)")
    # fmt: on
    add_connection_flags(parser, "host:port or unix:PATH of the server that has it")
    words = "no picture was written; the server still has the request"
    parser.set_defaults(run=run_fetch, interrupted=words)


def register_cancel(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `cancel`."""
    parser = subparsers.add_parser("cancel", help="end what `cascade generate --detach` left")
    add = parser.add_argument
    # fmt: off
    add("request_id", metavar="REQUEST_ID", help="as it was printed")
    add("--json", action="store_true", help="print one JSON object, of an error too (default: off)")
    # fmt: on
    add_connection_flags(parser, "host:port or unix:PATH of the server that has it")
    parser.set_defaults(run=run_cancel, interrupted="the request may go on")


def run_generate(args: argparse.Namespace) -> int:
    """Make the picture, or leave it to the server; returns the exit code."""
    # Imported here: `cascade generate --help` needs no codec and no table.
    from runtime_client.cli.generate_command import GenerateArgs, run_foreground, submit_detached
    from runtime_client.cli.set_options import parse_choice

    wanted = GenerateArgs(
        bundle=bundle_or_default(args.bundle),
        config=config_of(args),
        request=request_of(args),
        source=args.source,
        output=output_of(args),
        preview=args.preview,
        as_json=args.json,
        quiet=args.quiet,
        choices=tuple(parse_choice(text) for text in args.choices),
        class_name=None if number_of(args.label) is not None else args.label,
    )
    refuse_contradictions(args)
    if args.count is not None or args.prompts is not None:
        from runtime_client.cli.many_pictures import (
            read_prompts,
            refuse_beside_many,
            run_many,
            wanted_of,
        )

        refuse_beside_many(wanted)
        prompts = [args.prompt] if args.prompts is None else read_prompts(args.prompts)
        count = 1 if args.count is None else args.count
        return run_many(wanted, wanted_of(prompts, count, args.image_index or 0, args.output))
    (submit_detached if args.detach else run_foreground)(wanted)
    return DONE


def run_fetch(args: argparse.Namespace) -> int:
    """Get the picture; returns the exit code."""
    from runtime_client.cli.generate_command import GenerateArgs, run_foreground

    wanted = GenerateArgs(
        bundle=bundle_or_default(args.bundle),
        config=connection_config(args),
        request=GenerateRequest(),
        request_id=args.request_id,
        output=args.output,
        preview=args.preview,
        as_json=args.json,
        quiet=args.quiet,
    )
    run_foreground(wanted)
    return DONE


def run_cancel(args: argparse.Namespace) -> int:
    """End the request; returns the exit code."""
    from runtime_client.client import Client

    with Client(bundle_or_default(args.bundle), connection_config(args)) as client:
        found = client.cancel(args.request_id)
    if args.json:
        print(json.dumps({"request_id": args.request_id, "cancelled": found}))
    else:
        print("cancelled" if found else "the server knows nothing of that request")
    return DONE


def output_of(args: argparse.Namespace) -> Path | None:
    """Where the picture goes; None for one that the server keeps."""
    output: Path | None = args.output
    if output is None and not args.detach:
        raise InvalidRequest("output: give -o FILE, or --detach to fetch it later", field="output")
    if output is not None and args.detach:
        raise InvalidRequest(
            "output: with --detach nothing is written; give it to `cascade fetch`", field="output"
        )
    return output


def config_of(args: argparse.Namespace) -> ClientConfig:
    """The client's configuration from the command line."""
    return replace(
        with_placement(connection_config(args), args),
        threads=args.threads,
        engine=args.engine,
        precision=args.precision,
        fallback=args.fallback,
        picture_format=args.format,
        linger_s=DEFAULT_LINGER_S if args.linger is None else args.linger,
    )


def request_of(args: argparse.Namespace) -> GenerateRequest:
    """The request from the command line; with `--from` the picture says what it is."""
    if args.source is not None:
        refuse_beside_source(args)
    steps, guidance = dict(args.steps), dict(args.guidance)
    augmentation = dict(args.augmentation)
    options = {
        name: DiffusionOptions(
            steps=steps.get(name),
            guidance=guidance.get(name),
            augmentation=augmentation.get(name),
        )
        for name in sorted({*steps, *guidance, *augmentation})
    }
    return GenerateRequest(
        prompt=args.prompt,
        negative=args.negative,
        vectors=vectors_of(args),
        label=number_of(args.label),
        picture=None if args.picture is None else picture_of(args.picture),
        first_stage=args.first_stage,
        seed=args.seed or 0,
        image_index=args.image_index or 0,
        last_stage=args.last_stage,
        previews=0 if args.preview is None else args.previews,
        options=options,
        edit=edit_of(args),
        size=args.size,
    )


def number_of(label: str | None) -> int | None:
    """The number of a class that was given as one; None of a name, which a bundle has to tell."""
    return int(label) if label is not None and LABEL_NUMBER.fullmatch(label) else None


def picture_of(path: Path) -> ImageU8:
    """The pixels of the file that `--picture` names, `[height, width, 3]` uint8."""
    from runtime_client.cli.picture_start import read_picture

    return read_picture(path)


def refuse_beside_source(args: argparse.Namespace) -> None:
    """Raise `InvalidRequest` for what the picture of `--from` says already."""
    said = (
        "prompt", "negative", "seed", "image_index", "count", "prompts", "steps", "guidance", "augmentation", "choices",
        "label", "picture", "first_stage", "last_stage", "edit", "mask", "strength", "resample", "size", "vectors",
    )  # fmt: skip
    given = [name for name in said if getattr(args, name) not in (None, [])]
    given += [name for name in ("engine", "precision") if getattr(args, name) != AUTO]
    given += ["detach"] if args.detach else []
    if given:
        name = given[0].replace("_", "-").replace("choices", "set")
        raise InvalidRequest(f"from: it goes without {name}, which the picture says", field="from")


def option(kind: Callable[[str], float]) -> Callable[[str], tuple[str, float]]:
    """A parser of `STAGE=VALUE`."""

    def parse(text: str) -> tuple[str, float]:
        try:
            name, value = parse_assignment(text)
            return name, kind(value)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected STAGE=NUMBER, got {text!r}") from None

    return parse
