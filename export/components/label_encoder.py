"""The label encoder's part of a bundle: graph and entry in the manifest.

Knows a described encoder of classes; not what a class means, nor which stage reads it.
"""

import numpy as np

from cascade.boundary import Context, Label
from cascade.errors import UnsupportedModel
from cascade.graph_spec import NET, TensorSpec
from cascade.labels.spec import LabelEncoderSpec
from cascade.labels.stage import LabelEncoderStage
from export.components.component import (
    ExportedComponent,
    ExportJob,
    NetworkSource,
    prove_network,
)
from export.description import LabelEncoderDescription

NAME = "label"
ROWS = 64
"""Classes of one batch that parity is measured on."""
MOST_PROVEN = 4096
"""Classes that are all tried; of more, as many that are spread over them."""


def export_label_encoder(job: ExportJob) -> ExportedComponent[LabelEncoderSpec]:
    """Export and prove the job's label encoder.

    Raises:
        UnsupportedModel: the network is too large, or no label encoder is described.
        ParityError: the graph is not the network.
    """
    encoder = job.encoder
    if not isinstance(encoder, LabelEncoderDescription):
        raise UnsupportedModel("label_encoder: none is described", field="label_encoder")
    proven = prove_network(job, label_source(encoder))
    spec = LabelEncoderSpec(
        name=NAME,
        family="label",
        graphs={NET: proven.spec},
        starts_from=(Label(classes=encoder.classes),),
        makes=Context(width=encoder.context_width),
        tokens=encoder.tokens,
        class_names=encoder.class_names,
        provenance={"made_of": encoder.provenance, **proven.provenance},
    )
    exported = LabelEncoderStage(spec, proven.exported)
    return ExportedComponent(
        spec=spec,
        files=proven.files,
        original=LabelEncoderStage(spec, proven.original),
        exported=exported,
        quantized=exported,
        weights=proven.weights,
    )


def label_source(encoder: LabelEncoderDescription) -> NetworkSource:
    """The encoder's network, its signature, and batches of classes that parity is measured on."""
    count = min(encoder.classes, MOST_PROVEN)
    labels = np.linspace(0, encoder.classes - 1, count).round().astype(np.int64)
    return NetworkSource(
        name=NAME,
        network=encoder.network,
        inputs=(TensorSpec(name="label", dtype="int64", shape=("batch",)),),
        outputs=(
            TensorSpec(
                name="context",
                dtype="float32",
                shape=("batch", encoder.tokens, encoder.context_width),
            ),
        ),
        cases=[{"label": labels[at : at + ROWS]} for at in range(0, count, ROWS)],
        optimized=False,
    )
