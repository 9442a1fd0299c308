"""A diffusion stage's part of a bundle: released, exported, stored, proven; then its int8 variant.

Knows the stages of the reference cascade; not the bundle's folder nor the other components.
"""

from dataclasses import dataclass
from pathlib import Path

import onnx

from cascade.diffusion.spec import DiffusionSpec
from cascade.diffusion.stage import DiffusionStage
from cascade.engines.ort import OrtEngine
from cascade.errors import InvalidRequest
from cascade.graph_spec import GraphSpec
from cascade.precision import Precision
from cascade.request import Handoff
from export.bundle_parts import BundleParts, ExportOptions, Report
from export.gpu_variant.verify import FormSource
from export.gpu_variants import add_gpu_forms
from export.graphs import export_graph
from export.int8_variant import add_int8_variant, int8_graph
from export.parity import TIMES, stage_cases
from export.passes.expectations import check_fusions
from export.passes.pipeline import optimize
from export.proof import Claim, prove
from export.quantize.trajectories import continued, true_starts
from export.quantize.variant import Material, paint
from export.weights.exact_storage import store_exactly
from export.weights.rounding import release
from stages.data.dataset import Dataset
from stages.defaults import stage_spec
from stages.evaluation.sampling import POSITIONS, graph_inputs, graph_outputs, load_network
from stages.evaluation.torch_engine import TorchEngine
from stages.networks.efficient_unet import EfficientUNet
from stages.presets import StagePreset
from stages.training.checkpoint import FACTS, load_facts

CALIBRATION_RUNS = 16
PROOF_RUNS = 16


FACT_NAMES = {
    "steps": "step",
    "samples": "samples",
    "minutes": "minutes",
    "final_loss": "loss",
    "pictures": "pictures",
}
"""Entries of a manifest's `training`, and what a checkpoint calls them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageSource:
    """Where a stage comes from."""

    preset: StagePreset
    checkpoint: Path
    data: Dataset


def add_stage(
    parts: BundleParts, source: StageSource, options: ExportOptions, report: Report
) -> None:
    """Export and prove one diffusion stage with the variants asked for."""
    preset = source.preset
    network = release(load_network(preset, source.checkpoint), options.storage)
    model = export_graph(network, graph_inputs(preset), graph_outputs(preset))
    untouched = onnx.ModelProto()
    untouched.CopyFrom(model)
    fusions = optimize(model, report)
    check_fusions(fusions, network, fixed_size(preset))
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    sizes = store_exactly(model)
    graph = model.SerializeToString()
    original, exported = TorchEngine(network, "prediction"), OrtEngine(graph)
    cases = stage_cases(preset, source.data, TIMES)
    claim = Claim(
        name=preset.name, original=original, graph=graph, cases=cases, outputs=("prediction",)
    )
    parity = prove(claim, report)
    report(
        f"{preset.name:13} max abs error {parity.max_abs_error:.1e}, {parity.psnr_db:.1f} dB, "
        f"{len(model.graph.node)} nodes, {dict(sizes)}, "
        f"fused {fusions}"
    )
    file = f"{preset.name}.onnx"
    parts.files[file] = graph
    form_source = FormSource(
        name=preset.name,
        plain=untouched,
        lender=graph,
        original=original,
        cases=cases,
        output="prediction",
    )
    spec = stage_spec(
        preset,
        GraphSpec(
            file=file,
            inputs=graph_inputs(preset),
            outputs=graph_outputs(preset),
            storage=options.storage.value,
            parity=parity,
            fusions=fusions,
            gpu_forms=add_gpu_forms(parts, form_source, options, report),
        ),
        training_facts(preset, network, source.checkpoint),
    )
    position = POSITIONS[preset.name]
    stage = DiffusionStage(spec, position, exported)
    parts.original.append(DiffusionStage(spec, position, original))
    parts.exported.append(stage)
    if Precision.INT8 in options.precisions:
        spec, stage = add_int8(parts, source, Original(spec, plain, original, exported), report)
    parts.eight_bit.append(stage)
    parts.stages.append(spec)


def fixed_size(preset: StagePreset) -> int | None:
    """Height and width of the graph's pictures; None where the graph leaves them free."""
    height = graph_inputs(preset)[0].shape[2]
    return height if isinstance(height, int) else None


@dataclass(frozen=True, slots=True)
class Original:
    """A stage before quantisation: its entry, its float32 graph unstored, and what runs it."""

    spec: DiffusionSpec
    model: onnx.ModelProto
    network: TorchEngine
    exported: OrtEngine
    """The float32 graph as it is stored."""


def add_int8(
    parts: BundleParts, source: StageSource, original: Original, report: Report
) -> tuple[DiffusionSpec, DiffusionStage]:
    """Quantise a stage, prove the file, enter it as a variant.

    A stage whose pictures do not survive eight bits goes without, and the report says so: noise
    added at every step, for example, makes other pictures of what rounding changed.

    Raises:
        ParityError: the predictions are too far from the float32 graph's.
    """
    preset, spec = source.preset, original.spec
    calibration = starts(parts, source, CALIBRATION_RUNS, offset=0.0)
    proof = starts(parts, source, PROOF_RUNS, offset=0.5)
    pictures = paint(spec, original.exported, proof)
    parts.painted = [continued(s, image) for s, image in zip(proof, pictures, strict=True)]
    material = Material(
        spec=spec,
        model=original.model,
        calibration=calibration,
        proof=proof,
        pictures=pictures,
    )
    # The first row only: the second shows an image at another row's time, which sampling never
    # does, and values beyond everything calibrated are cut.
    cases = [{k: v[:1] for k, v in c.items()} for c in stage_cases(preset, source.data, TIMES)]
    found = add_int8_variant(parts, material, (original.network, cases), report)
    if found is None:
        return spec, DiffusionStage(spec, POSITIONS[preset.name], original.exported)
    engine = OrtEngine(int8_graph(parts, found))
    return found, DiffusionStage(found, POSITIONS[preset.name], engine)


def starts(parts: BundleParts, source: StageSource, count: int, *, offset: float) -> list[Handoff]:
    """Where runs begin: true pictures, and for super-resolution half of them painted ones."""
    preset = source.preset
    found = true_starts(preset, source.data, count, offset=offset)
    painted = [
        start
        for start in parts.painted
        if start.image is not None and start.image.shape[0] == preset.low_resolution
    ]
    # Even ones calibrate, odd ones prove: neither has seen the other's.
    mine = painted[int(offset > 0) :: 2][: count // 2]
    return mine + found[: count - len(mine)]


def training_facts(
    preset: StagePreset, network: EfficientUNet, checkpoint: Path
) -> dict[str, str | float]:
    """What the manifest says of how a stage was trained.

    Raises:
        InvalidRequest: the checkpoint does not say it.
    """
    facts = load_facts(checkpoint)
    missing = [name for name in FACT_NAMES.values() if name not in facts]
    if missing:
        raise InvalidRequest(
            f"{checkpoint / FACTS}: {missing[0]} is missing: train the stage, or read it back from "
            "its bundle again with `cascade weights`",
            field=f"checkpoints.{missing[0]}",
        )
    said = {entry: float(facts[name]) for entry, name in FACT_NAMES.items()}
    return {
        **said,
        "parameters": float(sum(p.numel() for p in network.parameters())),
        "final_loss": round(said["final_loss"], 4),
        "crop": float(preset.crop),
        **({"teacher": str(facts["teacher"])} if "teacher" in facts else {}),
    }
