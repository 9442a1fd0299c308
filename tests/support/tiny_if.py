"""DeepFloyd-IF-style pipelines in miniature: the true classes, random weights, saved as folders.

Block types and options are those of the published stages; only widths, depths and the vocabulary
are small. Needs diffusers, transformers and sentencepiece.
"""

import os
from pathlib import Path
from typing import Any

os.environ.update({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"})

import sentencepiece
import torch
from diffusers import (
    DDPMScheduler,
    IFPipeline,
    IFSuperResolutionPipeline,
    UNet2DConditionModel,
)
from transformers import T5Config, T5EncoderModel, T5Tokenizer

WIDTH = 32
"""Width of the text embeddings."""
SMALLEST = 8
"""Pixels of the side; larger pictures are halved before attention."""
SENTENCES = (
    "a red apple on a table",
    "two cats sit on a green chair",
    "a small robot with blue eyes",
    "the sun over a yellow field",
    "a cat in a box, an apple, a tree",
)


def write_tokenizer(folder: Path) -> T5Tokenizer:
    """A T5 tokenizer over a sentencepiece vocabulary of 40 pieces, trained on the spot."""
    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "sentences.txt"
    text.write_text("\n".join(SENTENCES * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "spiece"),
        vocab_size=40,
        model_type="unigram",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return T5Tokenizer.from_pretrained(str(folder), extra_ids=0, local_files_only=True)


def text_encoder(width: int = WIDTH) -> T5EncoderModel:
    """Two layers of T5 v1.1: gated gelu, as the published encoder has."""
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=40,
        d_model=width,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        is_encoder_decoder=False,
        use_cache=False,
    )
    return stirred(T5EncoderModel(config).eval(), 0.1)


def unet(size: int, *, upscales: bool, tokens_of: int | None = None) -> UNet2DConditionModel:
    """A U-Net of the published block types, six output channels; attention at up to 32x32.

    Of 8 pixels it has the blocks with attention alone, which exports in half the time.

    Args:
        size: pixels of its picture's side.
        upscales: stage II, which attends to words alone.
        tokens_of: side of the map that it attends to as well as to words, instead.
    """
    torch.manual_seed(1 + upscales)
    plain = 3 if size > 64 else int(size > SMALLEST)
    if tokens_of is not None:
        plain = (size // tokens_of).bit_length() - 1
    only_words = upscales and tokens_of is None
    options: dict[str, Any] = {"class_embed_type": "timestep"} if upscales else {}
    network = UNet2DConditionModel(
        sample_size=size,
        in_channels=6 if upscales else 3,
        out_channels=6,
        layers_per_block=1,
        block_out_channels=(*[16] * plain, 32),
        down_block_types=(*["ResnetDownsampleBlock2D"] * plain, "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", *["ResnetUpsampleBlock2D"] * plain),
        only_cross_attention=only_words,
        mid_block_only_cross_attention=only_words,
        cross_attention_dim=32,
        cross_attention_norm="group_norm",
        encoder_hid_dim=WIDTH,
        encoder_hid_dim_type="text_proj",
        attention_head_dim=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        resnet_time_scale_shift="scale_shift",
        resnet_skip_time_act=upscales,
        time_embedding_act_fn="gelu",
        mid_block_scale_factor=1.414,
        act_fn="gelu",
        norm_num_groups=8,
        **options,
    )
    return settled(stirred(network.eval(), 0.02), upscales=upscales)


def settled(network: UNet2DConditionModel, *, upscales: bool) -> UNet2DConditionModel:
    """Outputs of a fixed size, 0.3, so that two runs do not part ways over their last bits.

    A trained network contracts its own errors; an untrained one feeds them back enlarged, and where
    its variance output leaves [-1, 1] the extrapolated log variance adds noise of any size.
    """
    generator = torch.Generator().manual_seed(0)
    channels, size = network.config.in_channels, network.config.sample_size
    images = torch.randn(2, channels, size, size, generator=generator)
    text = torch.randn(2, 7, WIDTH, generator=generator)
    labels = torch.tensor([250.0, 250.0]) if upscales else None
    with torch.no_grad():
        found = network(images, 500, text, class_labels=labels).sample
        for half in (slice(0, 3), slice(3, 6)):
            scale = 0.3 / found[:, half].std()
            network.conv_out.weight[half] *= scale
            network.conv_out.bias[half] *= scale
    return network


def stirred(network: Any, amount: float) -> Any:
    """The network with every parameter moved: what starts as zero or one says nothing."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(amount * torch.randn_like(parameter))
    return network


def scheduler(cap: float, **changes: Any) -> DDPMScheduler:
    """The published stages' scheduler, with their cap on dynamic thresholding."""
    published: dict[str, Any] = {
        "num_train_timesteps": 1000,
        "beta_schedule": "squaredcos_cap_v2",
        "variance_type": "learned_range",
        "prediction_type": "epsilon",
        "thresholding": True,
        "dynamic_thresholding_ratio": 0.95,
        "sample_max_value": cap,
    }
    return DDPMScheduler(**{**published, **changes})


def base_pipeline(folder: Path, size: int = 64) -> IFPipeline:
    """Stage I with its text encoder."""
    return IFPipeline(
        tokenizer=write_tokenizer(folder),
        text_encoder=text_encoder(),
        unet=unet(size, upscales=False),
        scheduler=scheduler(1.5),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )


def upscaler_pipeline(size: int = 256, tokens_of: int | None = None) -> IFSuperResolutionPipeline:
    """Stage II without a text encoder, as it is published; `tokens_of` as for `unet`."""
    return IFSuperResolutionPipeline(
        tokenizer=None,
        text_encoder=None,
        unet=unet(size, upscales=True, tokens_of=tokens_of),
        scheduler=scheduler(1.0),
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )
