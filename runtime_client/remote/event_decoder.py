"""What a server sends, as the events of a picture: results in turn, their pictures decoded.

Refuses what is out of turn, of another size or without its picture. Knows the components; no
connection.
"""

from collections.abc import Mapping, Sequence

from cascade.boundary import Image, Tensor
from cascade.codecs.tensor import PackedTensor, unpack_tensor
from cascade.errors import InvalidRequest, TransportError
from cascade.events import Event, Preview, Resumed, StageFinished, Transferred
from cascade.families import family_of
from cascade.family import ComponentSpec
from cascade.request import MAX_SIDE, Handoff
from cascade.types import Array, ContextF16, ImageU8, Latent, Vector
from runtime_client.remote.image_payload import decode_payload
from runtime_client.remote.transfer_stats import UNPACK, TransferStats
from wire.fragments import Fragment
from wire.generate_events import Done, EncodedPreview, GenerateEvent, StageResult
from wire.payloads import EncodedImage

# A server chooses the size of previews; the bound is for memory, 256 x 256 x 3 bytes at most.
PREVIEW_SIZES = range(1, 257)


class EventDecoder:
    """One request's messages, decoded as they come."""

    def __init__(
        self,
        components: Sequence[ComponentSpec],
        handoff: Handoff,
        stats: TransferStats,
        *,
        may_end_early: bool = False,
        sizes: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        """Nothing has come.

        Args:
            components: those whose results are to come, in order.
            handoff: what the first of them starts from, as far as it is known here.
            stats: what the results say of their time is added to it.
            may_end_early: whether the last of the components may be left out.
            sizes: width and height of what components make of a caller's own picture, by name.
        """
        self._components = list(components)
        self._sizes = sizes or {}
        self._handoff = handoff
        self._stats = stats
        self._results = 0
        self._least = 1 if may_end_early else len(self._components)
        self._knows_sizes = not may_end_early

    def event(self, message: GenerateEvent | Resumed | None) -> Event | None:
        """One message as an event; None for what is no event here.

        Raises:
            TransportError: the message is not what it should be now.
        """
        if isinstance(message, Done):
            return self._finished(message)
        with self._stats.timed_packing(UNPACK):
            if isinstance(message, StageResult):
                return self._stage_finished(message)
            if isinstance(message, EncodedPreview):
                image = decode_payload(message.image, PREVIEW_SIZES, PREVIEW_SIZES, what="preview")
                return Preview(message.stage, message.done, image, message.image.format)
        return None if isinstance(message, Fragment) else message

    def _stage_finished(self, result: StageResult) -> StageFinished:
        """A component's result as the next one would get it."""
        if (
            self._results >= len(self._components)
            or result.stage != self._components[self._results].name
        ):
            raise TransportError(f"the server sent a result of {result.stage[:40]!r} out of turn")
        component = self._components[self._results]
        # Counted before the picture is decoded: a broken one must not be accepted a second time.
        self._results += 1
        image: ImageU8 | None = None
        tensor: Latent | None = None
        context, vectors = self._handoff.context, self._handoff.vectors
        made = component.makes
        if isinstance(made, Image):
            if result.image is None:
                raise TransportError(f"the server sent {component.name} without its picture")
            self._stats.result_bytes[component.name] = len(result.image.data)
            self._stats.result_formats[component.name] = result.image.format
            widths, heights = self._sides(component.name, made, result.image)
            image = decode_payload(result.image, widths, heights, what=f"{component.name} picture")
        elif isinstance(made, Tensor):
            tensor = unpack_latent(result.tensor, made)
            self._stats.result_bytes[component.name] = tensor.nbytes
        else:
            context = unpack_context(result.context)
            vectors = {**vectors, **unpack_vectors(component, result.vectors)}
        self._handoff = Handoff(
            prompt=self._handoff.prompt,
            context=context,
            image=image,
            tensor=tensor,
            vectors=vectors,
        )
        seconds = dict(result.seconds)
        if isinstance(made, Image):
            # Of a picture, not of a prompt; the end of the stream has the total.
            seconds.pop("encode", None)
        self._stats.report(seconds)
        return StageFinished(
            component.name,
            self._handoff,
            seconds,
            result.computed,
            result.engine_s,
            self._stats.result_formats.get(component.name, ""),
        )

    def _sides(self, name: str, made: Image, got: EncodedImage) -> tuple[range, range]:
        """Widths and heights that a component's picture may have.

        Raises:
            TransportError: it has more pixels than any of that component's.
        """
        if self._knows_sizes:
            width, height = self._sizes.get(name, (made.width, made.height))
            return only(width), only(height)
        # Of a request that is picked up by its id only the server knows the size: another shape of
        # no more pixels.
        if got.width * got.height > made.pixels:
            raise TransportError(
                f"the server sent {name} picture of {got.width}x{got.height} pixels, more than "
                f"the {made.width}x{made.height} that it makes"
            )
        return range(1, MAX_SIDE + 1), range(1, MAX_SIDE + 1)

    def _finished(self, done: Done) -> Transferred:
        """What was transferred, once the server says that it is done."""
        if self._results < self._least:
            raise TransportError("the server was done before every result had come")
        # Of those that came in this call; a resumed one never sees the time of the others.
        names = {component.name for component in self._components[: self._results]}
        seconds = self._stats.finalize(done.seconds, names)
        stats = self._stats
        return Transferred(
            bytes_up=stats.bytes_up,
            bytes_down=stats.bytes_down,
            seconds=seconds,
            packing=dict(stats.packing),
            result_bytes=dict(stats.result_bytes),
            result_formats=dict(stats.result_formats),
            call_bytes=stats.call_bytes,
            picture_bytes=stats.picture_bytes,
            first_s=stats.first_s,
        )


def only(size: int) -> range:
    """That size and no other."""
    return range(size, size + 1)


def unpack_latent(packed: PackedTensor | None, made: Tensor) -> Latent:
    """The latent in a component's result.

    Args:
        packed: as it came.
        made: what the component makes.

    Returns:
        `[channels, height, width]` float16 or float32, as it is declared.

    Raises:
        TransportError: there is none, it is of another shape or dtype, or its bytes do not fit.
    """
    if packed is None or (packed.shape, packed.dtype) != (made.shape, made.dtype):
        raise TransportError(f"the server sent no tensor of {list(made.shape)} {made.dtype}")
    return unpack_finite(packed, "stage_result.tensor")


def unpack_context(packed: PackedTensor | None) -> ContextF16:
    """The embeddings in a result of the text encoder.

    Returns:
        `[tokens, width]` float16.

    Raises:
        TransportError: there are none, or their bytes do not fit their shape.
    """
    if packed is None or packed.dtype != "float16" or len(packed.shape) != 2:
        raise TransportError("the server sent no context of [tokens, width] float16")
    return unpack_finite(packed, "stage_result.context")


def unpack_vectors(
    component: ComponentSpec, packed: Mapping[str, PackedTensor]
) -> dict[str, Vector]:
    """The vectors in a result of a text encoder, `[width]` float32 each, by name.

    Raises:
        TransportError: one is missing or is of another width or dtype, or its bytes do not fit.
    """
    made = family_of(component).vectors(component).makes
    for name, width in made.items():
        found = packed.get(name)
        if found is None or (found.shape, found.dtype) != ((width,), "float32"):
            raise TransportError(f"the server sent no vector {name} of {width} float32 numbers")
    return {name: unpack_finite(packed[name], f"stage_result.vectors.{name}") for name in made}


def unpack_finite(packed: PackedTensor, field: str) -> Array:
    """The array in a result, of its own shape and dtype, every number finite.

    Raises:
        TransportError: its bytes do not fit its shape, or hold NaN or infinity.
    """
    try:
        return unpack_tensor(packed, field=field)
    except InvalidRequest as exc:
        raise TransportError(f"the server sent a broken tensor: {exc}") from exc
