"""What `cascade export --from` does: pick the adapter and the text encoder, write the bundle.

The function behind the command line; takes values. Knows the adapters by name, and which of the
other flags each of them reads.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cascade.errors import UnsupportedModel
from export.adapters.diffusers_if import TOKENS, describe_if
from export.adapters.diffusers_sd import describe_sd
from export.adapters.guided_diffusion import describe_guided
from export.adapters.imagen_pytorch import describe_imagen
from export.adapters.reference_cascade import reference_encoder
from export.adapters.sr3 import describe_sr3
from export.adapters.t5_encoder import t5_text_encoder
from export.adapters.torch_module import describe_torch
from export.bundle_folder import check_out
from export.bundle_writer import PLAIN, write_cascade
from export.components.component import ExportOptions, Report
from export.description import CascadeDescription, TextEncoderDescription

T5_TOKENS = 128
"""Longest prompt of a T5 encoder beside a user's own stages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignSource:
    """Where a cascade comes from."""

    kind: str
    """Of `export.adapters.kinds`."""
    where: str
    """A folder, or `MODULE:FACTORY`."""
    upscalers: tuple[Path, ...] = ()
    text_encoder: Path | None = None
    timesteps: Mapping[str, str] = field(default_factory=dict)


def export_foreign(
    source: ForeignSource, out: Path, *, report: Report, options: ExportOptions = PLAIN
) -> None:
    """Write a bundle from somebody else's cascade.

    Raises:
        InvalidRequest: `out` holds something else than a bundle.
        UnsupportedModel: the source asks for what no bundle can say.
        ParityError: an exported graph is not its original.
    """
    check_out(out)
    write_cascade(describe(source), out, report=report, options=options)


def describe(source: ForeignSource) -> CascadeDescription:
    """The cascade that a source stands for.

    Raises:
        UnsupportedModel: there is no such kind, a flag belongs to another kind, or the source asks
            for what no bundle can say.
    """
    adapter = ADAPTERS.get(source.kind)
    if adapter is None:
        *others, last = ADAPTERS
        raise UnsupportedModel(
            f"--from {source.kind}: expected {', '.join(others)} or {last}", field="from"
        )
    for name, flag in FLAGS.items():
        if getattr(source, name) and name not in adapter.reads:
            readers = [kind for kind, other in ADAPTERS.items() if name in other.reads]
            raise UnsupportedModel(
                f"{flag} goes with --from {' and '.join(readers)}: {source.kind} {adapter.instead}",
                field="from",
            )
    return adapter.describe(source)


def describe_diffusers_if(source: ForeignSource) -> CascadeDescription:
    """Folders of IF pipelines."""
    return describe_if(
        Path(source.where),
        source.upscalers,
        text_encoder=t5_beside(source, tokens=TOKENS),
        timesteps=source.timesteps,
    )


def describe_factory(source: ForeignSource) -> CascadeDescription:
    """A user's own modules, with the text encoder that is given or the reference cascade's."""
    described = describe_torch(source.where)
    given = t5_beside(source, tokens=None)
    if given is None and described.text_encoder is None and described.label_encoder is None:
        given = reference_encoder() if described.reads_context else None
    return described if given is None else replace(described, text_encoder=given)


def t5_beside(source: ForeignSource, *, tokens: int | None) -> TextEncoderDescription | None:
    """The encoder of `--text-encoder`; padded to `tokens` where the stages were trained so."""
    folder = source.text_encoder
    if folder is None:
        return None
    # A pipeline's folder keeps the two apart, a model's folder keeps them together.
    parts = [folder / "text_encoder", folder / "tokenizer"]
    encoder, tokenizer = parts if parts[0].is_dir() else [folder, folder]
    return t5_text_encoder(
        encoder,
        tokenizer,
        max_tokens=tokens or T5_TOKENS,
        pad=tokens is not None,
        lower=tokens is not None,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapter:
    """One kind of source."""

    describe: Callable[[ForeignSource], CascadeDescription]
    reads: Collection[str] = ()
    """Fields of `FLAGS` that it reads."""
    instead: str = "says it itself"
    """What of it stands in the place of the others, for errors."""


FLAGS = {
    "upscalers": "--upscaler",
    "text_encoder": "--text-encoder",
    "timesteps": "--timesteps",
}
"""By the field of `ForeignSource` that holds it."""

ADAPTERS: Mapping[str, Adapter] = {
    "diffusers-if": Adapter(
        describe=describe_diffusers_if, reads=("upscalers", "text_encoder", "timesteps")
    ),
    "diffusers-sd": Adapter(
        describe=lambda source: describe_sd(Path(source.where), source.upscalers),
        reads=("upscalers",),
        instead="has its text encoder and its schedules in its folder",
    ),
    "guided-diffusion": Adapter(
        describe=lambda source: describe_guided(Path(source.where), source.upscalers),
        reads=("upscalers",),
        instead="says it in its arguments.txt",
    ),
    "imagen-pytorch": Adapter(
        describe=lambda source: describe_imagen(Path(source.where), t5_beside(source, tokens=None)),
        reads=("text_encoder",),
        instead="says it in its arguments.json",
    ),
    "sr3": Adapter(
        describe=lambda source: describe_sr3(Path(source.where), source.upscalers),
        reads=("upscalers",),
        instead="says it in its config.json",
    ),
    "torch": Adapter(
        describe=describe_factory, reads=("text_encoder",), instead="says all in its factory"
    ),
}
"""By the name that `--from` takes; the names are those of `export.adapters.kinds`."""
