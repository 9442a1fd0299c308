"""Processes of one machine have one copy of a component's weights, which none of them can change.

A network of one product, its weight beside it for ONNX Runtime and inside for OpenVINO. Of Linux,
as all tests that read /proc.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from cascade.engine import Engine
from cascade.engines.factory import EngineChoice, EngineKind, open_engine
from cascade.graph_spec import FileEntry
from cascade.precision import Precision
from cascade.system import sealed_memory
from cascade.system.sealed_memory import PREFIX, find_sealed
from cascade.weights import buffer
from cascade.weights.buffer import WeightBuffer
from cascade.weights.references import find_references
from cascade.weights.source import ExternalGraph, whole_graph
from export.weights.beside import move_weights

WIDTH = 2048
KIB = WIDTH * WIDTH * 4 >> 10
GRAPH, WEIGHTS = "net.onnx", "net.safetensors"
ELSEWHERE = """
import json, sys
from tests.cascade.weights.test_shared import *
print(json.dumps(look(open_product(Path(sys.argv[1]), EngineKind(sys.argv[2])))))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of graph and weight; no other run of the tests has the same."""
    folder = tmp_path_factory.mktemp("product")
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", WIDTH]) for n in "xy"]
    weight = numpy_helper.from_array(np.full((WIDTH, WIDTH), os.getpid(), np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    made = helper.make_graph(nodes, "g", infos[:1], infos[1:], [weight])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    moved = move_weights({GRAPH: model.SerializeToString()}, folder / WEIGHTS)
    assert moved is not None
    (folder / GRAPH).write_bytes(moved.files[GRAPH])
    return folder


def read_product(folder: Path) -> ExternalGraph:
    """The network as a bundle's reader takes it: of one chunk."""
    data, weights = (folder / GRAPH).read_bytes(), (folder / WEIGHTS).read_bytes()
    digest = hashlib.sha256(weights).hexdigest()
    entry = FileEntry(name=WEIGHTS, sha256=digest, size_bytes=len(weights), chunks=(digest,))
    names = tuple(find_references(data, GRAPH))
    return ExternalGraph(data, names, WeightBuffer(folder / WEIGHTS, entry))


def open_product(folder: Path, kind: EngineKind) -> Engine:
    """An engine at work on it."""
    read = read_product(folder)
    graph = whole_graph(read) if kind is EngineKind.OPENVINO else read
    return open_engine(graph, EngineChoice(kind, Precision.FP32, 1), cache=folder / "cache")


def look(engine: Engine) -> tuple[float, int, int, int]:
    """Sum of an answer; inode, and KiB resident and written to, of this process's shared memory."""
    answer = float(engine.run({"x": np.ones((1, WIDTH), np.float32)})["y"].sum())
    return (answer, *mapped())


def mapped() -> tuple[int, int, int]:
    """Inode and KiB of the one mapping of shared memory, as the kernel lists it; zeros for none."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        if f"/memfd:{PREFIX}" in line:
            kib = dict(next(lines).split()[:2] for _ in range(15))
            return int(line.split()[4]), int(kib["Rss:"]), int(kib["Private_Dirty:"])
    return 0, 0, 0


def here(folder: Path, kind: EngineKind = EngineKind.ORT) -> tuple[float, int, int, int]:
    """What an engine has that is closed again."""
    engine = open_product(folder, kind)
    found = look(engine)
    engine.close()
    return found


@pytest.mark.parametrize("kind", [EngineKind.ORT, EngineKind.OPENVINO])
def test_two_processes_have_one_copy(folder: Path, kind: EngineKind) -> None:
    """The same 16 MiB of the kernel, of which the second has none of its own; gone with both."""
    # OpenVINO has a copy of its own when it compiles: shared is what it then finds in its cache.
    compiled = here(folder, kind)
    engine = open_product(folder, kind)
    first = look(engine)
    command = [sys.executable, "-c", ELSEWHERE, str(folder), kind]
    second = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert compiled[0] == first[0] == second[0]
    assert first[1] == second[1] != 0
    assert min(first[2], second[2]) >= KIB
    assert second[3] == 0
    engine.close()
    del engine
    assert mapped() == (0, 0, 0)


@pytest.mark.parametrize("least", [1 << 60, 1 << 24])
def test_memory_of_its_own_makes_the_same_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch, least: int
) -> None:
    """Where files are too small, or where too many are open already."""
    shared = here(folder)
    monkeypatch.setattr(buffer, "LEAST_SHARED", least)
    monkeypatch.setattr(sealed_memory.resource, "getrlimit", lambda _: (2, 2))
    assert here(folder) == (shared[0], 0, 0, 0)


def test_memory_that_may_change_is_not_taken(folder: Path) -> None:
    """Under the right name, but not sealed: it is left alone, and another copy made."""
    chunk = read_product(folder).buffer.entry.sha256
    descriptor = os.memfd_create(PREFIX + chunk, os.MFD_ALLOW_SEALING)
    try:
        assert here(folder)[1] not in (0, os.fstat(descriptor).st_ino)
        assert find_sealed({chunk}) == {}
    finally:
        os.close(descriptor)


def test_a_check_of_files_looks_at_the_files(folder: Path) -> None:
    """What another has in memory says nothing of the file."""
    first, other = read_product(folder).buffer, read_product(folder).buffer
    lease = first.lease(["w"])
    assert other.found_bytes == other.entry.size_bytes
    other.lease(["w"]).release()
    assert (other.checked, other.read) == ({0}, set())
    lease.release()
    assert other.found_bytes == 0
    other.lease(["w"]).release()
    assert other.read == {0}
