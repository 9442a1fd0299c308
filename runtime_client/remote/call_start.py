"""What a call starts from and what shapes its picture, as the wire has it.

Pure: a request and a handoff go in, messages' values come out. Knows no connection.
"""

from collections.abc import Sequence

from cascade.boundary import Context, Image, Prompt, Tensor, value_of
from cascade.codecs.tensor import pack_tensor
from cascade.errors import StageError
from cascade.family import ComponentSpec
from cascade.request import GenerateRequest, Handoff
from runtime_client.remote.image_payload import encode_smallest
from wire.edits import EncodedEdit, PictureSize, packed_mask
from wire.payloads import ContextReference, EncodedImage
from wire.starts import (
    ContextStart,
    ImageStart,
    KeptStart,
    LabelStart,
    NoiseStart,
    PromptStart,
    Start,
    TensorStart,
)

Encoded = tuple[ContextReference | None, EncodedImage | None]
"""Embeddings by their handle, and a picture, as far as there are any."""


def start_of(
    first: ComponentSpec, request: GenerateRequest, handoff: Handoff, encoded: Encoded
) -> Start:
    """The starting point of a call.

    Args:
        first: the component that it begins with.
        request: what to make.
        handoff: what the component starts from.
        encoded: of the handoff; embeddings without a handle are sent themselves.

    Raises:
        StageError: the component needs embeddings, and there are none.
    """
    context, image = encoded
    own = request.has_own_sizes
    takes_words = value_of(Context, first.starts_from) is not None
    if not takes_words:
        context = None
    elif context is None and handoff.context is not None:
        context = ContextReference(tensor=pack_tensor(handoff.context))
    if value_of(Tensor, first.starts_from) is not None:
        if takes_words and context is None:
            raise needs_context()
        return tensor_start(first, handoff, context)
    if begins_kept(first, request) and image is None:
        return kept_start(request, context)
    if image is not None:
        if takes_words and context is None and not own:
            raise needs_context()
        return ImageStart(image, context, handoff.label, own_picture=own)
    if not takes_words:
        return start_without_picture(first, handoff)
    if context is None:
        raise needs_context()
    return ContextStart(context)


def needs_context() -> StageError:
    """The error for a handoff without embeddings."""
    return StageError("a remote stage after the text encoder needs a context")


def tensor_start(
    first: ComponentSpec, handoff: Handoff, context: ContextReference | None
) -> TensorStart:
    """The starting point of a component that begins with a latent.

    Args:
        first: its entry in the manifest.
        handoff: what it starts from.
        context: the words beside it, if it takes any.

    Raises:
        StageError: there is no latent.
    """
    if handoff.tensor is None:
        raise StageError(f"{first.name} on a server needs the latent of the component before it")
    return TensorStart(pack_tensor(handoff.tensor), context)


def start_without_picture(first: ComponentSpec, handoff: Handoff) -> Start:
    """The starting point of a component that needs neither embeddings nor a picture.

    Args:
        first: its entry in the manifest.
        handoff: what it starts from.
    """
    if value_of(Prompt, first.starts_from) is not None:
        return PromptStart(handoff.prompt or "")
    return NoiseStart() if handoff.label is None else LabelStart(handoff.label)


def begins_kept(first: ComponentSpec, request: GenerateRequest) -> bool:
    """Whether a component may start from a picture that the server kept."""
    return request.kept is not None and value_of(Image, first.starts_from) is not None


def kept_start(request: GenerateRequest, context: ContextReference | None) -> KeptStart:
    """A start from the picture that the server kept.

    Args:
        request: checked, so that the size of the picture is known.
        context: the words beside it, if there are any.

    Raises:
        StageError: the request names no such picture.
    """
    kept = request.kept
    if kept is None or kept.size is None:
        raise StageError("a request that names no kept picture cannot start from one")
    width, height = kept.size
    return KeptStart(
        request_id=kept.request_id,
        stage=kept.stage,
        width=width,
        height=height,
        context=context,
    )


def edit_of(components: Sequence[ComponentSpec], request: GenerateRequest) -> EncodedEdit | None:
    """The own picture at the largest size that one of the components sees; None where none does."""
    seen = [request.edits[spec.name] for spec in components if spec.name in request.edits]
    if not seen:
        return None
    redrawn = seen[-1].redrawn
    return EncodedEdit(
        picture=encode_smallest(seen[-1].picture),
        mask=b"" if redrawn is None else packed_mask(redrawn),
        strength=seen[0].strength,
        resample=seen[0].resample,
    )


def size_of(components: Sequence[ComponentSpec], request: GenerateRequest) -> PictureSize | None:
    """Of the last component's picture, where it begins here and is not of the declared size."""
    stages = [spec for spec in components if isinstance(spec.makes, Image)]
    if not stages or value_of(Image, stages[0].starts_from) is not None:
        return None
    size, made = request.sizes.get(stages[-1].name), stages[-1].makes
    declared = isinstance(made, Image) and size == (made.width, made.height)
    return None if size is None or declared else PictureSize(*size)


def new_field(components: Sequence[ComponentSpec], request: GenerateRequest) -> str:
    """The first thing asked for that servers before edits ignore; empty where there is none."""
    asked = {
        "kept": begins_kept(components[0], request),
        "edit": any(spec.name in request.edits for spec in components),
        "size": size_of(components, request) is not None,
    }
    return next((name for name, is_asked in asked.items() if is_asked), "")
