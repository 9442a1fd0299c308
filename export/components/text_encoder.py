"""The text encoder's part of a bundle: graph, tokenizer, entry in the manifest."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cascade.boundary import Context, Prompt
from cascade.errors import ParityError, UnsupportedModel
from cascade.events import StageFinished
from cascade.graph_spec import NET, TensorSpec
from cascade.request import GenerateRequest, Handoff
from cascade.stage import Stage
from cascade.text.spec import TextEncoderSpec
from cascade.text.stage import TextEncoderStage, token_inputs
from cascade.text.tokenizer import PromptTokenizer
from cascade.types import Array
from export.components.blocks import judge_context, with_blocks
from export.components.component import (
    ExportedComponent,
    ExportJob,
    NetworkSource,
    prove_network,
)
from export.components.mask_proof import prove_mask
from export.description import TextEncoderDescription
from export.subjects import Subject, handoff_of
from stages.evaluation.torch_engine import TorchEngine

NAME = "text_encoder"
TOKENIZER = "tokenizer.json"


def export_text_encoder(job: ExportJob) -> ExportedComponent[TextEncoderSpec]:
    """Export and prove the job's text encoder.

    Raises:
        UnsupportedModel: the network is too large, or takes not every prompt of its tokenizer.
        ParityError: the graph is not the network, or the network reads what its mask leaves out.
    """
    encoder = job.encoder
    if not isinstance(encoder, TextEncoderDescription):
        raise UnsupportedModel("text_encoder: none is described", field="text_encoder")
    words = PromptTokenizer(encoder.tokenizer, encoder.max_tokens)
    original = TorchEngine(encoder.network, "context", *encoder.vectors)
    hardest = hardest_prompt(encoder, words.largest_number, original)
    prompts = [token_inputs(words(text), encoder) for text in job.prompts if isinstance(text, str)]
    if encoder.pad_token is None:
        prove_mask(NAME, original, prompts[0], "context", per_token=True)
        for vector in encoder.vectors:
            prove_mask(NAME, original, prompts[0], vector, per_token=False)
    source = network_source(encoder, encoder.samples or [*prompts, hardest])
    proven = prove_network(job, source)
    asked = job.options.blocks_for(source)
    proven = with_blocks(proven, asked, judge_context(proven), job.report)
    spec = TextEncoderSpec(
        name=NAME,
        family="text_encoder",
        graphs={NET: proven.spec},
        starts_from=(Prompt(),),
        makes=Context(width=encoder.context_width),
        tokenizer_file=TOKENIZER,
        max_tokens=encoder.max_tokens,
        pad_token=encoder.pad_token,
        vectors=encoder.vectors,
        provenance={"made_of": encoder.provenance, **proven.provenance},
    )
    exported = TextEncoderStage(spec, words, proven.exported)
    return ExportedComponent(
        spec=spec,
        files={**proven.files, TOKENIZER: encoder.tokenizer},
        original=TextEncoderStage(spec, words, proven.original),
        exported=exported,
        quantized=exported,
        weights=proven.weights,
    )


def network_source(
    encoder: TextEncoderDescription, cases: Sequence[Mapping[str, Array]]
) -> NetworkSource:
    """The encoder's network and its signature.

    Args:
        encoder: as described; with a padding token every prompt has its full length.
        cases: batches of `token_ids` `[B, L]` int64 and `token_mask` `[B, L]` float32 of 0 and 1.
    """
    length = "tokens" if encoder.pad_token is None else encoder.max_tokens
    context = ("batch", length, encoder.context_width)
    return NetworkSource(
        name=NAME,
        network=encoder.network,
        inputs=(
            TensorSpec(name="token_ids", dtype="int64", shape=("batch", length)),
            TensorSpec(name="token_mask", dtype="float32", shape=("batch", length)),
        ),
        outputs=(
            TensorSpec(name="context", dtype="float32", shape=context),
            *(
                TensorSpec(name=name, dtype="float32", shape=("batch", width))
                for name, width in encoder.vectors.items()
            ),
        ),
        cases=cases,
        optimized=False,
        exact=encoder.exact,
    )


def hardest_prompt(
    encoder: TextEncoderDescription, largest: int, original: TorchEngine
) -> dict[str, Array]:
    """Inputs of the longest prompt, all of the vocabulary's last token: what a table may not hold.

    Args:
        encoder: as described.
        largest: its tokenizer's largest number.
        original: runs its network.

    Returns:
        `token_ids` `[1, max_tokens]` int64 and `token_mask` `[1, max_tokens]` float32, all 1.

    Raises:
        UnsupportedModel: the network takes no such token, or no prompt of that length.
    """
    for count, field, remedy in (
        (
            1,
            "tokenizer",
            f"its largest token is {largest}: is this the tokenizer it was trained on?",
        ),
        (encoder.max_tokens, "max_tokens", "fewer are needed where positions have a table"),
    ):
        inputs = token_inputs(np.full(count, largest, np.int64), encoder)
        try:
            original.run(inputs)
        except (IndexError, RuntimeError) as exc:
            raise UnsupportedModel(
                f"text_encoder.{field}: the network cannot encode {count} of {encoder.max_tokens} "
                f"tokens ({exc}); {remedy}",
                field=f"text_encoder.{field}",
            ) from exc
    return inputs


def embed(encoder: Stage, subject: Subject) -> Handoff:
    """What an encoder's stage makes of a text or a class: its context, and vectors beside it.

    Raises:
        ParityError: the stage gave none.
    """
    for event in encoder.run(GenerateRequest(), handoff_of(subject)):
        if isinstance(event, StageFinished) and event.handoff.context is not None:
            return replace(event.handoff, prompt=None)
    raise ParityError("the encoder gave no context")
