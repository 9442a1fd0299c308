"""The word table of a bundle's text encoder as a checkpoint again, beside those of its stages.

Knows the graph that `stages.networks.word_table` becomes; not stages.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
import torch

from cascade.boundary import Context, value_of
from cascade.bundle.bundle import Bundle
from cascade.engines.ort import OrtEngine
from cascade.errors import InvalidRequest, ParityError
from cascade.pixels.family import pixel_specs
from cascade.text.family import text_encoder_of
from cascade.types import Array
from export.weights.graph_constants import Constants
from stages.evaluation.torch_engine import TorchEngine
from stages.networks.word_table import WordTable
from stages.training.checkpoint import has_checkpoint
from stages.training.words import TABLE, save_table

DIMENSIONS = 2
"""Of a table."""


def reads_words(bundle: Bundle, stages: Collection[str]) -> bool:
    """Whether some of these stages of pixels by groups read their text by a word table."""
    reading = [
        spec.name
        for spec in pixel_specs(bundle.manifest.components)
        if value_of(Context, spec.starts_from) is not None
    ]
    return bool(set(reading) & set(stages)) and table_of(bundle) is not None


def table_of(bundle: Bundle) -> Array | None:
    """The rows `[vocabulary, width]` int8 of a text encoder that is a table; None of another."""
    encoder = text_encoder_of(bundle.manifest.components)
    constants = Constants(onnx.load_from_string(bundle.read(encoder.graph.file)))
    stored = [constants.value(name) for name in constants.names]
    tables = [rows for rows in stored if rows.dtype == np.int8 and rows.ndim == DIMENSIONS]
    return tables[0] if len(tables) == 1 and tables[0].shape[1] == encoder.makes.width else None


def write_word_table(bundle: Bundle, checkpoints: Path) -> int:
    """Write the table beside the checkpoints, proven to answer as the bundle's graph does.

    Args:
        bundle: whose text encoder is a table.
        checkpoints: folder to write `words` into.

    Returns:
        The number of rows.

    Raises:
        InvalidRequest: there is a table in the folder, or the encoder is none.
        ParityError: a row is not the graph's answer.
    """
    if has_checkpoint(checkpoints / TABLE):
        raise InvalidRequest(
            f"{checkpoints / TABLE} exists: name another --checkpoints", field="checkpoints"
        )
    rows = table_of(bundle)
    if rows is None:
        raise InvalidRequest("stages: this bundle's text encoder is no word table", field="stages")
    table = WordTable(torch.tensor(rows))
    prove_rows(table, bundle)
    save_table(checkpoints, table.rows)
    return len(rows)


def prove_rows(table: WordTable, bundle: Bundle) -> None:
    """Compare every row with the answer of the bundle's graph, bit for bit.

    Raises:
        ParityError: one differs.
    """
    encoder = text_encoder_of(bundle.manifest.components)
    (answer,) = (output.name for output in encoder.graph.outputs)
    ids = np.arange(len(table.rows), dtype=np.int64)[None]
    asked: dict[str, Array] = {"token_ids": ids, "token_mask": np.ones(ids.shape, np.float32)}
    engine = OrtEngine(bundle.read(encoder.graph.file))
    found = engine.run(asked)[answer]
    engine.close()
    wanted = TorchEngine(table.eval(), answer).run(asked)[answer]
    if found.tobytes() != wanted.tobytes():
        raise ParityError("text_encoder: the rows read are not those of the graph")
