"""What a command says when it fails: one line on standard error, and one JSON object if wanted.

Knows errors and two streams; not what was attempted.
"""

import json
import math
import sys
from collections.abc import Sequence
from typing import Any

from cascade.commands.exit_codes import OUTPUT_CLOSED, OUTPUT_LOST, SIGNALLED, exit_code
from cascade.errors import CascadeError, EngineError, InvalidRequest, MissingExtra
from cascade.system.standard_streams import OutputLost

CTRL_C = 2
DISTRIBUTIONS = {"PIL": "pillow", "google": "protobuf", "grpc": "grpcio", "jwt": "pyjwt"}
"""Of packages that pip knows by another name."""
OURS = ("cascade", "export", "protos", "runtime_client", "runtime_server", "stages", "wire")


def report_error(error: Exception, words: Sequence[str]) -> int:
    """Say what is wrong; returns the exit code.

    Args:
        error: ours, or what the system refused.
        words: the command line, which may not have been understood: with `--json` in it there is an
            object too, on standard output unless a picture was to go there.
    """
    known = error if isinstance(error, CascadeError) else of_the_system(error)
    sys.stderr.write(describe(known) + "\n")
    code = exit_code(known)
    if "--json" in words:
        out = sys.stderr if "-" in words else sys.stdout
        try:
            out.write(json.dumps({"error": as_object(known, code)}) + "\n")
            out.flush()
        except OutputLost:
            # There was no more to say there.
            return code
    return code


def report_lost_output(lost: OutputLost) -> int:
    """Say so, unless whoever read it has simply gone; returns the exit code."""
    if lost.closed:
        return OUTPUT_CLOSED
    sys.stderr.write(f"error: {lost}; what it should have shown is lost\n")
    return OUTPUT_LOST


def report_interruption(interruption: KeyboardInterrupt, consequence: str) -> int:
    """Say so; returns the exit code.

    Args:
        interruption: the signal, or plain Ctrl-C.
        consequence: what it means for the user.
    """
    line = "error: interrupted"
    sys.stderr.write(f"{line}; {consequence}\n" if consequence else f"{line}\n")
    return int(getattr(interruption, "exit_code", SIGNALLED + CTRL_C))


def of_the_system(error: Exception) -> CascadeError:
    """The error of ours for what the system refused, or is not installed, unexpectedly."""
    if isinstance(error, ImportError):
        return not_importable(error)
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return InvalidRequest(f"{name}{error.strerror or error}")
    return EngineError("this machine has not enough memory for that")


def not_importable(error: ImportError) -> CascadeError:
    """A package is missing or broken; one of our own that is missing is a fault of ours.

    Raises:
        ImportError: the module is one of this software.
    """
    package = (error.name or "").partition(".")[0]
    if not package or package in OURS:
        raise error
    what = "is not installed" if isinstance(error, ModuleNotFoundError) else f"is broken: {error}"
    name = DISTRIBUTIONS.get(package, package.replace("_", "-"))
    return MissingExtra(
        f"the package {package} {what}: pip install --force-reinstall {name}; `cascade doctor` "
        "says which versions are needed"
    )


def describe(error: CascadeError) -> str:
    """One line: what is wrong and what to do."""
    line = f"error: {' '.join(str(error).split())}"
    if error.field and error.field not in line and error.field != "arguments":
        line += f" (field: {error.field})"
    if error.retry_after_s is not None and math.isfinite(error.retry_after_s):
        line += f" (try again in {error.retry_after_s:.1f} s)"
    return line


def as_object(error: CascadeError, code: int) -> dict[str, Any]:
    """The same for programs."""
    retry = error.retry_after_s
    return {
        "reason": error.reason,
        "message": " ".join(str(error).split()),
        "field": error.field or None,
        "retry_after_s": retry if retry is not None and math.isfinite(retry) else None,
        "request_id": error.request_id or None,
        "exit_code": code,
    }
