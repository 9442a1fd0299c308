"""Folders of Stable Diffusion in many configurations, and what this project makes of each.

Schedulers, predictions, blocks, activations, tokenizers and files are drawn; weights are known by
name and shape. The pipelines that the folders are for run in `benchmarks.foreign_grid` alone; CI
has pictures that they made.
"""

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from cascade.diffusion.request_options import DiffusionOptions
from cascade.events import StageFinished
from cascade.generate import generate
from cascade.request import GenerateRequest
from cascade.types import ImageU8
from export.adapters.diffusers_sd import describe_sd
from tests.support import sd_choices
from tests.support.described import SEED
from tests.support.described_latents import stages_over_torch
from tests.support.known_weights import known_weights, shapes_of
from tests.support.tiny_sd import TOKENS, WIDTH, tokenizer

STEPS = {"base": 4, "up": 3}
LATENT = 8
SMALL = 0.3
"""Of the last layer's weights: predictions of that deviation, so that runs over two libraries do
not part ways over their last bits."""
PROMPTS = ("A red apple, red cat", "cat")


@dataclass(frozen=True, kw_only=True, slots=True)
class SdCase:
    """One configuration, by what is not as published."""

    name: str
    scheduler: dict[str, Any] = field(default_factory=dict)
    unet: dict[str, Any] = field(default_factory=dict)
    vae: dict[str, Any] = field(default_factory=dict)
    words: dict[str, Any] = field(default_factory=dict)
    """Of the text encoder's configuration."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Of the tokenizer's configuration."""
    files: str = "plain"
    """Of `sd_choices.FILES`."""
    upscaler: dict[str, Any] | None = None
    """Scheduler, low_res_scheduler, unet and vae of a second folder; None for none."""
    enlarges_latents: bool = False
    """Whether that folder is of the latent upscaler."""
    edits: tuple[int, str, dict[str, Any]] | None = None
    """Folder, file and fields that are changed after all is written."""
    refused: str = ""
    """The field that is named where it is refused; empty where it is equal."""

    @property
    def prompt(self) -> str:
        """What is drawn."""
        return PROMPTS[len(self.name) % len(PROMPTS)]


def sd_cases() -> Iterator[SdCase]:
    """Every configuration, the same ones ever: drawn ones, then refused ones."""
    draw = random.Random(17)
    for number in range(44):
        yield SdCase(
            name=f"base {number}",
            scheduler=sd_choices.SCHEDULERS[number % len(sd_choices.SCHEDULERS)],
            files=draw.choice(sd_choices.FILES),
            **drawn_parts(draw),
        )
    for number in range(16):
        chosen = sd_choices.SCHEDULERS[number % len(sd_choices.SCHEDULERS)]
        second = drawn_parts(draw)
        yield SdCase(
            name=f"cascade {number}",
            upscaler=upscaler_of(second, chosen, draw.choice(sd_choices.NOISINGS)),
            **drawn_parts(draw),
        )
    yield from published_cases(random.Random(18))
    yield from euler_cases(random.Random(19), noisy=False)
    yield from latent_cases(random.Random(20))
    yield from euler_cases(random.Random(21), noisy=True)
    for number, (folder, file, changes) in enumerate(sd_choices.REFUSED):
        named = next(iter(changes), file.split("/")[-1])
        yield SdCase(
            name=f"refused {number}",
            upscaler={} if folder else None,
            edits=(folder, file, changes),
            refused=named,
        )


def published_cases(draw: random.Random) -> Iterator[SdCase]:
    """Schedulers of published folders; four of them with the upscaler's behind them."""
    for number, chosen in enumerate(sd_choices.PUBLISHED_SCHEDULERS):
        yield SdCase(
            name=f"published {number}",
            scheduler=chosen,
            files=draw.choice(sd_choices.FILES),
            **drawn_parts(draw),
        )
    for number in range(4):
        second = drawn_parts(draw)
        yield SdCase(
            name=f"published cascade {number}",
            scheduler=sd_choices.PUBLISHED_SCHEDULERS[number],
            upscaler=upscaler_of(
                second,
                {**sd_choices.NOISY_END, "beta_start": 0.0001, "beta_end": 0.02},
                sd_choices.NOISINGS[0],
            ),
            **drawn_parts(draw),
        )


