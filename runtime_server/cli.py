"""`cascade serve`: the server from the command line.

gRPC and the engine are imported when the command runs.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from cascade.bundle.default_bundle import DEFAULT_WORDS, bundle_or_default
from cascade.commands.errors import describe
from cascade.commands.exit_codes import START_REFUSED
from cascade.errors import CascadeError
from runtime_server.auth.token_command import register as register_token
from runtime_server.config.config import ServerConfig
from runtime_server.config.config_file import load_config, write_config
from runtime_server.config.flags import add_flags, given_flags
from runtime_server.telemetry.logs import configure_logs


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "serve",
        help="host components of a bundle over gRPC",
        description="Host components of a bundle over gRPC. Every flag is a key of the same name, "
        "with underscores, in the file of --config; a flag overrides the file.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with settings")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--print-config", action="store_true", help="print every setting as such a file, and exit"
    )
    instead.add_argument(
        "--dry-run",
        action="store_true",
        help="load, verify and warm up everything, say what it is, and exit",
    )
    add_flags(parser, {"bundle": DEFAULT_WORDS})
    parser.set_defaults(run=run)
    register_token(subparsers)


def read_command_line(args: argparse.Namespace) -> ServerConfig:
    """The file of `--config` as it is now, under the flags.

    Raises:
        InvalidRequest: a setting is wrong.
    """
    return load_config(args.config, given_flags(args), partial(bundle_or_default, None))


def run(args: argparse.Namespace) -> int:
    """Serve until asked to stop; 2 and one line on standard error when that cannot begin."""
    try:
        config = read_command_line(args)
        if args.print_config:
            print(write_config(config), end="")
            return 0
        configure_logs(config.log_level)
        # gRPC's own lines are not JSON, and what they say is raised as well.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        if args.dry_run:
            from runtime_server.lifecycle.dry_run import dry_run

            for line in dry_run(config):
                print(line)
            return 0
        # Imported here so that `cascade serve --help` loads neither gRPC nor the engine.
        from runtime_server.lifecycle.process import run_server

        return run_server(config, partial(read_command_line, args))
    except CascadeError as exc:
        sys.stderr.write(describe(exc) + "\n")
        return START_REFUSED
