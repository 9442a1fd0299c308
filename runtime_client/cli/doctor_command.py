"""`cascade doctor`: what is installed, what this machine can run, and whether a server fits.

Looks and changes nothing. Every finding has a level and, where something is to be done, a command
that can be pasted. What looks is imported when the command runs: help needs none of it.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cascade.bundle.default_bundle import add_bundle_argument, located_bundle
from cascade.commands.exit_codes import BAD_INPUT, DONE, FAILED
from cascade.errors import CascadeError
from runtime_client.cli.connection_flags import add_server_flags, connection_config
from runtime_client.config import ClientConfig

if TYPE_CHECKING:
    from cascade.bundle.bundle import Bundle
    from cascade.diagnosis.findings import Finding

DEFAULT_TIMEOUT_S = 10.0
FORMAT = 1
"""Of the JSON object: raised when a key goes or means something else."""
INSTALL_BUNDLE = "# from a checkout: pip install CHECKOUT/bundles"
Group = tuple[str, "list[Finding]"]


def register(subparsers: Any) -> None:
    """Add the subcommand."""
    words = "say what is installed, what this machine can run, and how to mend the rest"
    parser = subparsers.add_parser(
        "doctor",
        help=words,
        description="Say what is installed, what this machine can run, which engine each component "
        "takes and why, what is missing for a GPU, and whether --server answers and fits. Changes "
        "nothing. Every finding that is not ok comes with a command that mends it.",
    )
    add_bundle_argument(parser)
    server = "host:port or unix:PATH of a server to try (default: none)"
    add_server_flags(parser, server, DEFAULT_TIMEOUT_S)
    parser.add_argument("--json", action="store_true", help="print one JSON object (default: off)")
    parser.set_defaults(run=run, interrupted="nothing was changed")


def run(args: argparse.Namespace) -> int:
    """Look at everything and say it; returns the exit code, 0 without errors."""
    config = connection_config(args)
    from cascade.diagnosis.report import as_object, summary, topic_lines

    colours = not args.json and sys.stdout.isatty() and "NO_COLOR" not in os.environ
    findings: list[Finding] = []
    for topic, found in look(args.bundle, config):
        findings += found
        if not args.json:
            print("\n".join(topic_lines(topic, found, colours=colours)) + "\n", flush=True)
    code = exit_code_of(findings)
    if args.json:
        levels = [finding.level.value for finding in findings]
        known = {
            "format": FORMAT,
            "exit_code": code,
            "errors": levels.count("error"),
            "warnings": levels.count("warning"),
            "findings": as_object(findings),
        }
        print(json.dumps(known, indent=1))
    else:
        print(summary(findings, colours=colours))
    return code


def exit_code_of(findings: "Sequence[Finding]") -> int:
    """0 without errors; 2 where one is of this machine or the command line; else 3.

    The same scheme as of every command: see `cascade.commands.exit_codes`.
    """
    errors = [finding for finding in findings if finding.level.value == "error"]
    if not errors:
        return DONE
    return FAILED if all(finding.transient for finding in errors) else BAD_INPUT


def look(named: Path | None, config: ClientConfig) -> Iterator[Group]:
    """Every topic, and what was found of it, as soon as it is known.

    Args:
        named: folder of the bundle; None takes the default.
        config: the server and how it is reached, and the signature that is wanted.
    """
    from cascade.diagnosis.engines import installed_findings, plan_findings, try_engines
    from cascade.diagnosis.machine import card_findings, machine_findings
    from cascade.diagnosis.software import software_findings
    from cascade.diagnosis.storage import cache_findings
    from cascade.system.nvidia import nvidia_here
    from cascade.system.user_cache import user_cache_folder

    yield "software", list(software_findings())
    yield "machine", list(machine_findings())
    nvidia, folder = nvidia_here(), user_cache_folder()
    bundle, of_bundle = bundle_of(named, config)
    planned = [] if bundle is None else list(plan_findings(bundle, nvidia, folder))
    gpu = [finding for finding in planned if finding.topic == "gpu"]
    yield "gpu", [*card_findings(nvidia), *gpu]
    yield "cache", list(cache_findings(folder))
    yield "bundle", of_bundle
    rest = [finding for finding in planned if finding.topic != "gpu"]
    yield "engines", [*installed_findings(try_engines()), *rest]
    if config.server is not None:
        from runtime_client.cli.doctor_server import Asked, server_findings

        asked = Asked(config=config, folder=named, bundle=bundle)
        yield "server", list(server_findings(asked))


def bundle_of(named: Path | None, config: ClientConfig) -> "tuple[Bundle | None, list[Finding]]":
    """The bundle, where there is a whole one, and what was found of it."""
    from cascade.diagnosis.findings import Topic
    from cascade.diagnosis.storage import bundle_findings

    try:
        located = located_bundle(named, os.environ)
    except CascadeError as exc:
        return None, [Topic("bundle").error("folder", str(exc), INSTALL_BUNDLE)]
    return bundle_findings(located, config.require_signature)