def euler_cases(draw: random.Random, *, noisy: bool) -> Iterator[SdCase]:
    """Euler's schedulers, with noise or without, half of them in the upscaler's folder too."""
    schedulers = sd_choices.ANCESTRAL_SCHEDULERS if noisy else sd_choices.EULER_SCHEDULERS
    for number, chosen in enumerate(schedulers):
        second = drawn_parts(draw)
        # The upscaler predicts v; diffusers' scheduler with noise knows no predicted picture.
        above = {**chosen, "prediction_type": "v_prediction"} if noisy else schedulers[-1 - number]
        behind = upscaler_of(second, above, sd_choices.NOISINGS[int(noisy)])
        yield SdCase(
            name=f"{'ancestral' if noisy else 'euler'} {number}",
            scheduler=chosen,
            files=draw.choice(sd_choices.FILES),
            upscaler=behind if number % 2 else None,
            **drawn_parts(draw),
        )


def latent_cases(draw: random.Random) -> Iterator[SdCase]:
    """A folder of the latent upscaler behind the first."""
    for number, parts in enumerate(sd_choices.LATENT_UPSCALERS):
        first = drawn_parts(draw)
        yield SdCase(
            name=f"latent {number}",
            scheduler=sd_choices.SCHEDULERS[number],
            upscaler={**parts, "vae": first["vae"]},
            enlarges_latents=True,
            **first,
        )


def upscaler_of(
    parts: dict[str, dict[str, Any]], scheduler: dict[str, Any], noising: dict[str, Any]
) -> dict[str, Any]:
    """A second folder of these parts; without that layer the upscaler's pipeline fails."""
    return {
        "scheduler": scheduler,
        "noising": noising,
        "unet": parts["unet"],
        "vae": {**parts["vae"], "use_post_quant_conv": True},
    }


def drawn_parts(draw: random.Random) -> dict[str, dict[str, Any]]:
    """Parts of one folder."""
    return {
        part: {name: draw.choice(some) for name, some in choices.items()}
        for part, choices in sd_choices.PARTS.items()
    } | {"unet": {**draw.choice(sd_choices.BLOCKS), **draw.choice(sd_choices.OPTIONS)}}


def write_sd(case: SdCase, root: Path) -> tuple[Path, ...]:
    """The folders of a case."""
    place = root / case.name.replace(" ", "_")
    first = {"unet": case.unet, "vae": case.vae, "scheduler": case.scheduler}
    folders = [write_folder(case, place / "SD", first, upscales=False)]
    if case.upscaler is not None and case.enlarges_latents:
        folders.append(write_latent_upscaler(case, place / "x2", case.upscaler))
    elif case.upscaler is not None:
        folders.append(write_folder(case, place / "x4", case.upscaler, upscales=True))
    if case.edits is not None:
        number, file, changes = case.edits
        edit(folders[number] / file, changes)
    return tuple(folders)


def edit(path: Path, changes: dict[str, Any]) -> None:
    """Other fields in a file of JSON; the file is taken away where they are none."""
    if not changes:
        path.unlink()
        return
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def write_folder(
    case: SdCase, folder: Path, parts: dict[str, dict[str, Any]], *, upscales: bool
) -> Path:
    """One pipeline's folder, as `save_pretrained` writes it."""
    folder.mkdir(parents=True)
    index = index_of(f"StableDiffusion{'Upscale' if upscales else ''}Pipeline")
    published = {
        **sd_choices.PUBLISHED,
        **({"prediction_type": "v_prediction"} if upscales else {}),
    }
    schedulers = {"scheduler": {**published, **parts.get("scheduler", {})}}
    if upscales:
        schedulers["low_res_scheduler"] = parts.get("noising", sd_choices.NOISINGS[0])
    for name, config in schedulers.items():
        index[name] = write_scheduler(config, folder / name)
    vae = vae_of(parts.get("vae", {}), upscales=upscales)
    channels = int(vae.config.latent_channels)
    unet = unet_of(parts.get("unet", {}), channels, upscales=upscales)
    return write_networks(case, folder, index, (unet, vae))


def write_latent_upscaler(case: SdCase, folder: Path, parts: dict[str, dict[str, Any]]) -> Path:
    """The folder of a `StableDiffusionLatentUpscalePipeline`."""
    folder.mkdir(parents=True)
    index = index_of("StableDiffusionLatentUpscalePipeline")
    scheduler = {**sd_choices.PUBLISHED, **parts["scheduler"]}
    index["scheduler"] = write_scheduler(scheduler, folder / "scheduler")
    vae = vae_of(parts["vae"], upscales=False)
    channels = int(vae.config.latent_channels)
    unet = UNet2DConditionModel(
        sample_size=2 * LATENT,
        in_channels=2 * channels,
        out_channels=channels + 1,
        cross_attention_dim=WIDTH,
        **{**sd_choices.KARRAS_BLOCKS, **parts.get("unet", {})},
    ).eval()
    return write_networks(case, folder, index, (unet, vae))


