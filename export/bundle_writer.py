"""Checkpoints to a bundle: release, export, store, prove, write; nothing is written unproven.

Puts the other modules of this package in order. Knows the reference cascade's components; not how
a graph is made or compared.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cascade.diffusion_stage import DiffusionStage
from cascade.engines.ort import OrtEngine
from cascade.errors import ParityError
from cascade.manifest import (
    FORMAT_VERSION,
    DiffusionSpec,
    FileEntry,
    GraphSpec,
    Manifest,
    TensorSpec,
    TextEncoderSpec,
    write_manifest,
)
from cascade.stage import Stage
from cascade.text_stage import TextEncoderStage
from cascade.tokenizer import PromptTokenizer
from cascade.types import Array
from export.exact_storage import store_exactly
from export.graphs import export_graph
from export.parity import TIMES, compare_cascades, compare_engines, stage_cases
from export.rounding import release_half_precision
from stages.checkpoint import load_facts
from stages.dataset import Dataset, open_dataset
from stages.defaults import stage_spec
from stages.efficient_unet import EfficientUNet
from stages.presets import PRESETS, StagePreset
from stages.prompts import TOKENIZER_FILE, text_encoder, tokenizer
from stages.sampling import POSITIONS, graph_inputs, graph_outputs, load_network
from stages.text_encoder import model_folder
from stages.torch_engine import TorchEngine

MAX_TOKENS = 64
CONTEXT_WIDTH = 384
MIN_END_TO_END_DB = 50.0
PROMPTS = ("a red apple, noto style", "a robot, fluent style", "a cactus, twemoji style")
LICENCE = (
    "Apache-2.0 for the weights; trained on Noto Emoji (Apache-2.0), Fluent Emoji flat (MIT) and "
    "Twemoji (CC-BY 4.0); text encoder all-MiniLM-L6-v2 (Apache-2.0); see NOTICE"
)
Report = Callable[[str], None]


class BundleParts:
    """What has been made so far: files, specs, and both versions of every stage."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.stages: list[DiffusionSpec] = []
        self.original: list[Stage] = []
        self.exported: list[Stage] = []


def export_bundle(checkpoints: Path, out: Path, *, data_file: Path, report: Report) -> Manifest:
    """Write the reference bundle.

    Args:
        checkpoints: folder with one checkpoint folder per stage.
        out: folder of the bundle; replaced as a whole once everything is proven.
        data_file: the prepared data; parity is measured on its held-out pictures.
        report: called with lines for the person who waits.

    Raises:
        ParityError: a component or the whole cascade is too far from its original.
    """
    data = open_dataset(data_file)
    parts = BundleParts()
    encoder = add_text_encoder(parts, report)
    for preset in PRESETS.values():
        add_stage(parts, preset, data, checkpoints / preset.name, report)
    prove_end_to_end(parts, report)
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=out.name,
        licence=LICENCE,
        provenance="trained from scratch by this project: `cascade train`, `cascade export`",
        text_encoder=encoder,
        stages=tuple(parts.stages),
        files=tuple(
            FileEntry(name=n, sha256=hashlib.sha256(d).hexdigest(), size_bytes=len(d))
            for n, d in sorted(parts.files.items())
        ),
    )
    write_bundle(out, manifest, parts.files)
    total = sum(map(len, parts.files.values()))
    report(f"{out}: {total / 1e6:.1f} MB, bundle id {manifest.bundle_id}")
    return manifest


