"""The word table: rows of small integers, exact in half precision, nothing for padding."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from cascade.commands.cli import main
from cascade.errors import InvalidRequest
from stages.data import prompts
from stages.networks.word_table import WordTable, packed
from stages.pixel_presets import WORDS
from stages.training.words import load_table, save_table

PIECES = 1200
"""Of the vocabulary: unused numbers, then signs and letters from 999 on."""
ROWS = torch.randint(-127, 128, (50, 8), generator=torch.Generator().manual_seed(0)).to(torch.int8)


def test_a_token_is_its_row_in_sixteenths_and_padding_is_nothing() -> None:
    """By hand; float16, which crosses the boundary, holds every value that there can be."""
    ids, mask = torch.tensor([[3, 7, 7], [0, 1, 49]]), torch.tensor([[1.0, 1, 0], [1, 1, 1]])
    found = WordTable(ROWS)(ids, mask)
    assert torch.equal(found[0, 1] * 16, ROWS[7].float())
    assert torch.equal(found[1, 2] * 16, ROWS[49].float())
    assert not found[0, 2].any()
    every = torch.arange(-127, 128) / 16
    assert torch.equal(every.half().float(), every)


def test_packing_keeps_what_is_near() -> None:
    """Rows of one length; of 40 clouded directions the main ones keep every nearest neighbour."""
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(10, 40, generator=generator)
    pairs = torch.cat([centres + 0.05 * torch.randn(10, 40, generator=generator) for _ in "ab"])
    rows = packed(pairs, torch.ones(20, dtype=torch.bool), 9)
    assert rows.dtype == torch.int8
    lengths = rows.float().norm(dim=1)
    assert float(lengths.std() / lengths.mean()) < 0.05
    near = torch.cdist(rows.float(), rows.float()) + 1e6 * torch.eye(20)
    assert torch.equal(near.argmin(1), (torch.arange(20) + 10) % 20)


def test_a_table_is_kept_beside_the_checkpoints(tmp_path: Path) -> None:
    """It comes back to the bit; without one the message says how to make it."""
    with pytest.raises(InvalidRequest, match="cascade data words"):
        load_table(tmp_path)
    save_table(tmp_path, ROWS)
    table = load_table(tmp_path)
    assert torch.equal(table.rows, ROWS)
    assert table.width == 8


def test_the_command_makes_a_table_of_the_pre_trained_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`cascade data words`, of the first pieces of the vocabulary: letters of many scripts."""
    encoder = copy.deepcopy(prompts.text_encoder())
    encoder.words = nn.Embedding.from_pretrained(encoder.words.weight[:PIECES])
    monkeypatch.setattr(prompts, "text_encoder", lambda: encoder)
    assert main(["data", "words", "--checkpoints", str(tmp_path)]) == 0
    assert f"{PIECES} rows of {WORDS}" in capsys.readouterr().out
    rows = load_table(tmp_path).rows
    assert rows.dtype == torch.int8
    assert rows.shape == (PIECES, WORDS)
    assert len(rows[1000:].unique(dim=0)) == PIECES - 1000
