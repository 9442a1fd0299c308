"""A described cascade to a bundle: export, store, prove, write; nothing is written unproven.

The same gates as the reference cascade passes. Knows descriptions; not which adapter made them.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from cascade.bundle.manifest import FORMAT_VERSION, Manifest
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.run_start import late_start
from cascade.diffusion.spec import DiffusionSpec, StoredContext
from cascade.diffusion.stage import DiffusionStage
from cascade.engine import Engine
from cascade.engines.ort import OrtEngine
from cascade.errors import ParityError, UnsupportedModel
from cascade.events import StageFinished
from cascade.graph_spec import (
    FileEntry,
    GpuFormSpec,
    GraphSpec,
    ParityRecord,
    TensorSpec,
)
from cascade.precision import Precision
from cascade.request import GenerateRequest, Handoff
from cascade.text.spec import TextEncoderSpec
from cascade.text.stage import TextEncoderStage, token_inputs
from cascade.text.tokenizer import PromptTokenizer
from cascade.types import Array, ContextF16, ImageU8
from export.adapters.description import (
    CascadeDescription,
    StageDescription,
    TextEncoderDescription,
)
from export.adapters.mask_proof import prove_mask
from export.adapters.synthetic_cases import made_up_cases, stage_inputs, stage_outputs
from export.bundle_folder import write_bundle
from export.bundle_parts import BundleParts, ExportOptions, Report
from export.gpu_variant.verify import FormSource
from export.gpu_variants import add_gpu_forms
from export.graphs import export_graph
from export.int8_variant import add_int8_variant
from export.parity import pictures
from export.passes.pipeline import optimize
from export.proof import Claim, prove
from export.quantize.trajectories import Seat
from export.quantize.variant import Material, paint
from export.weights.exact_storage import store_exactly
from stages.evaluation.metrics import psnr_db
from stages.evaluation.torch_engine import TorchEngine

MAX_PARAMETERS = (1 << 29) - (1 << 22)
"""Float32 weights of one graph: protobuf holds 2 GiB, and a bundle holds no external data."""

PROOF_STEPS = 4
"""Steps per stage of the end-to-end comparison."""

MIN_END_TO_END_DB = 50.0


PLAIN = ExportOptions(precisions=frozenset({Precision.FP32}), gpu_forms=frozenset())
"""Float32 graphs alone."""

RUNS = 8
"""Whole runs that int8 is calibrated on, and as many that prove it."""

LEAST_PROMPTS = 2


class ForeignBundle:
    """A bundle in the making."""

    def __init__(
        self, encoder: TextEncoderDescription, report: Report, options: ExportOptions = PLAIN
    ) -> None:
        """Nothing is exported yet."""
        self.parts = BundleParts()
        self._options = options
        self._prompts: tuple[str, ...] = ()
        self._painted: list[ImageU8] = []
        """What the last stage painted, in the order of the runs; the next one begins there."""
        self._encoder = encoder
        self._report = report

    def add_text_encoder(self, prompts: tuple[str, ...]) -> TextEncoderSpec:
        """Export and prove the text encoder."""
        encoder = self._encoder
        self._prompts = prompts
        padded = encoder.pad_token is not None
        length = encoder.max_tokens if padded else "tokens"
        inputs = (
            TensorSpec(name="token_ids", dtype="int64", shape=("batch", length)),
            TensorSpec(name="token_mask", dtype="float32", shape=("batch", length)),
        )
        shape = ("batch", length, encoder.context_width)
        outputs = (TensorSpec(name="context", dtype="float32", shape=shape),)
        check_size("text_encoder", encoder.network)
        model = export_graph(encoder.network, inputs, outputs)
        untouched = copied(model)
        storage = most_common_storage(store_exactly(model))
        words = PromptTokenizer(encoder.tokenizer, encoder.max_tokens)
        original = TorchEngine(encoder.network, "context")
        exported = self._engine("text_encoder", model)
        cases = [token_inputs(words(prompt), encoder) for prompt in prompts]
        cases.append(hardest_prompt(encoder, words.largest_number, original))
        parity = self._prove("text_encoder", original, cases, ["context"])
        if not padded:
            prove_mask("text_encoder", original, cases[0], "context", per_token=True)
        forms = self._gpu_forms("text_encoder", untouched, original, cases, ("context",))
        self._report(f"text_encoder  {parity.max_abs_error:.1e} max abs error, {storage}")
        self.parts.files["tokenizer.json"] = encoder.tokenizer
        spec = TextEncoderSpec(
            name="text_encoder",
            family="text_encoder",
            graph=GraphSpec(
                file="text_encoder.onnx",
                inputs=inputs,
                outputs=outputs,
                storage=storage,
                parity=parity,
                gpu_forms=forms,
            ),
            tokenizer_file="tokenizer.json",
            max_tokens=encoder.max_tokens,
            pad_token=encoder.pad_token,
            context_width=encoder.context_width,
            provenance=encoder.provenance,
        )
        self.parts.original.append(TextEncoderStage(spec, words, original))
        self.parts.exported.append(TextEncoderStage(spec, words, exported))
        return spec

    def add_stage(self, stage: StageDescription, context: ContextF16) -> None:
        """Export and prove one diffusion stage; `context` is some prompt's, `[tokens, width]`."""
        check_size(stage.name, stage.network)
        fixed = None if self._encoder.pad_token is None else self._encoder.max_tokens
        inputs = stage_inputs(stage, self._encoder.context_width, fixed)
        outputs = stage_outputs(stage)
        names = [output.name for output in outputs]
        model = export_graph(stage.network, inputs, outputs)
        untouched = copied(model)
        fusions = optimize(model, self._report)
        plain = copied(model)
        storage = most_common_storage(store_exactly(model))
        original = TorchEngine(stage.network, *names)
        exported = self._engine(stage.name, model)
        cases = list(stage.samples) or made_up_cases(stage, context)
        parity = self._prove(stage.name, original, cases, names)
        if fixed is None:
            prove_mask(
                stage.name, original, made_up_cases(stage, context)[0], names[0], per_token=False
            )
        self._report(
            f"{stage.name:13} {parity.max_abs_error:.1e} max abs error, {parity.psnr_db:.1f} dB, "
            f"{len(model.graph.node)} nodes, {storage}"
        )
        graph = GraphSpec(
            file=f"{stage.name}.onnx",
            inputs=inputs,
            outputs=outputs,
            storage=storage,
            parity=parity,
            fusions=fusions,
            gpu_forms=self._gpu_forms(stage.name, untouched, original, cases, names),
        )
        null = self._null_context(stage)
        stored = (
            None if null is None else StoredContext(file=f"{stage.name}.null", tokens=len(null))
        )
        if stored is not None and null is not None:
            self.parts.files[stored.file] = null.astype("<f2").tobytes()
        spec = stage_entry(stage, graph, stored)
        late = late_start(spec, spec.steps)
        if late is not None:
            self._report(f"warning       {late}")
        position = len(self.parts.exported)
        if Precision.INT8 in self._options.precisions:
            spec = self._with_int8(
                spec, plain, exported, Seat(position, null), (original, first_rows(cases))
            )
        self.parts.stages.append(spec)
        for stages, engine in ((self.parts.original, original), (self.parts.exported, exported)):
            stages.append(DiffusionStage(spec, position, engine, null_context=null))

    def _gpu_forms(
        self,
        name: str,
        plain: onnx.ModelProto,
        original: TorchEngine,
        cases: Sequence[Mapping[str, Array]],
        outputs: Sequence[str],
    ) -> tuple[GpuFormSpec, ...]:
        """The forms asked for, proven on every output; the entry keeps the worst parity.

        A component without layers that are worth a form goes without, and the report says so.
        """
        found: dict[Precision, GpuFormSpec] = {}
        for precision, output in product(sorted(self._options.gpu_forms), outputs):
            source = FormSource(
                name=name, plain=plain, lender=self.parts.files[f"{name}.onnx"],
                original=original, cases=cases, output=output,
            )  # fmt: skip
            wanted = replace(self._options, gpu_forms=frozenset({precision}))
            try:
                (form,) = add_gpu_forms(self.parts, source, wanted, self._report)
            except ValueError as exc:
                self._report(f"{name:13} without a form for GPUs in {precision}: {exc}")
                continue
            worst = max(found.get(precision, form), form, key=lambda f: f.parity.max_abs_error)
            found[precision] = worst
        return tuple(found.values())

    def _with_int8(
        self,
        spec: DiffusionSpec,
        plain: onnx.ModelProto,
        exported: OrtEngine,
        seat: Seat,
        proof: tuple[TorchEngine, Sequence[Mapping[str, Array]]],
    ) -> DiffusionSpec:
        """The entry with an 8-bit variant, calibrated on runs of the stage itself.

        Prompts of the description take turns: even ones calibrate, odd ones prove.
        """
        starts = [self._starts(first) for first in (0, 1)]
        pictures = [paint(spec, exported, some, seat) for some in starts]
        self._painted = [image for pair in zip(*pictures, strict=True) for image in pair]
        material = Material(
            spec=spec, model=plain, calibration=starts[0], proof=starts[1], pictures=pictures[1],
            seat=seat,
        )  # fmt: skip
        found = add_int8_variant(self.parts, material, proof, self._report)
        return spec if found is None else found

    def _starts(self, first: int) -> list[Handoff]:
        """Where runs begin: the words of every other prompt, the stage before's pictures."""
        starts = []
        for number in range(first, 2 * RUNS, 2):
            image = self._painted[number] if self._painted else None
            prompt = self._prompts[number % len(self._prompts)]
            starts.append(Handoff(context=self.embed(prompt), image=image))
        return starts

    def embed(self, text: str) -> ContextF16:
        """Embeddings of a text as the exported encoder makes them, `[tokens, width]` float16."""
        for event in self.parts.exported[0].run(GenerateRequest(), Handoff(prompt=text)):
            if isinstance(event, StageFinished) and event.handoff.context is not None:
                return event.handoff.context
        raise ParityError("the text encoder gave no context")

    def prove_end_to_end(self, prompts: tuple[str, ...]) -> None:
        """Compare the whole cascades on the same noise, a few steps per stage.

        Raises:
            ParityError: a stage's picture is below `MIN_END_TO_END_DB` of its original.
        """
        options = {
            spec.name: DiffusionOptions(steps=min(spec.steps, PROOF_STEPS))
            for spec in self.parts.stages
        }
        worst: dict[str, float] = {}
        for seed, prompt in enumerate(prompts):
            request = GenerateRequest(prompt=prompt, seed=seed, options=options)
            reference = pictures(self.parts.original, request)
            for name, image in pictures(self.parts.exported, request).items():
                worst[name] = min(worst.get(name, np.inf), psnr_db(image, reference[name]))
        lines = ", ".join(f"{name} {value:.1f} dB" for name, value in worst.items())
        self._report(f"end to end    {lines}")
        low = {name: value for name, value in worst.items() if value < MIN_END_TO_END_DB}
        if low:
            raise ParityError(f"end to end below {MIN_END_TO_END_DB} dB: {low}")

    def _engine(self, name: str, model: onnx.ModelProto) -> OrtEngine:
        """The graph as one more file, and as what runs it."""
        graph = model.SerializeToString()
        self.parts.files[f"{name}.onnx"] = graph
        return OrtEngine(graph)

    def _prove(
        self, name: str, original: Engine, cases: Sequence[Mapping[str, Array]], outputs: list[str]
    ) -> ParityRecord:
        """The graph's file against its network on every engine installed."""
        graph = self.parts.files[f"{name}.onnx"]
        return prove(
            Claim(name=name, original=original, graph=graph, cases=cases, outputs=outputs),
            self._report,
        )

    def _null_context(self, stage: StageDescription) -> ContextF16 | None:
        """The embeddings of the stage's unconditional text; None where the mask asks instead."""
        return None if stage.null_text is None else self.embed(stage.null_text)


