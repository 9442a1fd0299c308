"""An exported graph as the manifest records it: files, inputs, outputs, variants, parity.

Records only, shared by every family.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from cascade.errors import ManifestError
from cascade.precision import Precision

LEFT_OUT = {"left_out": True}
"""Metadata of a field that no manifest writes at its default: it is younger than the format, and a
bundle without it keeps the id that it had."""

NET = "net"
"""Role of the graph of a component that has no more than one."""

PICTURE_DB = "picture_db"
"""Worst PSNR of the component's 8-bit picture against the float32 graph's over the exporter's
prompts, same noise, in decibels."""

CONTEXT_DB = "context_db"
"""Worst PSNR of a text encoder's embeddings against the float32 graph's over the exporter's
prompts, each of its own largest value, in decibels."""

CHUNK_BYTES = 64 << 20
"""Of a file, hashed each on its own: a reader checks no more of it than it reads."""

DtypeName = Literal["float32", "float16", "int64", "int8", "uint8"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """One file of the bundle."""

    name: str
    """1 to 100 of `[A-Za-z0-9._-]`, no dot first."""
    sha256: str
    """Lower-case hexadecimal."""
    size_bytes: int
    """Of the file."""
    chunks: tuple[str, ...] = field(default=(), metadata=LEFT_OUT)
    """sha256 of each 64 MiB of a file of weights in order, as `sha256` is written; the last may be
    shorter. Left out where there are none."""

    def check(self, path: str) -> None:
        """Refuse a list of chunks that does not fit the size.

        Raises:
            ManifestError: naming the field under `path`.
        """
        wanted = -(-self.size_bytes // CHUNK_BYTES)
        if self.chunks and len(self.chunks) != wanted:
            raise ManifestError(
                f"{path}.chunks: expected {wanted} of {CHUNK_BYTES} bytes for {self.name}, got "
                f"{len(self.chunks)}",
                field=f"{path}.chunks",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """One input or output of a graph; an axis is a size or the name of a free one."""

    name: str
    """As the graph has it."""
    dtype: DtypeName
    """Of its values."""
    shape: tuple[int | str, ...]
    """Outermost axis first."""

    def shape_with(self, axes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape with every free axis filled in.

        Args:
            axes: size of each free axis by name.
        """
        return tuple(axes[n] if isinstance(n, str) else n for n in self.shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityRecord:
    """How far the exported graph is from its torch original, as measured at export."""

    max_abs_error: float
    """Largest difference of any value."""
    psnr_db: float
    """Peak signal-to-noise ratio of the outputs, in decibels."""
    tolerance_abs: float
    """Above this the exporter writes nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityRecord:
    """How close results in another precision are to those in float32, as the exporter found."""

    metric: str
    """What was measured, in a word: see `PICTURE_DB` and `CONTEXT_DB`."""
    value: float
    """In the unit of the metric, decibels for both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantSpec:
    """The same graph in another precision: same inputs and outputs, another file."""

    precision: Precision
    """What its heavy layers compute in."""
    file: str
    """Name of the ONNX file."""
    parity: ParityRecord
    """Against the same torch original as the float32 graph; of whole results see `quality`."""
    quality: QualityRecord
    """How close whole results are to those in float32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuFormSpec:
    """The same graph with normalisations and attention whole, as compilers for GPUs need it.

    The file leaves out the large weights: `cascade.codecs.shared_initializers` takes them
    from the graph's own file.
    """

    precision: Precision
    """What its heavy layers compute in."""
    file: str
    """Name of the ONNX file."""
    parity: ParityRecord
    """Against the same torch original, computed by ONNX Runtime on a CPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WebFormSpec:
    """The same graph in operators that browsers compute right, on WebGPU too.

    The file leaves out the large weights, as `GpuFormSpec` has it.
    """

    file: str
    """Name of the ONNX file."""
    parity: ParityRecord
    """Against the same torch original, computed by ONNX Runtime on a CPU."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphSpec:
    """One exported graph and its variants."""

    file: str
    """Name of the ONNX file that computes in float32."""
    inputs: tuple[TensorSpec, ...]
    """Of the graph, by name."""
    outputs: tuple[TensorSpec, ...]
    """Of the graph, by name."""
    storage: Literal["float32", "float16", "int8"]
    """How most weights lie in the file; they compute in float32."""
    parity: ParityRecord
    """Of the float32 file."""
    padded_by: Mapping[str, str] = field(default_factory=dict)
    """A free axis to the input that masks it: zeros may be added at that axis's end where the mask
    is zero too, and outputs stay the same. So inputs of unequal length can share a run."""
    variants: tuple[VariantSpec, ...] = ()
    """Files of other precisions, for CPUs."""
    gpu_forms: tuple[GpuFormSpec, ...] = ()
    """Files for compilers of GPUs."""
    web_form: WebFormSpec | None = field(default=None, metadata=LEFT_OUT)
    """File for browsers; left out where the graph's own is right there, or none was exported."""
    weights: str | None = field(default=None, metadata=LEFT_OUT)
    """Name of the safetensors file that holds the large weights of all these files; left out where
    each holds its own."""

    def file_for(self, precision: Precision) -> str:
        """The file whose graph computes in `precision`; the float32 one where there is none.

        An engine may still compute a float32 graph in a lower precision of its own.
        """
        for variant in self.variants:
            if variant.precision == precision:
                return variant.file
        return self.file

    def check(self, path: str) -> None:
        """Refuse two files of one precision, and padding that nothing would take off again.

        Raises:
            ManifestError: naming the field under `path`.
        """
        found = [Precision.FP32, *(variant.precision for variant in self.variants)]
        if len(set(found)) != len(found):
            raise ManifestError(
                f"{path}.variants: two files of one precision: {', '.join(found)}",
                field=f"{path}.variants",
            )
        inputs = {tensor.name: tensor for tensor in self.inputs}
        made = {axis for tensor in self.outputs for axis in tensor.shape}
        for axis, mask in self.padded_by.items():
            if mask not in inputs or axis not in inputs[mask].shape or axis in made:
                raise ManifestError(
                    f"{path}.padded_by.{axis}: expected an input with that axis, and no output "
                    f"with it; got {mask!r}",
                    field=f"{path}.padded_by.{axis}",
                )

    @property
    def padded_axes(self) -> dict[str, tuple[int, ...]]:
        """By input, which of its axes may be padded; inputs without one are left out."""
        found = {
            tensor.name: tuple(at for at, a in enumerate(tensor.shape) if a in self.padded_by)
            for tensor in self.inputs
        }
        return {name: axes for name, axes in found.items() if axes}

    @property
    def all_files(self) -> tuple[str, ...]:
        """Every file of the graph, the float32 one first."""
        variants = (variant.file for variant in self.variants)
        forms = (form.file for form in self.gpu_forms)
        web = (self.web_form.file,) if self.web_form else ()
        return (self.file, *variants, *forms, *web, *((self.weights,) if self.weights else ()))
