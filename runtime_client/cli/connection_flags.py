"""The flags that every subcommand of the client has: the bundle, the server, and the credentials.

Knows argparse and the configuration's names; what a value means is known elsewhere.
"""

# ruff: noqa: E501  one option per line, however long its help

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from cascade.bundle.default_bundle import DEFAULT_WORDS
from runtime_client.cli.placement_flags import placed_by
from runtime_client.config import DEFAULT_TIMEOUT_S, DEFAULT_WAIT_S, ClientConfig
from runtime_client.credentials import TOKEN_VARIABLE
from runtime_client.placement import HERE, THERE


def add_connection_flags(parser: argparse.ArgumentParser, server: str) -> None:
    """Add the flags, that of the bundle too; see `add_server_flags`."""
    words = f"folder of the bundle (default: {DEFAULT_WORDS})"
    parser.add_argument("--bundle", type=Path, metavar="DIR", help=words)
    add_server_flags(parser, server, DEFAULT_TIMEOUT_S)


def add_server_flags(parser: argparse.ArgumentParser, server: str, timeout_s: float) -> None:
    """Add the flags of the signature, the server, and the credentials.

    Args:
        parser: of a subcommand.
        server: what `--server` is to that subcommand.
        timeout_s: default of `--timeout`.
    """
    parser.add_argument("--server", metavar="ADDR", help=server)
    add_credential_flags(parser, timeout_s)


def add_credential_flags(parser: argparse.ArgumentParser, timeout_s: float) -> None:
    """Add the flags of the signature, the credentials and the patience.

    Args:
        parser: of a subcommand.
        timeout_s: default of `--timeout`.
    """
    add = parser.add_argument
    # fmt: off
    add("--require-signature", type=Path, metavar="KEY", help="PEM file with the public key that must have signed the bundle (default: none)")
    add("--tls", action="store_true", help="encrypt the connection to the server (default: off)")
    add("--ca", "--tls-ca", type=Path, metavar="FILE", help="PEM file with the authorities to trust (default: the system's)")
    add("--client-cert", type=Path, metavar="FILE", help="PEM file with this client's certificate, for servers that require one (default: none)")
    add("--client-key", type=Path, metavar="FILE", help="PEM file with its private key (default: none)")
    add("--token", default="", metavar="TOKEN", help=f"bearer token for servers that require one; other users may see it in the list of processes, so rather use --token-file or the variable {TOKEN_VARIABLE} (default: none)")
    add("--token-file", type=Path, metavar="FILE", help="file with the token (default: none)")
    add("--token-over-plaintext", action="store_true", help="send the token unencrypted to another machine too (default: off)")
    add("--timeout", type=float, default=timeout_s, metavar="S", help=f"longest time for the request in seconds (default: {timeout_s:g})")
    add("--wait", type=float, default=DEFAULT_WAIT_S, metavar="S", help=f"how long to try again in seconds where the server does not answer yet (default: {DEFAULT_WAIT_S:g})")
    # fmt: on


def connection_config(args: argparse.Namespace) -> ClientConfig:
    """A client that runs nothing here, by the flags and the token from the environment."""
    placed = placed_by(args) if "placement" in args else None
    elsewhere = [place for place in (placed or {}).values() if place not in (HERE, THERE)]
    return security_config(args, args.server, placed, names_a_server=bool(elsewhere))


def security_config(
    args: argparse.Namespace,
    server: str | None,
    placed: Mapping[str, str] | None = None,
    *,
    names_a_server: bool = False,
) -> ClientConfig:
    """A client that runs nothing here, by the flags of credentials.

    Args:
        args: the command line.
        server: address of the server, if one is named.
        placed: where components run, if that is said by name.
        names_a_server: whether `placed` names one; the token from the environment is for it too.
    """
    # gRPC's own lines come before the error that says the same.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    token = args.token
    if not token and args.token_file is None and (server is not None or names_a_server):
        token = os.environ.get(TOKEN_VARIABLE, "")
    return ClientConfig(
        cut=0,
        placement=placed,
        server=server,
        timeout_s=args.timeout,
        wait_s=args.wait,
        tls=args.tls,
        ca_file=args.ca,
        require_signature=args.require_signature,
        client_cert=args.client_cert,
        client_key=args.client_key,
        token=token,
        token_file=args.token_file,
        token_over_plaintext=args.token_over_plaintext,
    )
