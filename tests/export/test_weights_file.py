"""Files of weights as they are written: valid safetensors, large tensors on pages."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from cascade.errors import ManifestError
from cascade.weights.header import header_bytes, read_header
from export.weights.weights_file import LARGE_BYTES, LINE, PAGE, new_tensor, write_weights

VALUES = {
    "odd": np.arange(7, dtype=np.int8),
    "large": np.arange(LARGE_BYTES // 4 + 1, dtype=np.float32),
    "half": np.arange(12, dtype=np.float16).reshape(3, 4),
    "single": np.float32(3.5),
}


def test_the_package_reads_what_is_written(tmp_path: Path) -> None:
    """Every tensor comes back from the format's own reader; only zeros stand between them."""
    path = tmp_path / "net.safetensors"
    _, layout = write_weights(path, [new_tensor(n, np.asarray(v)) for n, v in VALUES.items()])
    found = load_file(path)
    for name, value in VALUES.items():
        assert np.array_equal(found.pop(name), value)
    assert not any(value.any() for value in found.values())
    assert layout.tensors["large"].place[0] % PAGE == 0
    assert all(tensor.place[0] % LINE == 0 for tensor in layout.tensors.values())


def test_the_reader_takes_what_the_package_writes(tmp_path: Path) -> None:
    """Any file of the format in these dtypes, whatever its order and padding."""
    path = tmp_path / "net.safetensors"
    save_file({name: np.asarray(value) for name, value in VALUES.items()}, path)
    data = path.read_bytes()
    header = data[: header_bytes(data, len(data), path.name)]
    stored = read_header(header, len(data), path.name)
    assert stored.keys() == VALUES.keys()
    begin, end = stored["half"].place
    assert data[begin:end] == VALUES["half"].tobytes()


def test_a_dtype_that_no_graph_has_is_refused(tmp_path: Path) -> None:
    """The message names the dtypes that there are."""
    path = tmp_path / "net.safetensors"
    save_file({"wide": np.zeros(2, np.float64)}, path)
    data = path.read_bytes()
    header = data[: header_bytes(data, len(data), path.name)]
    with pytest.raises(ManifestError, match="wide: dtype 'F64' is none of F32, F16"):
        read_header(header, len(data), path.name)
