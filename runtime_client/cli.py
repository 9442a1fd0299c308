"""`cascade generate`: the command line of the client.

Turns arguments into a configuration and a request, and errors into one line and an exit code.
Registering costs nothing: the client is imported when the command runs.
"""

# ruff: noqa: E501  one option per line, however long its help

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cascade.engines.kinds import EngineKind
from cascade.errors import CascadeError, InvalidRequest, ManifestError, MissingExtra
from cascade.precision import Precision
from cascade.request import GenerateRequest, StageOptions
from cascade.wishes import AUTO
from runtime_client.config import DEFAULT_CUT, DEFAULT_TIMEOUT_S, FALLBACKS, ClientConfig
from runtime_client.credentials import TOKEN_VARIABLE

DEFAULT_BUNDLE = Path("bundles/emoji-1")
BAD_INPUT, SERVER_FAILED, INTERRUPTED = 2, 3, 130
"""Exit codes: an argument or a file is at fault; the server, the network or an engine; Ctrl-C."""
INPUT_ERRORS = (InvalidRequest, ManifestError, MissingExtra)


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("generate", help="make a picture from a prompt")
    add = parser.add_argument
    per_stage: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    # fmt: off
    add("prompt", metavar="PROMPT", help="what the picture shows, up to 1000 characters")
    add("-o", "--output", type=Path, required=True, metavar="FILE", help="the picture; ends in .png")
    add("--bundle", type=Path, default=DEFAULT_BUNDLE, metavar="DIR", help=f"folder of the bundle (default: {DEFAULT_BUNDLE})")
    add("--require-signature", type=Path, metavar="KEY", help="PEM file with the public key that must have signed the bundle (default: none)")
    add("--server", metavar="ADDR", help="host:port or unix:PATH (default: start a private server where the cut needs one)")
    add("--tls", action="store_true", help="encrypt the connection to --server (default: off)")
    add("--ca", "--tls-ca", type=Path, metavar="FILE", help="PEM file with the authorities to trust (default: the system's)")
    add("--client-cert", type=Path, metavar="FILE", help="PEM file with this client's certificate, for servers that want one (default: none)")
    add("--client-key", type=Path, metavar="FILE", help="PEM file with its private key (default: none)")
    add("--token", default="", metavar="TOKEN", help=f"who calls, for servers that want to know; other users may see it in the list of processes, so rather use --token-file or the variable {TOKEN_VARIABLE} (default: none)")
    add("--token-file", type=Path, metavar="FILE", help="file with the token (default: none)")
    add("--token-over-plaintext", action="store_true", help="send the token unencrypted to another machine too (default: off)")
    add("--cut", type=int, default=DEFAULT_CUT, metavar="N", help=f"components that run here, 0 to all of them (default: {DEFAULT_CUT})")
    add("--seed", type=int, default=0, metavar="N", help="0 to 2^64-1; same seed, same picture (default: 0)")
    add("--image-index", type=int, default=0, metavar="N", help="which picture of that seed, 0 to 2^32-1 (default: 0)")
    add("--steps", type=option(int), metavar="STAGE=N", help="denoising steps, 1 to 1000 (default: the bundle's)", **per_stage)
    add("--guidance", type=option(float), metavar="STAGE=W", help="guidance weight, 0 to 100; 1 is none (default: the bundle's)", **per_stage)
    add("--augmentation", type=option(float), metavar="STAGE=L", help="noise on the input of a super-resolution stage (default: the bundle's)", **per_stage)
    add("--last-stage", metavar="NAME", help="stop after this stage (default: the bundle's last)")
    add("--preview", type=Path, metavar="DIR", help="write previews and every stage's picture there (default: none)")
    add("--fallback", choices=FALLBACKS, default="error", help="when the server is gone: fail, or run the rest here (default: error)")
    add("--timeout", type=float, default=DEFAULT_TIMEOUT_S, metavar="S", help=f"longest time for the request in seconds (default: {DEFAULT_TIMEOUT_S:g})")
    add("--threads", type=int, default=0, metavar="N", help="threads of the engines here; 0 is one per core (default: 0)")
    add("--engine", default=AUTO, metavar="E", help=f"what runs the stages: auto, {', '.join(EngineKind)}, or STAGE=E,... (default: auto, the fastest that `cascade tune` found)")
    add("--precision", default=AUTO, metavar="P", help=f"what they compute in: auto, {', '.join(Precision)}, or STAGE=P,...; a server that differs is refused (default: auto)")
    add("--json", action="store_true", help="print one JSON object instead of the table (default: off)")
    # fmt: on
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make the picture; returns the exit code."""
    # Imported here so that `cascade --help` opens no bundle and loads no numpy.
    from runtime_client.generate_command import Order, carry_out

    try:
        order = Order(
            bundle=args.bundle,
            config=config_of(args),
            request=request_of(args),
            output=args.output,
            preview=args.preview,
            as_json=args.json,
        )
        carry_out(order)
    except CascadeError as exc:
        print(describe(exc), file=sys.stderr)
        return BAD_INPUT if isinstance(exc, INPUT_ERRORS) else SERVER_FAILED
    except KeyboardInterrupt:
        print("error: interrupted; no picture was written", file=sys.stderr)
        return INTERRUPTED
    return 0


def config_of(args: argparse.Namespace) -> ClientConfig:
    """The client's configuration from the command line, and the token from the environment."""
    token = args.token
    if not token and args.token_file is None and args.server is not None:
        token = os.environ.get(TOKEN_VARIABLE, "")
    return ClientConfig(
        server=args.server,
        cut=args.cut,
        threads=args.threads,
        engine=args.engine,
        precision=args.precision,
        fallback=args.fallback,
        timeout_s=args.timeout,
        tls=args.tls,
        ca_file=args.ca,
        require_signature=args.require_signature,
        client_cert=args.client_cert,
        client_key=args.client_key,
        token=token,
        token_file=args.token_file,
        token_over_plaintext=args.token_over_plaintext,
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
    if error.retry_after_s is not None:
        line += f" (try again in {error.retry_after_s:.1f} s)"
    return line