def write_cascade(
    description: CascadeDescription, out: Path, *, report: Report, options: ExportOptions = PLAIN
) -> Manifest:
    """Export a described cascade.

    Args:
        description: networks in evaluation mode and choices; its text encoder is there.
        out: folder of the bundle; replaced as a whole once everything is proven.
        report: called with lines for the person who waits.
        options: forms for GPUs and precisions besides the float32 graphs.

    Raises:
        UnsupportedModel: a component is too large for one graph, or there is no text encoder.
        ParityError: a component or the whole cascade is too far from its original.
    """
    if description.text_encoder is None:
        raise UnsupportedModel("text_encoder: give --text-encoder FOLDER", field="text_encoder")
    if Precision.INT8 in options.precisions and len(set(description.prompts)) < LEAST_PROMPTS:
        raise UnsupportedModel(
            "prompts: int8 is calibrated on one prompt and proven on another; describe two",
            field="prompts",
        )
    bundle = ForeignBundle(description.text_encoder, report, options)
    encoder = bundle.add_text_encoder(description.prompts)
    context = bundle.embed(description.prompts[0])
    for stage in description.stages:
        bundle.add_stage(stage, context)
    refuse_nothing_written(bundle.parts, options)
    bundle.prove_end_to_end(description.prompts)
    files = bundle.parts.files
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        name=out.name,
        licence=description.licence,
        provenance=description.provenance,
        text_encoder=encoder,
        stages=tuple(bundle.parts.stages),
        files=tuple(
            FileEntry(name=n, sha256=hashlib.sha256(d).hexdigest(), size_bytes=len(d))
            for n, d in sorted(files.items())
        ),
    )
    write_bundle(out, manifest, files)
    total = sum(map(len, files.values()))
    report(f"{out}: {total / 1e6:.1f} MB, bundle id {manifest.bundle_id}")
    return manifest


