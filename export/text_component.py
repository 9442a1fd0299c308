"""The text encoder's part of a bundle: exported, stored, proven.

Knows the frozen encoder of the reference cascade; not the stages after it.
"""

import numpy as np
import onnx

from cascade.engines.ort import OrtEngine
from cascade.graph_spec import GraphSpec, TensorSpec
from cascade.text.spec import TextEncoderSpec
from cascade.text.stage import TextEncoderStage
from cascade.text.tokenizer import PromptTokenizer
from cascade.types import Array
from export.bundle_parts import BundleParts, ExportOptions, Report
from export.gpu_variant.verify import FormSource
from export.gpu_variants import add_gpu_forms
from export.graphs import export_graph
from export.proof import Claim, prove
from export.weights.exact_storage import store_exactly
from stages.data.prompts import TOKENIZER_FILE, text_encoder, tokenizer
from stages.evaluation.torch_engine import TorchEngine
from stages.networks.text_encoder import model_folder

MAX_TOKENS = 64
CONTEXT_WIDTH = 384
PROMPTS = ("a red apple, noto style", "a robot, fluent style", "a cactus, twemoji style")
"""What parity of the text encoder and of the whole cascade is measured on."""


def add_text_encoder(parts: BundleParts, options: ExportOptions, report: Report) -> TextEncoderSpec:
    """Export and prove the frozen text encoder."""
    inputs = (
        TensorSpec(name="token_ids", dtype="int64", shape=("batch", "tokens")),
        TensorSpec(name="token_mask", dtype="float32", shape=("batch", "tokens")),
    )
    outputs = (
        TensorSpec(name="context", dtype="float32", shape=("batch", "tokens", CONTEXT_WIDTH)),
    )
    model = export_graph(text_encoder(), inputs, outputs)
    untouched = onnx.ModelProto()
    untouched.CopyFrom(model)
    sizes = store_exactly(model)
    graph = model.SerializeToString()
    original, exported = TorchEngine(text_encoder(), "context"), OrtEngine(graph)
    cases: list[dict[str, Array]] = []
    for prompt in PROMPTS:
        ids = np.array([tokenizer().encode(prompt).ids], np.int64)
        cases.append({"token_ids": ids, "token_mask": np.ones(ids.shape, np.float32)})
    claim = Claim(
        name="text_encoder", original=original, graph=graph, cases=cases, outputs=("context",)
    )
    parity = prove(claim, report)
    report(
        f"text_encoder  max abs error {parity.max_abs_error:.1e}, {parity.psnr_db:.1f} dB, "
        f"{dict(sizes)}"
    )
    parts.files["text_encoder.onnx"] = graph
    parts.files["tokenizer.json"] = (model_folder() / TOKENIZER_FILE).read_bytes()
    form_source = FormSource(
        name="text_encoder",
        plain=untouched,
        lender=graph,
        original=original,
        cases=cases,
        output="context",
    )
    spec = TextEncoderSpec(
        name="text_encoder",
        family="text_encoder",
        graph=GraphSpec(
            file="text_encoder.onnx",
            inputs=inputs,
            outputs=outputs,
            storage="int8",
            parity=parity,
            gpu_forms=add_gpu_forms(parts, form_source, options, report),
        ),
        tokenizer_file="tokenizer.json",
        max_tokens=MAX_TOKENS,
        context_width=CONTEXT_WIDTH,
        provenance="all-MiniLM-L6-v2 (Apache-2.0), matrices rounded to 8 bits per row",
    )
    words = PromptTokenizer(parts.files["tokenizer.json"], MAX_TOKENS)
    encoder = TextEncoderStage(spec, words, exported)
    parts.original.append(TextEncoderStage(spec, words, original))
    parts.exported.append(encoder)
    parts.eight_bit.append(encoder)
    return spec
