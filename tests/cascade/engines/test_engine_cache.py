"""The engine cache: every part of the key counts, and nothing but a whole file of ours is read."""

import multiprocessing
import os
import signal
import threading
import time
from dataclasses import fields, replace
from pathlib import Path

import pytest

from cascade.engines.engine_cache import (
    LENGTH_BYTES,
    MAGIC,
    CachedEngine,
    CacheKey,
    EngineCache,
    Made,
    Unfit,
    seal,
)
from cascade.errors import EngineError
from cascade.precision import Precision

KEY = CacheKey(
    graph_sha256="a" * 64,
    library="tensorrt_rtx",
    library_version="1.7.1.116",
    target="8.6",
    profile="batch=1..2..8",
    precision=Precision.FP16,
    flags=("refit=off", "workspace_mib=4096"),
)
OTHERS = {
    "graph_sha256": "b" * 64,
    "library": "tensorrt",
    "library_version": "1.7.1.117",
    "target": "8.9",
    "profile": "batch=1..2..9",
    "precision": Precision.BF16,
    "flags": ("refit=on", "workspace_mib=4096"),
}
PAYLOAD = bytes(range(256)) * 40


class Builder:
    """Builds at once and counts."""

    def __init__(self, payload: bytes = PAYLOAD) -> None:
        self.payload = payload
        self.builds = 0

    def __call__(self) -> Made:
        """An engine that says which build it was."""
        self.builds += 1
        return Made(self.payload, {"layers": {"CONVOLUTION": self.builds}})


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    """An empty cache."""
    return EngineCache(tmp_path / "engines")


def filled(cache: EngineCache) -> Path:
    """The file of `KEY`, put there."""
    cache.get_or_build(KEY, Builder())
    return cache.path(KEY)


def test_what_was_built_is_found_again(cache: EngineCache) -> None:
    """Built once, with its facts; from then on read."""
    build = Builder()
    first = cache.get_or_build(KEY, build)
    second = EngineCache(cache.folder).get_or_build(KEY, build)
    facts = {"layers": {"CONVOLUTION": 1}}
    assert first == CachedEngine(PAYLOAD, facts, built=True, why="not built yet")
    assert second == CachedEngine(PAYLOAD, facts, built=False, why="")
    assert build.builds == 1


def test_the_changes_below_cover_the_whole_key() -> None:
    """A field added to the key must be added to the next test."""
    assert {field.name for field in fields(CacheKey)} == set(OTHERS)


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_each_part_of_the_key_alone_forces_a_build(cache: EngineCache, name: str) -> None:
    """Another graph, library, version, card, profile, precision or flag is another engine."""
    filled(cache)
    other = replace(KEY, **{name: OTHERS[name]})
    assert other.digest != KEY.digest
    build = Builder(b"another engine")
    assert cache.get_or_build(other, build).payload == b"another engine"
    assert build.builds == 1
    assert cache.get_or_build(KEY, build).payload == PAYLOAD
    assert build.builds == 1


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_a_file_of_another_key_under_our_name_is_built_again(cache: EngineCache, name: str) -> None:
    """A whole file, moved to the name of a key that differs in one part, is not loaded."""
    other = replace(KEY, **{name: OTHERS[name]})
    cache.path(KEY).write_bytes(seal(other, Made(b"stale", {})))
    cache.path(KEY).chmod(0o600)
    found = cache.get_or_build(KEY, Builder())
    assert (found.payload, found.built) == (PAYLOAD, True)
    assert found.why == "the file was made for another key"


