"""A real `tritonserver` on ephemeral ports, from an environment that has nvidia-pytriton.

That environment is not this one: it needs numpy 1 and an older protobuf. `make triton-test` makes
it. Its wheel has the Python backend alone; see `triton_backend` for what stands in for the other.
"""

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.reserved_port import reserved_address
from tests.support.serving import wait_until

VARIABLE = "TRITON_ENVIRONMENT"
READY_WITHIN_S = 60.0


class TritonServer:
    """One server over one repository."""

    def __init__(self, process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
        self.process = process
        self.address = address
        self._log = log

    @property
    def log(self) -> str:
        """All that it wrote."""
        return self._log.read_text("utf-8", "replace")

    def get(self, path: str) -> Any:
        """JSON of one of its pages."""
        with urllib.request.urlopen(f"http://{self.address}/v2/{path}", timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def is_up(self) -> bool:
        """Whether it answers, with or without all models."""
        assert self.process.poll() is None, self.log
        try:
            self.get("health/live")
        except (urllib.error.URLError, OSError):
            return False
        return True

    def ready(self) -> set[str]:
        """Names of the models that it serves."""
        request = urllib.request.Request(
            f"http://{self.address}/v2/repository/index", data=b"{}", method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310  of this test
            return {m["name"] for m in json.loads(answer.read()) if m.get("state") == "READY"}

    def runs(self, model: str) -> tuple[int, int]:
        """Rows and runs of a model so far."""
        (found,) = self.get(f"models/{model}/stats")["model_stats"]
        return found["inference_count"], found["execution_count"]


def triton_site() -> Path:
    """The packages of the environment with Triton; skips where there is none."""
    named = os.environ.get(VARIABLE)
    if named is None:
        pytest.skip(f"{VARIABLE} names no environment with nvidia-pytriton: `make triton-test`")
    (site,) = Path(named).glob("lib/python*/site-packages")
    return site


def backends(site: Path, folder: Path) -> Path:
    """A folder of backends: Python's as the wheel has it, and our stand-in."""
    wheel = site / "pytriton" / "tritonserver"
    shutil.copytree(wheel / "backends" / "python", folder / "python")
    version = site.parent.name.removeprefix("python")
    stub = wheel / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy(stub, folder / "python")
    (folder / "onnxruntime").mkdir()
    shutil.copy(triton_backend_file(), folder / "onnxruntime" / "model.py")
    return folder


def triton_backend_file() -> Path:
    """The stand-in's source: it is imported by Triton's interpreter, not by this one."""
    return Path(__file__).with_name("triton_backend.py")


@contextmanager
def tritonserver(repository: Path, folder: Path) -> Iterator[TritonServer]:
    """A server for the length of a `with` block.

    Args:
        repository: of the models.
        folder: an empty one, for backends and the log.
    """
    with reserved_address() as address, running_at(address, repository, folder) as server:
        wait_until(server.is_up, READY_WITHIN_S)
        yield server


@contextmanager
def running_at(address: str, repository: Path, folder: Path) -> Iterator[TritonServer]:
    """The process; see `tritonserver`."""
    site = triton_site()
    log = folder / "log"
    command = [
        str(site / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={backends(site, folder / 'backends')}",
        "--exit-on-error=false",
        "--strict-readiness=false",
        "--disable-auto-complete-config",
        "--http-address=127.0.0.1",
        f"--http-port={address.rpartition(':')[2]}",
        "--allow-grpc=false",
        "--allow-metrics=false",
    ]
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(site / "nvidia_pytriton.libs"),
        "PATH": f"{site.parents[2] / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "TRITON_SITE": str(site),
    }
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        yield TritonServer(process, address, log)
    finally:
        process.kill()
        process.wait()