def index_of(pipeline: str) -> dict[str, Any]:
    """`model_index.json` without the schedulers."""
    return {
        "_class_name": pipeline,
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
    }


def write_scheduler(config: dict[str, Any], folder: Path) -> list[str]:
    """A scheduler's folder; its entry in the index."""
    folder.mkdir()
    (folder / "scheduler_config.json").write_text(json.dumps(config))
    return ["diffusers", config["_class_name"]]


def write_networks(
    case: SdCase, folder: Path, index: dict[str, Any], networks: tuple[Any, Any]
) -> Path:
    """All besides the schedulers; the folder."""
    (folder / "model_index.json").write_text(json.dumps(index))
    for name, network in zip(("unet", "vae"), networks, strict=True):
        save(network, folder / name, case.files)
    save(words_of(case), folder / "text_encoder", case.files)
    write_tokenizer(case, folder / "tokenizer")
    return folder


def save(network: Any, folder: Path, files: str) -> None:
    """A network in one of the forms that folders have."""
    known = known_weights(shapes_of(network))
    for name in ("conv_out.weight", "conv_out.bias"):
        if name in known and isinstance(network, UNet2DConditionModel):
            known[name] = known[name] * SMALL
    buffers = {name: tensor for name, tensor in network.state_dict().items()
               if not tensor.is_floating_point()}  # fmt: skip
    network.load_state_dict({**known, **buffers})
    options: dict[str, Any] = {"max_shard_size": "8KB"} if files == "sharded" else {}
    if files == "fp16":
        network, options = network.half(), {"variant": "fp16"}
    network.save_pretrained(str(folder), safe_serialization=True, **options)


def unet_of(chosen: dict[str, Any], channels: int, *, upscales: bool) -> UNet2DConditionModel:
    """The U-Net of a case."""
    blocks = chosen or sd_choices.BLOCKS[0]
    levels = {"num_class_embeds": 1000} if upscales else {}
    given = {**sd_choices.UNET, **levels, **blocks}
    return UNet2DConditionModel(
        sample_size=LATENT,
        in_channels=channels + (3 if upscales else 0),
        out_channels=channels,
        cross_attention_dim=WIDTH,
        **given,
    ).eval()


def vae_of(chosen: dict[str, Any], *, upscales: bool) -> AutoencoderKL:
    """The autoencoder of a case: two levels, three of an upscaler."""
    levels = 3 if upscales else 2
    scaling = {"scaling_factor": 0.08333} if upscales else {}
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8,) * levels,
        **{**sd_choices.VAE, **chosen, **scaling},
    ).eval()


def words_of(case: SdCase) -> CLIPTextModel:
    """The text encoder of a case."""
    return CLIPTextModel(CLIPTextConfig(**{**sd_choices.WORDS, **case.words})).eval()


def write_tokenizer(case: SdCase, folder: Path) -> None:
    """The tokenizer of a case, as bytes of its own or as a vocabulary."""
    made = folder.parent / "made"
    tokenizer(made).save_pretrained(str(folder))
    notes = {"model_max_length": TOKENS, **case.notes}
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **notes}))
    if case.files == "vocabulary":
        (folder / "tokenizer.json").unlink()
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(made / name, folder / name)
    shutil.rmtree(made)


def our_sd(case: SdCase, folders: tuple[Path, ...]) -> dict[str, ImageU8]:
    """The pictures that this project makes, by the component that decodes them."""
    description = describe_sd(folders[0], folders[1:])
    steps = {s.name: STEPS["base" if s.name == "base" else "up"]
             for s in description.stages if hasattr(s, "steps")}  # fmt: skip
    options = {name: DiffusionOptions(steps=count) for name, count in steps.items()}
    request = GenerateRequest(prompt=case.prompt, seed=SEED, options=options)
    with torch.no_grad():
        return {
            event.stage: event.handoff.image
            for event in generate(stages_over_torch(description), request)
            if isinstance(event, StageFinished) and event.handoff.image is not None
        }
