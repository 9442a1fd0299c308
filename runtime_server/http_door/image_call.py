"""From what a body asks for to calls of `Generate`, one for each picture.

Finds the stage of a size, the stages of an option and the encoder of a negative prompt in the
manifest. Checks nothing that admission checks. Knows manifests and messages; no JSON and no socket.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from cascade.boundary import Image, Prompt, value_of
from cascade.bundle.manifest import Manifest
from cascade.codecs.tensor import pack_tensor
from cascade.errors import InvalidRequest
from cascade.families import family_of
from cascade.request import MAX_SEED, FamilyOptions
from runtime_server.http_door.image_ask import ImageAsk, PerStage
from runtime_server.http_door.picture_format import final_form
from wire.generate_call import GenerateCall
from wire.payloads import ContextReference
from wire.starts import PromptStart

OBJECT_OPTIONS = ("steps", "guidance")


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureTarget:
    """The picture that a size means, and those on the way to it."""

    stage: str
    size: str
    """`1024x1024`."""
    before: tuple[str, ...]
    """Stages whose pictures come first, in order."""
    sizes: tuple[tuple[int, int], ...]
    """Width and height of what these stages make, that of the target last."""


def target_of(manifest: Manifest, size: str) -> PictureTarget:
    """Which stage makes a size; `auto` is the last one.

    Raises:
        InvalidRequest: none makes it.
    """
    made: dict[str, tuple[int, int]] = {
        component.name: (component.makes.width, component.makes.height)
        for component in manifest.components
        if isinstance(component.makes, Image)
    }
    sizes = {name: f"{wide}x{tall}" for name, (wide, tall) in made.items()}
    if size == "auto" and sizes:
        size = list(sizes.values())[-1]
    stage = next((name for name, each in sizes.items() if each == size), None)
    if stage is None:
        raise InvalidRequest(
            f"size: expected auto or one of {', '.join(sizes.values())}, got {size[:40]!r}",
            field="size",
        )
    names = list(sizes)
    at = names.index(stage)
    return PictureTarget(
        stage=stage,
        size=size,
        before=tuple(names[:at]),
        sizes=tuple(made[name] for name in names[: at + 1]),
    )


def calls_of(
    ask: ImageAsk, manifest: Manifest, bundle_id: str, request_id: str
) -> list[GenerateCall]:
    """One call for each picture, with image indices in a row.

    Args:
        ask: what the body asks for.
        manifest: of the present bundle.
        bundle_id: its id.
        request_id: of the first; the others get their number behind it.

    Raises:
        InvalidRequest: the bundle has no such size, stage or option.
    """
    if not 0 <= ask.seed <= MAX_SEED:
        # The message has 64 bits for it: beyond them there would be nothing to check.
        raise InvalidRequest(f"seed: expected 0 to 2^64 - 1, got {ask.seed}", field="seed")
    first = GenerateCall(
        request_id=request_id,
        bundle_id=bundle_id,
        start=PromptStart(ask.words),
        seed=ask.seed,
        image_index=ask.image_index,
        last_stage=target_of(manifest, ask.size).stage,
        options=options_of(ask, manifest),
        format=final_form(ask).from_core,
        joins_fragments=True,
        vectors={name: pack_tensor(vector) for name, vector in ask.vectors.items()},
        linger_s=ask.linger_seconds,
    )
    return [first] + [
        replace(first, request_id=f"{request_id}.{at}", image_index=ask.image_index + at)
        for at in range(1, ask.n)
    ]


def negative_call(ask: ImageAsk, manifest: Manifest, call: GenerateCall) -> GenerateCall | None:
    """The call that encodes the negative prompt; None without one.

    Raises:
        InvalidRequest: no component encodes words.
    """
    if not ask.negative_prompt:
        return None
    for component in manifest.components:
        if value_of(Prompt, component.starts_from) is not None:
            return GenerateCall(
                request_id=f"{call.request_id}-negative",
                bundle_id=call.bundle_id,
                start=PromptStart(ask.negative_prompt),
                last_stage=component.name,
            )
    raise InvalidRequest("negative_prompt: this bundle takes no words", field="negative_prompt")


def with_negative(call: GenerateCall, context: ContextReference) -> GenerateCall:
    """The call, guided away from what the context means."""
    return replace(call, negative=context)


def options_of(ask: ImageAsk, manifest: Manifest) -> Mapping[str, FamilyOptions]:
    """The stages' options."""
    values: dict[str, dict[str, float]] = {}
    for option in OBJECT_OPTIONS:
        asked: PerStage = getattr(ask, option)
        for name, value in asked.items():
            stage = name or first_with(manifest, option)
            values.setdefault(stage, {})[option] = value
    return {stage: made_options(manifest, stage, options) for stage, options in values.items()}


def first_with(manifest: Manifest, option: str) -> str:
    """The first stage that has an option.

    Raises:
        InvalidRequest: none has.
    """
    for component in manifest.components:
        if option in option_names(family_of(component).options_type):
            return component.name
    raise InvalidRequest(f"{option}: no stage of this bundle takes it", field=option)


def made_options(manifest: Manifest, stage: str, values: Mapping[str, float]) -> FamilyOptions:
    """The options of one stage, as its family has them.

    Raises:
        InvalidRequest: there is no such stage, or it has no such option.
    """
    specs = {component.name: component for component in manifest.components}
    first = next(iter(values))
    if stage not in specs:
        raise InvalidRequest(
            f"{first}: no stage {stage[:40]!r}; there are {', '.join(specs)}", field=first
        )
    kind = family_of(specs[stage]).options_type
    known = option_names(kind)
    for option, value in values.items():
        if option not in known:
            raise InvalidRequest(f"{option}: {stage} does not take it", field=option)
        if option == "steps" and not float(value).is_integer():
            raise InvalidRequest(
                f"steps.{stage}: expected a whole number, got {value:g}", field="steps"
            )
    made: FamilyOptions = kind(
        **{option: int(v) if option == "steps" else v for option, v in values.items()}
    )
    # Out of bounds, the message could not carry it: the family's own words are said here.
    made.check(f"options.{stage}")
    return made


def option_names(kind: type) -> list[str]:
    """The options of a family."""
    return [each.name for each in fields(kind)]
