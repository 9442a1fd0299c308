"""The safetensors format, against its own package in both directions."""

import json
import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stages.safetensors_file import load_safetensors, save_safetensors

theirs = pytest.importorskip("safetensors.torch", reason="pip install safetensors")


def tensors() -> dict[str, Tensor]:
    """One tensor of every dtype and of unusual shapes."""
    generator = torch.Generator().manual_seed(0)
    return {
        "matrix": torch.randn(3, 5, generator=generator),
        "half": torch.randn(4, generator=generator).half(),
        "brain": torch.randn(2, 1, 2, generator=generator).bfloat16(),
        "long": torch.tensor([2**40, -1]),
        "int": torch.tensor([[7]], dtype=torch.int32),
        "small": torch.tensor([-128, 127], dtype=torch.int8),
        "byte": torch.arange(256, dtype=torch.uint8),
        "number": torch.tensor(0.5),
        "empty": torch.zeros(0, 3),
        "turned": torch.randn(4, 6, generator=generator).T,
        "naïve / name": torch.ones(1),
    }


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """The same names, dtypes, shapes and bits."""
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert torch.equal(found[name], tensor), name


def write(path: Path, header: object, body: bytes = b"", length: int | None = None) -> Path:
    """A file with that header and those bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + body)
    return path


def test_round_trip(tmp_path: Path) -> None:
    """What is saved is loaded, to the bit."""
    save_safetensors(tmp_path / "own", tensors())
    assert_same(load_safetensors(tmp_path / "own"), tensors())


def test_their_package_reads_ours(tmp_path: Path) -> None:
    """A file of ours is a safetensors file."""
    save_safetensors(tmp_path / "own", tensors())
    assert_same(theirs.load_file(tmp_path / "own"), tensors())


def test_we_read_theirs(tmp_path: Path) -> None:
    """A file of theirs, metadata included, is read."""
    expected = {name: tensor.contiguous() for name, tensor in tensors().items()}
    theirs.save_file(expected, tmp_path / "theirs", metadata={"format": "pt"})
    assert_same(load_safetensors(tmp_path / "theirs"), expected)


def test_loaded_tensors_are_their_own(tmp_path: Path) -> None:
    """A loaded tensor may be written to."""
    save_safetensors(tmp_path / "own", {"w": torch.zeros(2)})
    loaded = load_safetensors(tmp_path / "own")["w"]
    loaded += 1
    assert loaded.tolist() == [1, 1]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    """A tensor that the format has no name for stops the writing; the old file is whole."""
    path = tmp_path / "own"
    save_safetensors(path, {"w": torch.ones(2)})
    with pytest.raises(KeyError):
        save_safetensors(path, {"w": torch.zeros(2), "z": torch.zeros(2, dtype=torch.complex64)})
    assert load_safetensors(path)["w"].tolist() == [1, 1]


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("entry", "body"),
    [
        ({**F32, "dtype": "F64"}, bytes(8)),
        ({**F32, "dtype": "PICKLE"}, bytes(8)),
        (F32, bytes(7)),
        (F32, b""),
        ({**F32, "shape": [3]}, bytes(8)),
        ({**F32, "shape": [1]}, bytes(8)),
        ({**F32, "data_offsets": [0, 7]}, bytes(8)),
        ({**F32, "data_offsets": [8, 0]}, bytes(8)),
        ({**F32, "data_offsets": [-8, 0]}, bytes(8)),
        ({**F32, "data_offsets": [4, 12]}, bytes(8)),
    ],
)
def test_a_header_that_does_not_fit_is_refused(
    tmp_path: Path, entry: dict[str, object], body: bytes
) -> None:
    """An unknown dtype, or a shape, offsets and bytes that disagree, are a ValueError."""
    with pytest.raises(ValueError, match="tensor w"):
        load_safetensors(write(tmp_path / "bad", {"w": entry}, body))


@pytest.mark.parametrize(
    ("header", "length"),
    [(b"{}", 3), (b"{}", 2**63), (b"{", None), (b"\xff\xff", None), (b"", None)],
)
def test_a_broken_header_is_refused(tmp_path: Path, header: bytes, length: int | None) -> None:
    """A header longer than the file, or that is no JSON, is a ValueError."""
    with pytest.raises(ValueError, match=r"header|Expecting|decode"):
        load_safetensors(write(tmp_path / "bad", header, length=length))


def test_a_file_too_short_for_a_header_is_refused(tmp_path: Path) -> None:
    """Fewer than eight bytes are a ValueError."""
    (tmp_path / "bad").write_bytes(b"\x02\0\0")
    with pytest.raises(ValueError, match="header"):
        load_safetensors(tmp_path / "bad")