def stage_entry(
    stage: StageDescription, graph: GraphSpec, null: StoredContext | None
) -> DiffusionSpec:
    """The manifest entry of a described stage."""
    return DiffusionSpec(
        name=stage.name,
        family="diffusion",
        graph=graph,
        input_resolution=stage.input_resolution,
        output_resolution=stage.output_resolution,
        schedule=stage.schedule,
        prediction=stage.prediction,
        variance="learned_range" if stage.learned_variance else "fixed",
        sampler=stage.sampler,
        steps=stage.steps,
        timesteps=stage.timesteps,
        gamma=stage.gamma,
        guidance=stage.guidance,
        null_context="mask" if null is None else null,
        threshold=stage.threshold,
        enlarge=stage.enlarge,
        augmentation=stage.augmentation,
        skip_scale="inside",
        training=dict(stage.training),
    )


def hardest_prompt(
    encoder: TextEncoderDescription, largest: int, original: TorchEngine
) -> dict[str, Array]:
    """Inputs of the longest prompt, all of the vocabulary's last token: what a table may not hold.

    Args:
        encoder: as described.
        largest: its tokenizer's largest number.
        original: runs its network.

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


def refuse_nothing_written(parts: BundleParts, options: ExportOptions) -> None:
    """Raise `UnsupportedModel` where forms or int8 were asked for and no component has any."""
    variants = [v for spec in parts.stages for v in spec.graph.variants]
    forms = [name for name in parts.files if ".gpu-" in name]
    for asked, written, field in (
        (options.gpu_forms, forms, "gpu_forms"),
        (options.precisions - {Precision.FP32}, variants, "precisions"),
    ):
        if asked and not written:
            raise UnsupportedModel(
                f"{field}: no component of this cascade has one, see above: leave "
                f"--{field.replace('_', '-')} out",
                field=field,
            )


def first_rows(cases: Sequence[Mapping[str, Array]]) -> list[Mapping[str, Array]]:
    """One row of each case: the second shows an image at another row's time, as no run does."""
    return [{name: value[:1] for name, value in case.items()} for case in cases]


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph as it is now, whatever becomes of it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def check_size(name: str, network: object) -> None:
    """Refuse a network whose graph would not fit in one file."""
    count = sum(p.numel() for p in network.parameters())  # type: ignore[attr-defined]
    if count > MAX_PARAMETERS:
        raise UnsupportedModel(
            f"{name}: {count / 1e6:.0f} million parameters; one graph holds at most "
            f"{MAX_PARAMETERS / 1e6:.0f} million, for a bundle has no external data: use a smaller "
            "member of the family",
            field=name,
        )


def most_common_storage(
    sizes: dict[str, int],
) -> Literal["float32", "float16", "int8"]:
    """The format that most bytes of the weights lie in."""
    kinds: tuple[Literal["float32", "float16", "int8"], ...] = ("float32", "float16", "int8")
    return max(kinds, key=lambda kind: sizes.get(kind, 0))
