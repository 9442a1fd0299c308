"""`cascade bundle copy` and `pull`: the files of a bundle that one machine needs, from elsewhere.

Knows the command line; what is checked of the files, `cascade.bundle.transfer` knows.
"""

# ruff: noqa: E501  one option per line, however long its help

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cascade.bundle.manifest import Manifest
from cascade.bundle.transfer import BundleSource, Fetched, FolderSource, fetch_bundle
from cascade.commands.exit_codes import DONE
from cascade.errors import InvalidRequest
from runtime_client.cli.connection_flags import add_credential_flags, security_config
from runtime_client.cli.placement_flags import add_placement_flags, cut_by, placed_by
from runtime_client.placement import HERE, THERE, placement_of

CLIENT, SERVER = "client", "server"
FILE_TIMEOUT_S = 3600.0
"""For one file: 10 GB at 3 MB/s."""
SHOWN = 64


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `bundle` and its two subcommands."""
    words = "copy or download the files of a bundle that a machine needs"
    bundle = subparsers.add_parser("bundle", help=words, description=words)
    below = bundle.add_subparsers(metavar="COMMAND", required=True)
    words = "copy files of a bundle from a folder, checked by their hashes"
    copy = below.add_parser("copy", help=words, description=words)
    copy.add_argument("source", type=Path, metavar="FOLDER", help="folder of the bundle")
    words = (
        "download files of a bundle from a server that offers them (`cascade serve --offer-bundle`)"
    )
    pull = below.add_parser("pull", help=words, description=words)
    pull.add_argument("source", metavar="ADDR", help="host:port or unix:PATH of the server")
    for parser, run in ((copy, run_copy), (pull, run_pull)):
        add = parser.add_argument
        # fmt: off
        add("destination", type=Path, metavar="DEST", help="folder to write, new or with other files of the same bundle")
        add("--for", dest="side", metavar="SIDE", help="take what this side runs: client, server (what is placed there) or an address that a component is placed on (default: every file)")
        add("--components", metavar="NAMES", help="take the files of these components, NAME,... (default: every file)")
        add("--json", action="store_true", help="print one JSON object, of an error too (default: off)")
        # fmt: on
        add_placement_flags(parser)
        parser.set_defaults(run=run, interrupted="run the command again to go on")
    add_credential_flags(pull, FILE_TIMEOUT_S)
    copy.add_argument(
        "--require-signature", type=Path, metavar="KEY",
        help="PEM file with the public key that must have signed the bundle (default: none)",
    )  # fmt: skip


def run_copy(args: argparse.Namespace) -> int:
    """Copy from a folder; returns the exit code."""
    return run_from(FolderSource(args.source), args)


def run_pull(args: argparse.Namespace) -> int:
    """Download from a server; returns the exit code."""
    config = security_config(args, args.source)
    # Imported here: `cascade bundle --help` needs no gRPC.
    from runtime_client.remote.bundle_source import ServerSource  # noqa: PLC0415
    from runtime_client.remote.transport import Transport  # noqa: PLC0415
    from runtime_client.resources import security_of  # noqa: PLC0415

    transport = Transport(args.source, security_of(config))
    try:
        return run_from(ServerSource(transport, config.timeout_s, config.wait_s), args)
    finally:
        transport.close()


def run_from(source: BundleSource, args: argparse.Namespace) -> int:
    """Take the files and say what came; returns the exit code."""

    def say(line: str) -> None:
        if not args.json:
            sys.stderr.write(f"{line}\n")

    wanted = wanted_by(args)
    fetched = fetch_bundle(source, args.destination, wanted, args.require_signature, say)
    line = json.dumps(as_object(fetched)) if args.json else as_line(fetched)
    sys.stdout.write(f"{line}\n")
    return DONE


def as_object(fetched: Fetched) -> dict[str, Any]:
    """What came, as JSON."""
    return {
        "bundle_id": fetched.bundle.bundle_id,
        "folder": str(fetched.bundle.folder),
        "files": list(fetched.files),
        "copied_bytes": fetched.copied_bytes,
    }


def as_line(fetched: Fetched) -> str:
    """What came, in one line."""
    return (
        f"{fetched.bundle.folder}: {len(fetched.files)} of {len(fetched.bundle.manifest.files)} "
        f"files of bundle {fetched.bundle.bundle_id}, {fetched.copied_bytes:,} bytes came now"
    )


def wanted_by(args: argparse.Namespace) -> Callable[[Manifest], tuple[int, ...] | None]:
    """Which components the flags mean, once the manifest is known.

    Raises:
        InvalidRequest: they are named in two ways, or a placement without a side.
    """
    placed, names = placed_by(args), args.components
    is_placed = placed is not None or args.cut is not None
    if args.side is None and is_placed:
        raise InvalidRequest(
            "for: say whose files to take: client, server or an address", field="for"
        )
    if args.side is not None and (names is not None or not is_placed):
        raise InvalidRequest(
            "for: give --cut, --here, --there or --placement beside it, and no --components",
            field="for",
        )

    def positions(manifest: Manifest) -> tuple[int, ...] | None:
        if names is not None:
            return named_positions(manifest, names.split(","))
        if args.side is None:
            return None
        place = {CLIENT: HERE, SERVER: THERE}.get(args.side, args.side)
        found = placement_of(manifest, cut_by(args), placed, None).at(place)
        # A client that runs nothing still reads the manifest: at cut 0 it needs no more.
        if not found and place != HERE:
            raise InvalidRequest(f"for: nothing is placed on {args.side[:SHOWN]}", field="for")
        return found

    return positions


def named_positions(manifest: Manifest, names: list[str]) -> tuple[int, ...]:
    """Positions of components by their names.

    Raises:
        InvalidRequest: there is none of that name.
    """
    known = [component.name for component in manifest.components]
    for name in names:
        if name not in known:
            raise InvalidRequest(
                f"components: no component {name[:SHOWN]!r}; this bundle has {', '.join(known)}",
                field="components",
            )
    return tuple(at for at, name in enumerate(known) if name in names)
