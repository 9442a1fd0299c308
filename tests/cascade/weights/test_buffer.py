"""Weights in memory: read chunk by chunk, shared, given back."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cascade.errors import ManifestError
from cascade.graph_spec import CHUNK_BYTES
from cascade.weights.buffer import WeightBuffer, WeightBuffers
from export.weights.weights_file import new_tensor, write_weights


@dataclass(frozen=True)
class Written:
    """A file of two chunks: `early` in the first, `wide` in both, `late` in the second."""

    path: Path
    buffer: WeightBuffer


# No other run of the tests has the same: chunks are found in other processes too.
EARLY = np.arange(1000, dtype=np.float32) + os.getpid()
LATE = np.arange(30, dtype=np.int64).reshape(5, 6) + os.getpid()


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """The file, and a buffer that has read nothing of it."""
    path = tmp_path / "net.safetensors"
    wide = np.zeros(CHUNK_BYTES, np.uint8)
    values = {"early": EARLY, "wide": wide, "late": LATE}
    entry, _ = write_weights(path, [new_tensor(name, value) for name, value in values.items()])
    assert len(entry.chunks) == 2
    return Written(path, WeightBuffer(path, entry))


def turn_bit(path: Path, at: int) -> None:
    """Change one bit of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def test_tensors_come_as_they_were_written(written: Written) -> None:
    """Names, dtypes, shapes and numbers, not to be written to."""
    lease = written.buffer.lease(["early", "late"])
    assert (lease.tensors["early"] == EARLY).all()
    assert lease.tensors["late"].dtype == np.int64
    assert (lease.tensors["late"] == LATE).all()
    assert not lease.tensors["late"].flags.writeable
    assert lease.size_bytes == EARLY.nbytes + LATE.nbytes


def test_only_what_is_asked_for_is_read(written: Written) -> None:
    """A changed chunk is found by whoever needs it, and by nobody else."""
    turn_bit(written.path, written.path.stat().st_size - 1)
    assert (written.buffer.lease(["early"]).tensors["early"] == EARLY).all()
    with pytest.raises(ManifestError, match=r"net.safetensors: sha256 of chunk 1 is"):
        written.buffer.lease(["late"])


def test_leases_share_memory(written: Written) -> None:
    """Two sessions of one component hold its weights once, however many bundles' worth of names."""
    first, second = written.buffer.lease(["early"]), written.buffer.lease(["early", "late"])
    assert np.shares_memory(first.tensors["early"], second.tensors["early"])


def test_what_nobody_holds_is_given_back(written: Written) -> None:
    """The kernel takes the pages: they read as zeros, and are read from the file again."""
    first, second = written.buffer.lease(["late"]), written.buffer.lease(["late"])
    view = first.tensors["late"]
    first.release()
    assert (view == LATE).all(), "another lease holds it"
    second.keep(["nothing"])
    assert not view.any()
    assert (written.buffer.lease(["late"]).tensors["late"] == LATE).all()


def test_a_buffer_lives_as_long_as_somebody_holds_it(written: Written) -> None:
    """One per file of a bundle, also for sessions that are opened one after the other."""
    buffers = WeightBuffers()
    first = buffers.of(written.path, written.buffer.entry)
    assert buffers.of(written.path, written.buffer.entry) is first
    lease = first.lease(["early"])
    del first
    again = buffers.of(written.path, written.buffer.entry).lease(["early"])
    assert np.shares_memory(lease.tensors["early"], again.tensors["early"])
