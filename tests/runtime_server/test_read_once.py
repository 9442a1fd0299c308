"""A starting server reads and hashes each of its files once, and leaves none unchecked."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from cascade.bundle import bundle as bundle_module
from cascade.errors import ManifestError
from cascade.system.bounded_files import open_plain
from cascade.weights import buffer as buffer_module
from runtime_server.config.config import ServerConfig
from runtime_server.core import load_core
from runtime_server.executors import local as local_module
from tests.support.beside_bundle import move_beside
from tests.support.tiny_bundle import write_tiny_bundle

READ_TWICE = {"tokenizer.json": 2}
"""By the encoder, and by the check of prompts before they are queued."""


@pytest.fixture(params=["inside", "beside"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A bundle with int8 variants, its weights in the graphs or beside them."""
    write_tiny_bundle(tmp_path, int8=True)
    if request.param == "beside":
        move_beside(tmp_path)
    return tmp_path


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was opened to be read."""
    found: Counter[str] = Counter()

    def counted(path: Path) -> BinaryIO:
        found[path.name] += 1
        return open_plain(path)

    monkeypatch.setattr(bundle_module, "open_plain", counted)
    monkeypatch.setattr(buffer_module, "open_plain", counted)
    return found


class Idle(Executor):
    """Begins what it is given when somebody waits for it, or at once."""

    def __init__(self, *, at_once: bool) -> None:
        self._at_once = at_once

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is done, or is when it is asked."""
        future = Later(lambda: fn(*args, **kwargs))
        if self._at_once:
            future.result()
        return future


class Later(Future[Any]):
    """Runs in the thread that asks for its result."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self._work = work

    def result(self, timeout: float | None = None) -> Any:
        """Of the work, which is done once."""
        if not self.done():
            self.set_result(self._work())
        return super().result(timeout)


def serve(folder: Path, **settings: str) -> None:
    """Start, and close again."""
    load_core(ServerConfig(bundle=folder, engine="ort", threads=1, **settings)).close()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_file_is_read_once(folder: Path, opened: Counter[str], precision: str) -> None:
    """Those that are opened to run, and those of other precisions."""
    serve(folder, precision=precision)
    listed = {path.name: 1 for path in folder.iterdir() if not path.name.startswith("manifest")}
    del opened["manifest.json"]
    assert opened == {**listed, **{n: t for n, t in READ_TWICE.items() if n in listed}}


@pytest.mark.parametrize("first", ["check", "opening"])
def test_it_is_the_same_whichever_is_first(
    folder: Path, opened: Counter[str], monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """The other files are checked in a thread of its own, before or after engines are opened."""
    idle = Idle(at_once=first == "check")
    monkeypatch.setattr(local_module, "ThreadPoolExecutor", lambda **_: idle)
    test_every_file_is_read_once(folder, opened, "fp32")


@pytest.mark.parametrize("part", ["sr16.onnx", "sr16.int8.onnx", "sr16.safetensors"])
def test_a_changed_file_stops_the_start(folder: Path, part: str) -> None:
    """Also one that nothing opens: it might be asked for later."""
    path = folder / part
    if not path.exists():
        pytest.skip("this form of the bundle has no such file")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ManifestError, match=part):
        serve(folder)
