"""The part of a bundle that a stage of pixels by groups is: two exact graphs and an entry.

Nothing of it is computed in another precision, weights are stored without loss, and parity is no
matter of decibels: every logit of every engine is torch's, and so is every value drawn from them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from cascade.boundary import BoundaryValue, Context, Image
from cascade.engine import Engine
from cascade.engines.ort import OrtEngine
from cascade.errors import ParityError, UnsupportedModel
from cascade.graph_spec import GraphSpec, TensorSpec
from cascade.pixels.logits import DIGIT
from cascade.pixels.order import targets_of
from cascade.pixels.spec import HEADS, PASS, TEXT_PADDING, PixelSpec
from cascade.pixels.stage import PixelStage
from cascade.request import Handoff
from cascade.types import Array, ImageU8
from export.components.component import (
    ExportedComponent,
    NetworkSource,
    Report,
    StageJob,
    check_size,
    make_graph,
    most_common_storage,
)
from export.description import PixelStageDescription
from export.exact_proof import differing_values, prove_exactly
from export.parity import stage_picture
from export.proof import Claim
from export.weights.stored_numbers import check_stored
from stages.evaluation.torch_engine import TorchEngine
from stages.networks.exact import check_bound

ROWS = 3
"""Rows of every batch that parity is measured on, at passes of their own."""
CASES = 2
LEVELS = 256
UNDECIDED = LEVELS
"""In place of the symbol of a channel to come."""
TOKENS = 5
"""Length of the made-up texts."""


@dataclass(frozen=True, slots=True)
class ProvenRole:
    """One graph of the component, and what runs it and its network."""

    spec: GraphSpec
    file: bytes
    original: TorchEngine
    exported: OrtEngine


def export_pixels(job: StageJob, stage: PixelStageDescription) -> ExportedComponent[PixelSpec]:
    """Export and prove one stage of pixels by groups.

    Raises:
        UnsupportedModel: a network is too large, or its sums are not exact.
        ParityError: a bit of a graph, a stored number or a value drawn is not the network's.
    """
    report, encoder = job.export.report, job.export.encoder
    width = 0 if encoder is None else encoder.context_width
    share = max(check_bound(stage.body), check_bound(stage.heads))
    report(f"{stage.name:13} largest sum: {share:.0%} of what float32 holds")
    body = prove_role(stage, PASS, body_source(stage, width), report)
    features = [body.original.run(case)["features"] for case in body_cases(stage, width)]
    heads = prove_role(stage, HEADS, heads_source(stage, features), report)
    roles = {PASS: body, HEADS: heads}
    spec = pixel_entry(stage, {role: proven.spec for role, proven in roles.items()}, width, share)
    original = PixelStage(spec, job.position, engines_of(roles, "original"))
    exported = PixelStage(spec, job.position, engines_of(roles, "exported"))
    starts = [
        Handoff(context=job.embed(prompt), image=made_up_parent(stage, number))
        for number, prompt in enumerate(job.export.prompts)
    ]
    prove_decisions(original, exported, starts, report)
    return ExportedComponent(
        spec=spec,
        files={proven.spec.file: proven.file for proven in roles.values()},
        original=original,
        exported=exported,
        quantized=exported,
    )


def engines_of(roles: Mapping[str, ProvenRole], which: str) -> dict[str, Engine]:
    """The `original` or the `exported` engine of every role."""
    return {role: getattr(proven, which) for role, proven in roles.items()}


def prove_role(
    stage: PixelStageDescription, role: str, source: NetworkSource, report: Report
) -> ProvenRole:
    """Export one network and prove its stored graph on every engine."""
    check_size(source.name, source.network)
    graph = make_graph(source, report)
    check_inputs_used(source.name, graph.traced)
    numbers = check_stored(source.name, graph.optimized, graph.stored)
    report(f"{source.name:13} {numbers} stored numbers are the network's, {dict(graph.sizes)}")
    data = graph.stored
    names = [output.name for output in source.outputs]
    original = TorchEngine(source.network, *names)
    claim = Claim(
        name=source.name, original=original, graph=data, cases=source.cases, outputs=names
    )
    parity = prove_exactly(claim, report)
    masked = any(tensor.name == "context_mask" for tensor in source.inputs)
    spec = GraphSpec(
        file=f"{stage.name}.{role}.onnx",
        inputs=source.inputs,
        outputs=source.outputs,
        storage=most_common_storage(graph.sizes),
        parity=parity,
        padded_by=TEXT_PADDING if masked else {},
    )
    return ProvenRole(spec, data, original, OrtEngine(data))


def check_inputs_used(name: str, graph: onnx.ModelProto) -> None:
    """Refuse a graph with an input that nothing reads.

    Raises:
        UnsupportedModel: naming the input; engines drop such inputs and then know none of the name.
    """
    read = {source for node in graph.graph.node for source in node.input}
    for declared in graph.graph.input:
        if declared.name not in read:
            raise UnsupportedModel(
                f"{name}: nothing in the network depends on its input {declared.name}, which "
                "engines then drop: use it, if only times 0",
                field=declared.name,
            )


def body_source(stage: PixelStageDescription, width: int) -> NetworkSource:
    """The body, its signature and what parity is measured on; `width` is that of the context."""
    cases = body_cases(stage, width)
    count = cases[0]["targets"].shape[1]
    return NetworkSource(
        name=f"{stage.name}.{PASS}",
        network=stage.body,
        inputs=tuple(tensor_of(name, value) for name, value in cases[0].items()),
        outputs=(floats("features", count, stage.features),),
        cases=cases,
        optimized=False,
    )


def heads_source(stage: PixelStageDescription, features: Sequence[Array]) -> NetworkSource:
    """The heads, asked about features `[B, n, F]` float32 of the body."""
    cases = [heads_case(stage, found, seed) for seed, found in enumerate(features)]
    count, candidates = features[0].shape[1], stage.scheme.candidates
    answers = [floats("high", count, DIGIT), floats("low", count, DIGIT * DIGIT)]
    if candidates:
        answers.append(floats("copy", count, candidates + 1))
    return NetworkSource(
        name=f"{stage.name}.{HEADS}",
        network=stage.heads,
        inputs=tuple(tensor_of(name, value) for name, value in cases[0].items()),
        outputs=tuple(answers),
        cases=cases,
        optimized=False,
    )


def tensor_of(name: str, value: Array) -> TensorSpec:
    """The signature of an input by an example `[B, ...]`; texts are of any length."""
    shape: list[int | str] = ["batch", *value.shape[1:]]
    if name in ("context", "context_mask"):
        shape[1] = "tokens"
    dtype: Any = value.dtype.name
    return TensorSpec(name=name, dtype=dtype, shape=tuple(shape))


def floats(name: str, *shape: int) -> TensorSpec:
    """An output with a free batch axis."""
    return TensorSpec(name=name, dtype="float32", shape=("batch", *shape))


def body_cases(stage: PixelStageDescription, width: int) -> list[dict[str, Array]]:
    """Batches for a body by name: noise of every value, known or not, each row at another pass.

    Args:
        stage: as described.
        width: of the context.
    """
    size, low = stage.output_resolution, stage.input_resolution
    targets = targets_of(stage.scheme.order, size, size)
    cases = []
    for seed in range(CASES):
        rng = np.random.default_rng(seed)
        passes = (np.arange(ROWS) + seed) % len(targets)
        known = rng.integers(0, 2, (ROWS, 1, size, size)).astype(np.float32)
        noise = rng.integers(0, LEVELS, (ROWS, 3, size, size)).astype(np.float32)
        case: dict[str, Array] = {
            "canvas": noise * known,
            "known": known,
            "pass_index": passes,
            "targets": targets[passes],
        }
        if low is not None:
            case["low_res"] = rng.integers(0, LEVELS, (ROWS, 3, low, low)).astype(np.float32)
        if stage.uses_context:
            text = rng.standard_normal((ROWS, TOKENS, width)).astype(np.float32)
            case["context"] = text.astype(np.float16).astype(np.float32)
            case["context_mask"] = np.triu(np.ones((ROWS, TOKENS), np.float32))
        if stage.augmentation is not None:
            reach = stage.augmentation.highest - stage.augmentation.lowest
            share = rng.random(ROWS) * reach + stage.augmentation.lowest
            case["aug_level"] = share.astype(np.float32)
        cases.append(case)
    return cases


def heads_case(stage: PixelStageDescription, features: Array, seed: int) -> dict[str, Array]:
    """Questions to the heads about features `[B, n, F]` float32, made up."""
    rng = np.random.default_rng(seed)
    rows, count, _ = features.shape
    case: dict[str, Array] = {
        "features": features,
        "earlier": rng.integers(0, UNDECIDED + 1, (rows, count, 2)),
    }
    if stage.scheme.candidates:
        match = rng.integers(0, 2, (rows, count, stage.scheme.candidates))
        case["match"] = match.astype(np.float32)
    return case


def made_up_parent(stage: PixelStageDescription, number: int) -> ImageU8 | None:
    """A parent of patches of colour, `[h, w, 3]` uint8; None for a first stage."""
    if stage.input_resolution is None:
        return None
    rng = np.random.default_rng(number)
    side = -(-stage.input_resolution // 4)
    patches = rng.integers(0, LEVELS, (side, side, 3)).astype(np.uint8)
    wide = patches.repeat(4, axis=0).repeat(4, axis=1)
    cut = slice(stage.input_resolution)
    return np.ascontiguousarray(wide[cut, cut])


def pixel_entry(
    stage: PixelStageDescription, graphs: Mapping[str, GraphSpec], width: int, share: float
) -> PixelSpec:
    """The manifest entry.

    Args:
        stage: as described.
        graphs: by role.
        width: of the context.
        share: the largest sum as a share of what float32 holds.
    """
    starts: list[BoundaryValue] = [Context(width=width)] if stage.uses_context else []
    low, size = stage.input_resolution, stage.output_resolution
    if low is not None:
        starts.append(Image(width=low, height=low))
    return PixelSpec(
        name=stage.name,
        family="pixels",
        graphs=dict(graphs),
        starts_from=tuple(starts),
        makes=Image(width=size, height=size),
        scheme=stage.scheme,
        arithmetic="exact",
        temperature_16=stage.temperature_16,
        floor_16=stage.floor_16,
        guidance_16=stage.guidance_16,
        augmentation=stage.augmentation,
        evidence=dict(stage.evidence),
        provenance={"training": dict(stage.training), "largest_sum": round(share, 4)},
    )


def prove_decisions(
    original: PixelStage, exported: PixelStage, starts: Sequence[Handoff], report: Report
) -> None:
    """Raise where a value drawn from the graphs is not the one drawn from the networks.

    Args:
        original: over torch.
        exported: over ONNX Runtime.
        starts: a picture each, drawn by its number as the seed.
        report: called with the count.
    """
    (name,) = original.names
    count = 0
    for seed, start in enumerate(starts):
        wanted, found = (stage_picture(stage, start, seed) for stage in (original, exported))
        differing = differing_values(found, wanted)
        if differing:
            raise ParityError(
                f"{name}: {differing} of {wanted.size} values drawn differ from torch's", field=name
            )
        count += wanted.size
    report(f"{name:13} 0 of {count} values drawn differ")