def test_every_truncation_is_noticed(cache: EngineCache) -> None:
    """A file cut anywhere is built again: in the magic, the header, the engine."""
    path = filled(cache)
    whole = path.read_bytes()
    for length in [*range(0, len(whole) - len(PAYLOAD), 7), len(whole) - 100, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(Unfit):
            cache.read(KEY)
    path.write_bytes(whole + b"x")
    with pytest.raises(Unfit):
        cache.read(KEY)


def test_changed_bytes_are_noticed(cache: EngineCache) -> None:
    """One bit of magic, length, header, facts or engine."""
    path = filled(cache)
    whole = path.read_bytes()
    start = len(whole) - len(PAYLOAD)
    for at in [*range(0, start, 4), start, start + 5000, len(whole) - 1]:
        changed = bytearray(whole)
        changed[at] ^= 1
        path.write_bytes(changed)
        with pytest.raises(Unfit):
            cache.read(KEY)
    path.write_bytes(whole)
    assert cache.read(KEY).payload == PAYLOAD


@pytest.mark.parametrize(
    "data",
    [b"", b"ftrt\x00 a bare engine", MAGIC, MAGIC + b"\xff" * LENGTH_BYTES + b"{}",
     MAGIC + (2).to_bytes(LENGTH_BYTES, "little") + b"{}",
     MAGIC + (2).to_bytes(LENGTH_BYTES, "little") + b"[]",
     MAGIC + (4).to_bytes(LENGTH_BYTES, "little") + b"\xff\xfe\xfd\xfc"],
)  # fmt: skip
def test_foreign_files_are_built_over(cache: EngineCache, data: bytes) -> None:
    """Anything that is not of this cache, whatever it is."""
    cache.path(KEY).write_bytes(data)
    cache.path(KEY).chmod(0o600)
    assert cache.get_or_build(KEY, Builder()).built
    assert cache.read(KEY).payload == PAYLOAD


def test_links_and_pipes_are_built_over(cache: EngineCache, tmp_path: Path) -> None:
    """Neither a symbolic nor a hard link nor a named pipe is read, though its bytes would fit."""
    path = filled(cache)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert "cannot be opened" in cache.get_or_build(KEY, Builder()).why
    assert not path.is_symlink()
    path.unlink()
    path.hardlink_to(elsewhere)
    assert cache.get_or_build(KEY, Builder()).why == "not a plain file of its own"
    path.unlink()
    os.mkfifo(path, 0o600)
    assert cache.get_or_build(KEY, Builder()).why == "not a plain file of its own"
    assert cache.read(KEY).payload == PAYLOAD


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_built_over(cache: EngineCache, mode: int) -> None:
    """Whole and of the right key, and still not trusted."""
    path = filled(cache)
    path.chmod(mode)
    found = cache.get_or_build(KEY, Builder())
    assert found.why == "others than this user could have written the file"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    """And the message says how to close it."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(EngineError, match="chmod 700") as caught:
        EngineCache(folder)
    assert caught.value.field == "cache"


def test_a_folder_that_others_could_swap_is_refused(tmp_path: Path) -> None:
    """A private folder inside an open one is not private; inside a sticky one it is."""
    parent = tmp_path / "open"
    parent.mkdir()
    parent.chmod(0o777)
    with pytest.raises(EngineError, match="can be written by others"):
        EngineCache(parent / "engines")
    parent.chmod(0o1777)
    EngineCache(parent / "engines")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
def test_what_belongs_to_another_user_is_refused(cache: EngineCache, tmp_path: Path) -> None:
    """A file of somebody else is built over; a folder of somebody else is refused."""
    path = filled(cache)
    os.chown(path, 12345, -1)
    assert "others than this user" in cache.get_or_build(KEY, Builder()).why
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, -1)
    with pytest.raises(EngineError):
        EngineCache(folder)


def test_a_new_folder_is_the_owners_alone(cache: EngineCache) -> None:
    """0700, files 0600."""
    assert cache.folder.stat().st_mode & 0o777 == 0o700
    assert filled(cache).stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """Named, not a traceback."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="cache: "):
        EngineCache(tmp_path / "file" / "engines")


def test_a_failed_build_leaves_nothing(cache: EngineCache) -> None:
    """The error comes through, no file appears, and the next builder is not blocked."""

    def fail() -> Made:
        raise EngineError("no")

    with pytest.raises(EngineError, match="no"):
        cache.get_or_build(KEY, fail)
    assert [p.suffix for p in cache.folder.iterdir()] == [".lock"]
    assert cache.get_or_build(KEY, Builder()).built


def test_threads_build_once(cache: EngineCache) -> None:
    """Eight at once: one builds, the others wait and read."""
    builds: list[float] = []

    def build() -> Made:
        builds.append(time.monotonic())
        time.sleep(0.05)
        return Made(PAYLOAD, {})

    found: list[CachedEngine] = []
    threads = [
        threading.Thread(target=lambda: found.append(cache.get_or_build(KEY, build)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert [item.payload for item in found] == [PAYLOAD] * 8
    assert sum(item.built for item in found) == 1


def build_slowly(folder: Path, log: Path) -> None:
    """One of several processes; notes that it built."""

    def build() -> Made:
        with log.open("a") as file:
            file.write("built\n")
        time.sleep(0.2)
        return Made(PAYLOAD, {})

    assert EngineCache(folder).get_or_build(KEY, build).payload == PAYLOAD


def build_forever(folder: Path, started: Path) -> None:
    """A process that is killed while it builds."""

    def build() -> Made:
        started.touch()
        time.sleep(60)
        return Made(PAYLOAD, {})

    EngineCache(folder).get_or_build(KEY, build)


def test_processes_build_once(cache: EngineCache, tmp_path: Path) -> None:
    """The lock holds between processes too."""
    spawn = multiprocessing.get_context("fork" if threading.active_count() == 1 else "spawn")
    log = tmp_path / "log"
    children = [spawn.Process(target=build_slowly, args=(cache.folder, log)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * 4
    assert log.read_text() == "built\n"


def test_a_killed_builder_blocks_nobody(cache: EngineCache, tmp_path: Path) -> None:
    """Its lock ends with it, and what it wrote is not taken for an engine."""
    started = tmp_path / "started"
    spawn = multiprocessing.get_context("spawn")
    child = spawn.Process(target=build_forever, args=(cache.folder, started))
    child.start()
    deadline = time.monotonic() + 120
    while not started.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert started.exists()
    os.kill(child.pid or 0, signal.SIGKILL)
    child.join(120)
    assert cache.get_or_build(KEY, Builder()).built


def test_readers_never_see_half_a_file(cache: EngineCache) -> None:
    """While one writes over and over, every read finds a whole engine."""
    filled(cache)
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            cache.write(KEY, Made(PAYLOAD * 20, {}))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(200):
            assert cache.read(KEY).payload[: len(PAYLOAD)] == PAYLOAD
    finally:
        stop.set()
        thread.join()
    assert not [p for p in cache.folder.iterdir() if p.name.startswith(".")]
