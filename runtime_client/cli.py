"""`cascade generate`, `fetch` and `cancel`: the command line of the client.

Turns arguments into a configuration and a request, and errors into one line and an exit code.
Registering costs nothing: the client is imported when the command runs.
"""

# ruff: noqa: E501  one option per line, however long its help

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cascade.default_bundle import bundle_or_default
from cascade.engines.kinds import EngineKind
from cascade.errors import CascadeError, InvalidRequest, ManifestError, MissingExtra
from cascade.precision import Precision
from cascade.request import GenerateRequest, StageOptions
from cascade.wishes import AUTO
from runtime_client.config import DEFAULT_CUT, DEFAULT_LINGER_S, FALLBACKS, ClientConfig
from runtime_client.connection_flags import add_connection_flags, connection_config
from runtime_client.contradictions import refuse_contradictions

BAD_INPUT, SERVER_FAILED, INTERRUPTED = 2, 3, 130
"""Exit codes: an argument or a file is at fault; the server, the network or an engine; Ctrl-C."""
INPUT_ERRORS = (InvalidRequest, ManifestError, MissingExtra)


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommands."""
    register_generate(subparsers)
    register_fetch(subparsers)
    register_cancel(subparsers)


def register_generate(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `generate`."""
    parser = subparsers.add_parser("generate", help="make a picture from a prompt")
    add = parser.add_argument
    per_stage: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    # fmt: off
    add("prompt", metavar="PROMPT", help="what the picture shows, up to 1000 characters")
    add("-o", "--output", type=Path, metavar="FILE", help="the picture; ends in .png; needed unless --detach")
    add("--cut", type=int, default=DEFAULT_CUT, metavar="N", help=f"components that run here, 0 to all of them (default: {DEFAULT_CUT})")
    add("--seed", type=int, default=0, metavar="N", help="0 to 2^64-1; same seed, same picture (default: 0)")
    add("--image-index", type=int, default=0, metavar="N", help="which picture of that seed, 0 to 2^32-1 (default: 0)")
    add("--steps", type=option(int), metavar="STAGE=N", help="denoising steps, 1 to 1000 (default: the bundle's)", **per_stage)
    add("--guidance", type=option(float), metavar="STAGE=W", help="guidance weight, 0 to 100; 1 is none (default: the bundle's)", **per_stage)
    add("--augmentation", type=option(float), metavar="STAGE=L", help="noise on the input of a super-resolution stage (default: the bundle's)", **per_stage)
    add("--last-stage", metavar="NAME", help="stop after this stage (default: the bundle's last)")
    add("--preview", type=Path, metavar="DIR", help="write previews and every stage's picture there (default: none)")
    add("--fallback", choices=FALLBACKS, default="error", help="when the server is gone: fail, or run the rest here (default: error)")
    add("--threads", type=int, default=0, metavar="N", help="threads of the engines here; 0 is one per core (default: 0)")
    add("--engine", default=AUTO, metavar="E", help=f"what runs the stages: auto, {', '.join(EngineKind)}, or STAGE=E,... (default: auto, the fastest that `cascade tune` found)")
    add("--precision", default=AUTO, metavar="P", help=f"what they compute in: auto, {', '.join(Precision)}, or STAGE=P,...; a server that differs is refused (default: auto)")
    add("--json", action="store_true", help="print one JSON object instead of the table (default: off)")
    add("--linger", type=float, metavar="S", help=f"how long a server on the network works on when the connection is lost, so that it can be resumed (default: {DEFAULT_LINGER_S:g})")
    add("--detach", action="store_true", help="leave the rest to --server, print the request id and end; see `cascade fetch` (default: off)")
    # fmt: on
    add_connection_flags(
        parser, "host:port or unix:PATH (default: start a private server where the cut needs one)"
    )
    parser.set_defaults(run=run_generate)


