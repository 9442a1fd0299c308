"""One half of an autoencoder's part of a bundle: graph, and entry in the manifest."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from cascade.boundary import BoundaryValue, Context, Image, Tensor
from cascade.graph_spec import NET, GraphSpec, TensorSpec
from cascade.latents.spec import AutoencoderSpec
from cascade.latents.stage import AutoencoderStage
from cascade.numerics.noise import normals
from cascade.types import Array
from export.components.component import (
    ExportedComponent,
    NetworkSource,
    StageJob,
    prove_network,
)
from export.description import AutoencoderDescription
from stages.evaluation.sampling import UNMEASURED
from stages.evaluation.torch_engine import TorchEngine

CASES = 3
"""Batches that parity is measured on."""


def export_autoencoder(
    job: StageJob, half: AutoencoderDescription
) -> ExportedComponent[AutoencoderSpec]:
    """Export and prove one half of an autoencoder.

    Raises:
        UnsupportedModel: the network is too large.
        ParityError: the graph is not the network.
    """
    proven = prove_network(job.export, network_source(half))
    width = 0 if not half.passes_words else job.embed(job.export.prompts[0]).shape[1]
    spec = entry(half, proven.spec, width, proven.provenance)
    exported = AutoencoderStage(spec, proven.exported)
    before = None if half.encodes or job.before is None else job.before.runs
    return ExportedComponent(
        spec=spec,
        files=proven.files,
        original=AutoencoderStage(spec, proven.original),
        exported=exported,
        quantized=exported,
        weights=proven.weights,
        # Pictures of the latent's runs are this decoder's: a stage after it begins with them.
        runs=before,
    )


def torch_autoencoder(half: AutoencoderDescription, width: int) -> AutoencoderStage:
    """An autoencoder's half over its torch network, before it is exported.

    Args:
        half: as described.
        width: of the embeddings that are passed on; 0 for none.
    """
    source = network_source(half)
    graph = GraphSpec(
        file="none",
        inputs=source.inputs,
        outputs=source.outputs,
        storage="float32",
        parity=UNMEASURED,
    )
    engine = TorchEngine(half.network, *(output.name for output in source.outputs))
    return AutoencoderStage(entry(half, graph, width, {}), engine)


def network_source(half: AutoencoderDescription) -> NetworkSource:
    """The network, its signature and the batches that parity is measured on."""
    latent = half.tile or half.latent_resolution
    picture = latent * half.factor
    inputs = TensorSpec(name="picture", dtype="float32", shape=("batch", 3, picture, picture))
    outputs = TensorSpec(
        name="latent", dtype="float32", shape=("batch", half.latent_channels, latent, latent)
    )
    taken, made = (inputs, outputs) if half.encodes else (outputs, inputs)
    return NetworkSource(
        name=half.name,
        network=half.network,
        inputs=(taken,),
        outputs=(made,),
        cases=half.samples or [synthetic_case(half, taken, number) for number in range(CASES)],
        optimized=True,
    )


def synthetic_case(
    half: AutoencoderDescription, taken: TensorSpec, number: int
) -> dict[str, Array]:
    """A batch of two rows of noise as large as pictures or latents are.

    Args:
        half: as described.
        taken: the network's input.
        number: of the case; its noise is its own.

    Returns:
        `[2, C, H, W]` float32 under the input's name.
    """
    noise = normals(taken.shape_with({"batch": 2}), seed=number, image=4, stage=0, step=0)
    if half.encodes:
        return {taken.name: np.clip(noise / 2, -1, 1).astype(np.float32)}
    # A latent in the cascade has variance 1; the network's own is that, unscaled.
    return {taken.name: (noise / half.scaling + half.shift).astype(np.float32)}


def entry(
    half: AutoencoderDescription, graph: GraphSpec, width: int, provenance: Mapping[str, Any]
) -> AutoencoderSpec:
    """The manifest entry.

    Args:
        half: as described.
        graph: its graph's.
        width: of the embeddings that are passed on; 0 for none.
        provenance: of the graph.
    """
    picture = Image(width=half.resolution, height=half.resolution)
    side = half.latent_resolution
    latent = Tensor(shape=(half.latent_channels, side, side), dtype="float32")
    taken: BoundaryValue = picture if half.encodes else latent
    beside: tuple[BoundaryValue, ...] = (Context(width=width),) if width else ()
    return AutoencoderSpec(
        name=half.name,
        family="encoder" if half.encodes else "decoder",
        graphs={NET: graph},
        starts_from=(*beside, taken),
        makes=latent if half.encodes else picture,
        scaling=half.scaling,
        shift=half.shift,
        provenance={"training": dict(half.training), **provenance},
    )
