"""What `cascade export --from` does: pick the adapter and the text encoder, write the bundle.

The function behind the command line; takes values. Knows the adapters by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from cascade.errors import UnsupportedModel
from export.adapters.diffusers_if import TOKENS, describe_if
from export.adapters.reference_cascade import reference_encoder
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
    """`diffusers-if` or `torch`."""
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
    """The cascade that a source stands for."""
    if source.kind == "diffusers-if":
        return describe_if(
            Path(source.where),
            source.upscalers,
            text_encoder=t5_beside(source, tokens=TOKENS),
            timesteps=source.timesteps,
        )
    if source.kind != "torch":
        raise UnsupportedModel(
            f"--from {source.kind}: expected diffusers-if or torch", field="from"
        )
    if source.upscalers or source.timesteps:
        raise UnsupportedModel(
            "--upscaler and --timesteps go with --from diffusers-if; a factory says all itself",
            field="from",
        )
    described = describe_torch(source.where)
    given = t5_beside(source, tokens=None)
    if given is None and described.text_encoder is None:
        given = reference_encoder()
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
