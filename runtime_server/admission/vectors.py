"""The vectors of a call from the wire: counted, named, measured and read.

Knows components and messages' values; no queue, no socket.
"""

from collections.abc import Sequence

from cascade.codecs.tensor import PackedTensor, unpack_tensor
from cascade.errors import InvalidRequest, TensorCodecError
from cascade.families import uses_of
from cascade.family import ComponentSpec
from cascade.types import Vector
from cascade.vector_values import MAX_VECTORS, SHOWN, checked_vector
from cascade.vectors import check_given
from wire.generate_call import GenerateCall
from wire.starts import ImageStart, KeptStart


def given_vectors(call: GenerateCall, components: Sequence[ComponentSpec]) -> dict[str, Vector]:
    """What components read beside the text, `[width]` float32 by name.

    Args:
        call: as it came.
        components: those that it runs.

    Raises:
        InvalidRequest: naming the vector: nothing reads it, or one is missing.
        TensorCodecError: of another shape or dtype, or not so many finite numbers.
    """
    if len(call.vectors) > MAX_VECTORS:
        raise InvalidRequest(
            f"vectors: at most {MAX_VECTORS}, got {len(call.vectors)}", field="vectors"
        )
    given = {name: read_vector(name, packed) for name, packed in call.vectors.items()}
    wordless = isinstance(call.start, ImageStart | KeptStart) and call.start.context is None
    check_given(uses_of(components), given, wordless=wordless)
    return given


def read_vector(name: str, packed: PackedTensor) -> Vector:
    """The numbers of a vector, `[width]` finite float32.

    Raises:
        TensorCodecError: of another rank or dtype, or not so many finite numbers.
        InvalidRequest: of a name that none has.
    """
    path = f"vectors.{name[:SHOWN]}"
    if packed.dtype != "float32" or len(packed.shape) != 1:
        raise TensorCodecError(
            f"{path}: expected [width] float32, got {list(packed.shape)[:4]} "
            f"{packed.dtype or 'of a dtype that is unknown'}",
            field=path,
        )
    return checked_vector(name, unpack_tensor(packed, field=path))
