"""An IF-style pipeline of diffusers and its description beside each other, on the same noise.

For tests of the adapter: the pipeline draws the product's noise, and a description runs as a stage
over its own network, without an export.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from cascade.bundle.bundle import Bundle
from cascade.diffusion.stage import DiffusionStage
from cascade.graph_spec import NET
from cascade.numerics.noise import AUGMENTATION, START, normals
from cascade.request import GenerateRequest
from cascade.types import ImageU8
from export.components.component import ProvenGraph
from export.components.diffusion import stage_entry
from export.components.synthetic_cases import stage_inputs, stage_outputs
from export.description import StageDescription, TextEncoderDescription
from export.quantize.sampled_runs import StageBlueprint
from stages.evaluation.torch_engine import TorchEngine
from tests.support import tiny_if
from tests.support.manifests import encoder_of, stages_of


@contextmanager
def our_noise(patch: pytest.MonkeyPatch, seed: int, stage: int) -> Iterator[None]:
    """Let a pipeline draw the product's noise: its start, its augmentation, one per step."""
    drawn = iter([START, AUGMENTATION])
    steps = iter(range(10_000))

    def draw(shape: tuple[int, ...], step: int) -> torch.Tensor:
        return torch.from_numpy(normals(shape, seed=seed, image=0, stage=stage, step=step))

    folder = "diffusers.pipelines.deepfloyd_if"
    with patch.context() as local:
        for module in ("pipeline_if", "pipeline_if_superresolution"):
            local.setattr(
                f"{folder}.{module}.randn_tensor", lambda shape, **_: draw(shape, next(drawn))
            )
        local.setattr(
            "diffusers.schedulers.scheduling_ddpm.randn_tensor",
            lambda shape, **_: draw(tuple(shape), next(steps)),
        )
        yield


def reference(
    pipelines: tuple[Any, Any], request: GenerateRequest, patch: pytest.MonkeyPatch
) -> dict[str, ImageU8]:
    """The pictures of diffusers' own pipelines.

    Contexts cross from one component to the next in half precision, as ours do; pictures are
    handed over as 8-bit images by both.
    """
    base, upscaler = pipelines
    embeds = base.encode_prompt(request.prompt, clean_caption=False)
    text, empty = (e.half().float() for e in embeds)
    given = {"prompt_embeds": text, "negative_prompt_embeds": empty, "output_type": "pil"}
    steps = {name: options.steps for name, options in request.options.items()}
    *_, name = steps
    with our_noise(patch, request.seed, stage=1):
        small = base(**given, num_inference_steps=steps["base"]).images[0]
    with our_noise(patch, request.seed, stage=2):
        large = upscaler(**given, image=small, num_inference_steps=steps[name]).images[0]
    return {"base": np.asarray(small), name: np.asarray(large)}


def as_described(stage: StageDescription, position: int, bundle: Bundle) -> DiffusionStage:
    """A described stage by its own entry over its own network, its null context the bundle's.

    The networks are those of the bundle, whose graphs were compared with them when it was written.
    """
    encoder = encoder_of(bundle.manifest)
    null = np.frombuffer(bundle.read(f"{stage.name}.null"), "<f2").reshape(-1, tiny_if.WIDTH)
    described = TextEncoderDescription(
        network=torch.nn.Identity(),
        tokenizer=b"",
        max_tokens=encoder.max_tokens,
        context_width=tiny_if.WIDTH,
        pad_token=encoder.pad_token,
        provenance="the bundle's",
    )
    inputs, outputs = stage_inputs(stage, described), stage_outputs(stage)
    graph = stages_of(bundle.manifest)[position - 1].graphs[NET]
    engine = TorchEngine(stage.network, *(output.name for output in outputs))
    proven = ProvenGraph(
        spec=replace(graph, inputs=inputs, outputs=outputs),
        files={},
        optimized=onnx.ModelProto(),
        provenance={},
        original=engine,
        exported=engine,  # type: ignore[arg-type]
        cases=(),
    )
    return StageBlueprint(stage_entry(stage, proven, null), position, null).open(engine)