def add_text_encoder(parts: BundleParts, report: Report) -> TextEncoderSpec:
    """Export and prove the frozen text encoder."""
    inputs = (
        TensorSpec(name="token_ids", dtype="int64", shape=("batch", "tokens")),
        TensorSpec(name="token_mask", dtype="float32", shape=("batch", "tokens")),
    )
    outputs = (
        TensorSpec(name="context", dtype="float32", shape=("batch", "tokens", CONTEXT_WIDTH)),
    )
    model = export_graph(text_encoder(), inputs, outputs)
    sizes = store_exactly(model)
    graph = model.SerializeToString()
    original, exported = TorchEngine(text_encoder(), "context"), OrtEngine(graph)
    cases: list[dict[str, Array]] = []
    for prompt in PROMPTS:
        ids = np.array([tokenizer().encode(prompt).ids], np.int64)
        cases.append({"token_ids": ids, "token_mask": np.ones(ids.shape, np.float32)})
    parity = compare_engines(original, exported, cases, "context")
    report(
        f"text_encoder  max abs error {parity.max_abs_error:.1e}, {parity.psnr_db:.1f} dB, "
        f"{dict(sizes)}"
    )
    parts.files["text_encoder.onnx"] = graph
    parts.files["tokenizer.json"] = (model_folder() / TOKENIZER_FILE).read_bytes()
    spec = TextEncoderSpec(
        name="text_encoder",
        family="text_encoder",
        graph=GraphSpec(
            file="text_encoder.onnx", inputs=inputs, outputs=outputs, storage="int8", parity=parity
        ),
        tokenizer_file="tokenizer.json",
        max_tokens=MAX_TOKENS,
        context_width=CONTEXT_WIDTH,
        provenance="all-MiniLM-L6-v2 (Apache-2.0), matrices rounded to 8 bits per row",
    )
    words = PromptTokenizer(parts.files["tokenizer.json"], MAX_TOKENS)
    parts.original.append(TextEncoderStage(spec, words, original))
    parts.exported.append(TextEncoderStage(spec, words, exported))
    return spec


def add_stage(
    parts: BundleParts, preset: StagePreset, data: Dataset, checkpoint: Path, report: Report
) -> None:
    """Export and prove one diffusion stage."""
    network = release_half_precision(load_network(preset, checkpoint))
    inputs, outputs = graph_inputs(preset), graph_outputs(preset)
    model = export_graph(network, inputs, outputs)
    sizes = store_exactly(model)
    graph = model.SerializeToString()
    original, exported = TorchEngine(network, "prediction"), OrtEngine(graph)
    parity = compare_engines(original, exported, stage_cases(preset, data, TIMES), "prediction")
    report(
        f"{preset.name:13} max abs error {parity.max_abs_error:.1e}, {parity.psnr_db:.1f} dB, "
        f"{len(model.graph.node)} nodes, {dict(sizes)}"
    )
    file = f"{preset.name}.onnx"
    parts.files[file] = graph
    spec = stage_spec(
        preset,
        GraphSpec(file=file, inputs=inputs, outputs=outputs, storage="float16", parity=parity),
        training_facts(preset, network, checkpoint),
    )
    position = POSITIONS[preset.name]
    parts.stages.append(spec)
    parts.original.append(DiffusionStage(spec, position, original))
    parts.exported.append(DiffusionStage(spec, position, exported))


def training_facts(
    preset: StagePreset, network: EfficientUNet, checkpoint: Path
) -> dict[str, str | float]:
    """What the manifest says of how a stage was trained."""
    facts = load_facts(checkpoint)
    return {
        "parameters": float(sum(p.numel() for p in network.parameters())),
        "steps": float(facts["step"]),
        "samples": float(facts["samples"]),
        "minutes": float(facts["minutes"]),
        "final_loss": round(float(facts["loss"]), 4),
        "pictures": float(facts["pictures"]),
        "crop": float(preset.crop),
    }


def prove_end_to_end(parts: BundleParts, report: Report) -> None:
    """Compare the whole cascades.

    Raises:
        ParityError: a stage's picture is below `MIN_END_TO_END_DB` of its original.
    """
    found = compare_cascades(parts.original, parts.exported, PROMPTS)
    lines = ", ".join(f"{name} {value:.1f} dB" for name, value in found.psnr_db.items())
    report(f"end to end    {lines}; {found.differing:.4%} of the last stage's samples differ")
    low = {name: value for name, value in found.psnr_db.items() if value < MIN_END_TO_END_DB}
    if low:
        raise ParityError(f"end to end below {MIN_END_TO_END_DB} dB: {low}")


def write_bundle(out: Path, manifest: Manifest, files: dict[str, bytes]) -> None:
    """Write the folder beside its place, then let it take the place of an older one."""
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    fresh.chmod(0o755)
    for name, data in files.items():
        (fresh / name).write_bytes(data)
    (fresh / "manifest.json").write_text(write_manifest(manifest))
    old = fresh.with_name(f"{fresh.name}-old")
    if out.exists():
        out.replace(old)
    fresh.replace(out)
    shutil.rmtree(old, ignore_errors=True)
