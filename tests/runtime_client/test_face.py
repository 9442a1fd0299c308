"""The package's face, and what importing and running it may load."""

import subprocess
import sys
from pathlib import Path

import pytest

import runtime_client
from cascade.bundle.bundle import Bundle

FACE = {
    "Accepted",
    "BundleMismatch",
    "Cancelled",
    "CascadeError",
    "Client",
    "ClientConfig",
    "DeadlineExceeded",
    "Edit",
    "Event",
    "FellBack",
    "GenerateRequest",
    "InvalidRequest",
    "KeptPicture",
    "PermissionDenied",
    "PlacementError",
    "Preview",
    "Progress",
    "QuotaExceeded",
    "RequestIdTaken",
    "Result",
    "Resumed",
    "ServerBusy",
    "StageFinished",
    "DiffusionOptions",
    "TransportError",
    "Transferred",
    "Unauthenticated",
    "UnknownRequest",
    "VersionMismatch",
    "Wish",
}

RUN = """
import sys
from runtime_client import Client
with Client(sys.argv[1], cut=int(sys.argv[2]), threads=1) as client:
    result = client.generate("a red apple", seed=3)
assert result.image.shape == (32, 32, 3)
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"torch", "onnx", "stages", "export", "runtime_server", "transformers"}))
"""

IMPORT = """
import sys
import runtime_client
import runtime_client.cli.cli
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(loaded & {"torch", "onnx", "onnxruntime", "grpc", "google", "tokenizers", "PIL"}))
"""


def python(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_face_is_the_documented_one() -> None:
    """Explicit re-exports and nothing else but submodules."""
    folder = Path(runtime_client.__file__).parent
    submodules = {path.stem for path in folder.iterdir()}
    names = {name for name in vars(runtime_client) if not name.startswith("_")}
    assert names - submodules == FACE


@pytest.mark.parametrize("cut", [2, 4])
def test_a_whole_run_is_free_of_torch(bundle: Bundle, cut: int) -> None:
    """With and without a server: no torch, no onnx, none of the other half's code."""
    assert python(RUN, str(bundle.folder), str(cut)) == "[]"


def test_importing_is_light() -> None:
    """Neither gRPC, nor an engine, nor a picture library before the first request."""
    assert python(IMPORT) == "[]"
