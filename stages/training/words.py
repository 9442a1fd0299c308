"""The word table that text reaches pixels by, kept beside the checkpoints of the stages.

Knows checkpoints, tables and prepared data; not networks.
"""

from pathlib import Path

from torch import Tensor

from cascade.errors import InvalidRequest
from stages.data.dataset import Dataset, open_dataset
from stages.data.prompts import with_words
from stages.networks.word_table import WordTable
from stages.pixel_presets import WORDS, PixelPreset
from stages.training.checkpoint import has_checkpoint, load_part, save_checkpoint

TABLE = "words"
"""Folder among the checkpoints, its part, and the tensor's name in it."""


def save_table(checkpoints: Path, rows: Tensor) -> None:
    """Keep a table, `[V, width]` int8, beside the checkpoints of the stages that read it."""
    save_checkpoint(checkpoints / TABLE, {TABLE: {TABLE: rows}}, {"width": rows.shape[1]})


def load_table(checkpoints: Path) -> WordTable:
    """The table beside the checkpoints.

    Raises:
        InvalidRequest: there is none; the message says how to make it.
    """
    folder = checkpoints / TABLE
    if not has_checkpoint(folder):
        raise InvalidRequest(
            f"checkpoints: no word table in {folder}: make it with `cascade data words "
            f"--checkpoints {checkpoints}`",
            field="checkpoints",
        )
    return WordTable(load_part(folder, TABLE)[TABLE]).eval()


def open_captioned(preset: PixelPreset, data: Path, checkpoints: Path) -> Dataset:
    """The prepared data, its captions as the stage reads them.

    Args:
        preset: the stage.
        data: the prepared file, which holds the embeddings of the reference cascade's encoder.
        checkpoints: folder with the word table, where the stage reads that.

    Raises:
        InvalidRequest: there is no such file, or no table.
    """
    found = open_dataset(data)
    if preset.context_width != WORDS:
        return found
    return with_words(found, load_table(checkpoints))
