"""A described cascade of latents as stages over its own torch networks, without an export."""

from cascade.boundary import Context, Prompt
from cascade.diffusion.stage import DiffusionStage
from cascade.graph_spec import NET, GraphSpec
from cascade.stage import Stage
from cascade.text.spec import TextEncoderSpec
from cascade.text.stage import TextEncoderStage
from cascade.text.tokenizer import PromptTokenizer
from export.components.autoencoder import torch_autoencoder
from export.components.text_encoder import embed
from export.components.text_encoder import network_source as encoder_source
from export.description import (
    AutoencoderDescription,
    CascadeDescription,
    StageDescription,
    TextEncoderDescription,
)
from stages.evaluation.sampling import UNMEASURED
from stages.evaluation.torch_engine import TorchEngine
from tests.support.described import entry_of


def stages_over_torch(description: CascadeDescription) -> list[Stage]:
    """Every component of a cascade of words and latents."""
    words = description.text_encoder
    assert words is not None
    stages: list[Stage] = [encoder_over_torch(words)]
    for position, stage in enumerate(description.stages, start=1):
        if isinstance(stage, AutoencoderDescription):
            width = words.context_width if stage.passes_words else 0
            stages.append(torch_autoencoder(stage, width))
            continue
        assert isinstance(stage, StageDescription)
        null = None if stage.null_text is None else embed(stages[0], stage.null_text).context
        spec, engine = entry_of(description, stage, null)
        stages.append(DiffusionStage(spec, position, engine, null_context=null))
    return stages


def encoder_over_torch(words: TextEncoderDescription) -> TextEncoderStage:
    """The text encoder."""
    source = encoder_source(words, ())
    graph = GraphSpec(
        file="none",
        inputs=source.inputs,
        outputs=source.outputs,
        storage="float32",
        parity=UNMEASURED,
    )
    spec = TextEncoderSpec(
        name="text_encoder",
        family="text_encoder",
        graphs={NET: graph},
        starts_from=(Prompt(),),
        makes=Context(width=words.context_width),
        tokenizer_file="none",
        max_tokens=words.max_tokens,
        pad_token=words.pad_token,
        vectors=words.vectors,
    )
    tokenizer = PromptTokenizer(words.tokenizer, words.max_tokens)
    return TextEncoderStage(spec, tokenizer, TorchEngine(words.network, "context", *words.vectors))
