"""`cascade serve`: the server from the command line.

Registering costs nothing: gRPC and the engine are imported when the command runs.
"""

import argparse
import os
import sys
from pathlib import Path

from cascade.engines.kinds import EngineKind
from cascade.errors import CascadeError
from cascade.precision import Precision
from cascade.wishes import AUTO
from runtime_server.config import ServerConfig
from runtime_server.logs import LOG_LEVELS, configure_logs

DEFAULT_BUNDLE = Path("bundles/emoji-1")
EXIT_REFUSED = 2


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "serve",
        help="host components of a bundle over gRPC",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--bundle", type=Path, default=DEFAULT_BUNDLE, help="folder of the bundle")
    add("--listen", default="127.0.0.1:7860", help="host:port, or unix:PATH")
    add("--cut", type=int, default=0, help="host only the components from this position on")
    add("--threads", type=int, default=0, help="threads of one engine run; 0: one per core")
    add("--engine", default=AUTO, help=f"auto, {', '.join(EngineKind)}, or COMPONENT=ENGINE,...")
    add(
        "--precision",
        default=AUTO,
        help=f"auto, {', '.join(Precision)}, or COMPONENT=PRECISION,...",
    )
    add("--max-queued", type=int, default=16, help="requests that may wait per component")
    add("--drain-grace", type=float, default=30.0, help="seconds for requests in flight at the end")
    add("--tls-cert", type=Path, help="PEM file with the certificate chain")
    add("--tls-key", type=Path, help="PEM file with the private key")
    add("--insecure", action="store_true", help="allow plaintext beyond this machine")
    add("--reflection", action="store_true", help="answer gRPC reflection")
    add("--until-stdin-closes", action="store_true", help="also stop at the end of standard input")
    add("--log-level", choices=LOG_LEVELS, default="info", help="least severity that is logged")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until asked to stop; 2 and one line on standard error when that cannot begin."""
    configure_logs(args.log_level)
    try:
        config = ServerConfig(
            bundle=args.bundle,
            listen=args.listen,
            cut=args.cut,
            threads=args.threads,
            engine=args.engine,
            precision=args.precision,
            max_queued_per_stage=args.max_queued,
            drain_grace_s=args.drain_grace,
            tls_cert=args.tls_cert,
            tls_key=args.tls_key,
            insecure=args.insecure,
            reflection=args.reflection,
        )
        # gRPC's own lines are not JSON, and what they say is raised as well.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        # Imported here so that `cascade --help` loads neither gRPC nor the engine.
        from runtime_server.server import run_server

        return run_server(
            config, stop_at_eof=sys.stdin.fileno() if args.until_stdin_closes else None
        )
    except CascadeError as exc:
        line = " ".join(str(exc).split())
        print(f"error: {line}", file=sys.stderr)
        return EXIT_REFUSED
