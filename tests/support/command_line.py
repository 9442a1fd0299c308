"""The `cascade` command as a child process, in a shell that lacks something."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PROMPT = "a red apple, noto style"
PATIENCE_S = 120
"""For any one command; far more than it takes."""
CASCADE = (sys.executable, "-m", "cascade")
WITHOUT_A_NAME = """
import os, sys
os.setreuid(54321, 0)
from cascade.commands.cli import main
sys.exit(main())
"""
"""The real user has no entry and hence no home; the effective one may still read this checkout."""
WITHOUT_PACKAGES = """
import importlib.util as util, sys
from importlib.abc import MetaPathFinder
class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
real = util.find_spec
util.find_spec = lambda name, package=None: None if name in {names!r} else real(name, package)
from cascade.commands.cli import main
sys.exit(main())
"""
"""An environment in which packages are not installed, as far as an import can tell."""
SMALL_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
from cascade.commands.cli import main
sys.exit(main())
"""
"""A disk that is full for every file of that size."""


def cascade(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    without: Sequence[str] = (),
    program: Sequence[str] = CASCADE,
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end.

    Args:
        arguments: the subcommand and its arguments.
        environment: over this process's.
        without: variables that are left out.
        program: what to run in place of `python -m cascade`.
    """
    variables = {**os.environ, **(environment or {})}
    return subprocess.run(
        [*program, *arguments],
        env={name: value for name, value in variables.items() if name not in without},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def lacking(*packages: str) -> tuple[str, ...]:
    """The command where these packages cannot be imported."""
    return (sys.executable, "-c", WITHOUT_PACKAGES.format(names=packages))


def in_shell(redirection: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command with what a shell does to its streams, such as `>&-`."""
    return cascade(*arguments, program=("sh", "-c", f'exec "$@" {redirection}', "sh", *CASCADE))


def generate_here(bundle: Path, output: Path, *more: str) -> tuple[str, ...]:
    """The arguments of a run with no server at all."""
    options = ("--bundle", str(bundle), "--cut", "4", "--threads", "1")
    return ("generate", PROMPT, "-o", str(output), *options, *more)


def generate_split(bundle: Path, output: Path, *more: str) -> tuple[str, ...]:
    """The arguments of a run with a private server."""
    options = ("--bundle", str(bundle), "--cut", "2", "--threads", "1")
    return ("generate", PROMPT, "-o", str(output), *options, *more)