def register_fetch(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `fetch`."""
    parser = subparsers.add_parser("fetch", help="get the picture of `cascade generate --detach`")
    add = parser.add_argument
    # fmt: off
    add("request_id", metavar="REQUEST_ID", help="as `cascade generate --detach` printed it")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="the picture; ends in .png")
    add("--preview", type=Path, metavar="DIR", help="write every stage's picture there (default: none)")
    add("--json", action="store_true", help="print one JSON object instead of the table (default: off)")
    # fmt: on
    add_connection_flags(parser, "host:port or unix:PATH of the server that has it")
    parser.set_defaults(run=run_fetch)


def register_cancel(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `cancel`."""
    parser = subparsers.add_parser("cancel", help="end what `cascade generate --detach` left")
    parser.add_argument("request_id", metavar="REQUEST_ID", help="as it was printed")
    add_connection_flags(parser, "host:port or unix:PATH of the server that has it")
    parser.set_defaults(run=run_cancel)


def run_generate(args: argparse.Namespace) -> int:
    """Make the picture, or leave it to the server; returns the exit code."""
    # Imported here so that `cascade --help` opens no bundle and loads no numpy.
    from runtime_client.generate_command import Order, carry_out, leave

    def work() -> None:
        order = Order(
            bundle=bundle_or_default(args.bundle),
            config=config_of(args),
            request=request_of(args),
            output=output_of(args),
            preview=args.preview,
            as_json=args.json,
        )
        refuse_contradictions(args)
        (leave if args.detach else carry_out)(order)

    return exit_code(work, "no picture was written")


def run_fetch(args: argparse.Namespace) -> int:
    """Get the picture; returns the exit code."""
    from runtime_client.generate_command import Order, carry_out

    def work() -> None:
        order = Order(
            bundle=bundle_or_default(args.bundle),
            config=connection_config(args),
            request=GenerateRequest(),
            request_id=args.request_id,
            output=args.output,
            preview=args.preview,
            as_json=args.json,
        )
        carry_out(order)

    return exit_code(work, "no picture was written; the server still has the request")


def run_cancel(args: argparse.Namespace) -> int:
    """End the request; returns the exit code."""
    from runtime_client.client import Client

    def work() -> None:
        with Client(bundle_or_default(args.bundle), connection_config(args)) as client:
            found = client.cancel(args.request_id)
        print("cancelled" if found else "the server knows nothing of that request")

    return exit_code(work, "the request may go on")


def exit_code(work: Callable[[], None], interrupted: str) -> int:
    """Do the work, and turn what happens into one line and an exit code.

    Args:
        work: the subcommand.
        interrupted: what Ctrl-C means for the user.
    """
    try:
        work()
    except CascadeError as exc:
        print(describe(exc), file=sys.stderr)
        return BAD_INPUT if isinstance(exc, INPUT_ERRORS) else SERVER_FAILED
    except KeyboardInterrupt:
        print(f"error: interrupted; {interrupted}", file=sys.stderr)
        return INTERRUPTED
    return 0


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
        connection_config(args),
        cut=args.cut,
        threads=args.threads,
        engine=args.engine,
        precision=args.precision,
        fallback=args.fallback,
        linger_s=DEFAULT_LINGER_S if args.linger is None else args.linger,
    )


def request_of(args: argparse.Namespace) -> GenerateRequest:
    """The request from the command line."""
    steps, guidance = dict(args.steps), dict(args.guidance)
    augmentation = dict(args.augmentation)
    options = {
        name: StageOptions(
            steps=steps.get(name),
            guidance=guidance.get(name),
            augmentation=augmentation.get(name),
        )
        for name in sorted({*steps, *guidance, *augmentation})
    }
    return GenerateRequest(
        prompt=args.prompt,
        seed=args.seed,
        image_index=args.image_index,
        last_stage=args.last_stage,
        preview_every=0 if args.preview is None else 1,
        options=options,
    )


def option(kind: Callable[[str], float]) -> Callable[[str], tuple[str, float]]:
    """A parser of `STAGE=VALUE`."""

    def parse(text: str) -> tuple[str, float]:
        name, sign, value = text.partition("=")
        try:
            if not name or not sign:
                raise ValueError
            return name, kind(value)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected STAGE=NUMBER, got {text!r}") from None

    return parse


def describe(error: CascadeError) -> str:
    """One line: what is wrong and what to do."""
    line = f"error: {' '.join(str(error).split())}"
    if error.field and error.field not in line:
        line += f" (field: {error.field})"
    if error.retry_after_s is not None and math.isfinite(error.retry_after_s):
        line += f" (try again in {error.retry_after_s:.1f} s)"
    return line
