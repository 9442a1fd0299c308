"""`cascade token`: a new bearer token for one caller, and the line by which a server knows it.

The token is printed once and kept nowhere. Knows tokens; not servers.
"""

import argparse
import sys

from runtime_server.auth.static_keys import check_name, hash_token, make_token


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("token", help="make a bearer token for a caller of a server")
    parser.add_argument("name", metavar="NAME", help="the caller's name, for logs and quotas")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the token on standard output and what to do with it on standard error.

    Raises:
        InvalidRequest: the name is not one.
    """
    check_name(args.name)
    token = make_token()
    sys.stdout.write(f"{token}\n")
    sys.stdout.flush()
    sys.stderr.write(
        "the token is above, for the caller; this line is for the server's --token-keys file:\n"
        f'"{args.name}" = "{hash_token(token)}"\n'
    )
    return 0
