"""Held-out quality of the super-resolution stages: PSNR against the true picture and Lanczos.

Knows checkpoints and the held-out part of the data; nothing of export or serving.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from cascade.diffusion.request_options import DiffusionOptions
from cascade.request import GenerateRequest, Handoff
from cascade.types import ImageU8
from stages.data.dataset import Dataset, box_average
from stages.evaluation.metrics import psnr_db
from stages.evaluation.sampling import run_stage, torch_stage
from stages.reference import StagePreset
from stages.training.trained_network import load_network


def lanczos(image: ImageU8, size: int) -> ImageU8:
    """The picture enlarged with pillow's Lanczos filter."""
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.LANCZOS))


def evaluate_upscaling(
    preset: StagePreset,
    data: Dataset,
    checkpoint: Path,
    *,
    steps: int,
    augmentation: float,
    limit: int,
) -> dict[str, float]:
    """Mean PSNR over held-out pictures, of the stage and of Lanczos on the same pictures."""
    stage = torch_stage(preset, load_network(preset, checkpoint))
    held_out = [i for i, example in enumerate(data.examples) if example.held_out]
    spread = np.linspace(0, len(held_out) - 1, min(limit, len(held_out))).round().astype(int)
    ours, theirs = [], []
    for index in (held_out[i] for i in spread):
        truth = data.picture(index, preset.resolution)
        low = box_average(truth, preset.resolution // (preset.low_resolution or 1))
        context = data.embeddings[data.examples[index].captions[0]].astype(np.float16)
        options = {preset.name: DiffusionOptions(steps=steps, augmentation=augmentation)}
        result = run_stage(
            stage, GenerateRequest(options=options), Handoff(context=context, image=low)
        )
        ours.append(psnr_db(result, truth))
        theirs.append(psnr_db(lanczos(low, preset.resolution), truth))
    return {
        "pictures": len(ours),
        "psnr_db": round(float(np.mean(ours)), 2),
        "lanczos_db": round(float(np.mean(theirs)), 2),
    }
