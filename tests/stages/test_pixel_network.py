"""Networks of pixels by groups: integers throughout, rows apart, only what is known is seen."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from cascade.types import Array
from stages.evaluation.torch_engine import TorchEngine
from stages.networks.exact import check_bound
from stages.networks.pixel_network import LOGIT_LARGEST, UNDECIDED
from stages.pixel_presets import PIXEL_PRESETS, PixelPreset
from tests.support.tiny_pixels import (
    TINY_FIRST,
    TINY_SECOND,
    body_case,
    head_case,
    stirred_pixels,
)

BOTH = pytest.mark.parametrize("preset", [TINY_FIRST, TINY_SECOND], ids=["first", "second"])


@pytest.fixture
def three_threads() -> Iterator[None]:
    """Torch with three threads, afterwards with one again."""
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(1)


def answers(preset: PixelPreset, case: dict[str, Array]) -> dict[str, Array]:
    """Features, and the logits of one question about them."""
    network = stirred_pixels(preset)
    features = TorchEngine(network.body, "features").run(case)
    question = head_case(preset, features["features"])
    return features | TorchEngine(network.heads, "high", "low", "copy").run(question)


@BOTH
def test_every_answer_is_an_integer_in_its_range(preset: PixelPreset) -> None:
    """Features up to 255 either way, logits up to 1023; and they are not all the same."""
    found = answers(preset, body_case(preset))
    for name, largest in (
        ("features", 255),
        *((logits, LOGIT_LARGEST) for logits in ("high", "low", "copy")),
    ):
        value = found[name]
        assert np.array_equal(value, value.round())
        assert np.abs(value).max() <= largest
        assert len(np.unique(value)) > 20
    assert 0 < check_bound(stirred_pixels(preset)) < 1


@BOTH
def test_rows_alone_are_rows_together(preset: PixelPreset) -> None:
    """Three rows at three passes give each the bits that it has alone."""
    case = body_case(preset)
    together = answers(preset, case)["features"]
    for row in range(3):
        alone = answers(preset, {name: v[row : row + 1] for name, v in case.items()})["features"]
        assert np.array_equal(alone[0], together[row])


@BOTH
@pytest.mark.usefixtures("three_threads")
def test_threads_change_no_bit(preset: PixelPreset) -> None:
    """Three threads sum in another order; the answers stay."""
    case = body_case(preset)
    many = answers(preset, case)
    torch.set_num_threads(1)
    for name, value in answers(preset, case).items():
        assert np.array_equal(value, many[name])


@BOTH
def test_unknown_pixels_are_not_seen(preset: PixelPreset) -> None:
    """What stands on the canvas where nothing is known changes nothing."""
    case = body_case(preset)
    other = dict(case, canvas=np.where(case["known"] > 0, case["canvas"], np.float32(7)))
    assert not np.array_equal(case["canvas"], other["canvas"])
    assert np.array_equal(answers(preset, case)["features"], answers(preset, other)["features"])


@pytest.mark.parametrize("name", ["canvas", "pass_index", "context", "aug_level", "low_res"])
def test_every_input_counts(name: str) -> None:
    """Another value of an input gives other features."""
    case = body_case(TINY_SECOND)
    changed = case[name][::-1].copy()
    if name == "context":
        changed = changed * 2
    before = answers(TINY_SECOND, case)["features"]
    assert not np.array_equal(
        before, answers(TINY_SECOND, dict(case, **{name: changed}))["features"]
    )


def test_masked_tokens_are_not_read() -> None:
    """A maximum over tokens leaves out those that the mask does; none at all is an answer too."""
    case = body_case(TINY_FIRST)
    wild = np.where(case["context_mask"][:, :, None] > 0, case["context"], np.float32(100))
    assert np.array_equal(
        answers(TINY_FIRST, case)["features"],
        answers(TINY_FIRST, dict(case, context=wild))["features"],
    )
    silent = dict(case, context_mask=np.zeros_like(case["context_mask"]))
    assert np.isfinite(answers(TINY_FIRST, silent)["features"]).all()


def test_a_symbol_to_come_is_none_of_the_256() -> None:
    """The head's tables have a row for `UNDECIDED`: by it, it knows which channel is asked."""
    network = stirred_pixels(TINY_SECOND)
    features = torch.zeros(1, 1, TINY_SECOND.features)
    match = torch.zeros(1, 1, TINY_SECOND.config.candidates)
    found = [
        network.heads(features, torch.tensor([[pair]]), match)[0]
        for pair in ((UNDECIDED, UNDECIDED), (0, UNDECIDED), (0, 0))
    ]
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])


def test_the_float_variant_has_the_same_parameters() -> None:
    """The comparison is of arithmetic alone."""
    for preset in PIXEL_PRESETS.values():
        other = replace(preset, exact=False).network().state_dict()
        mine = preset.network().state_dict()
        assert {n: t.shape for n, t in mine.items()} == {n: t.shape for n, t in other.items()}
