"""Pictures walked through pass by pass, with networks whose answers follow from all they are asked.

What is proved with such a network holds with any other.
"""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.lib.range_coder import Decoding, encoded
from cascade.errors import ManifestError
from cascade.pixels import layout
from cascade.pixels.guess import cell_sums, guess_of
from cascade.pixels.logits import Logits
from cascade.pixels.mixture import Sharpness
from cascade.pixels.order import (
    OrderSpec,
    checkerboard,
    columns_rows,
    squares,
    subscale,
    subscale_raster,
)
from cascade.pixels.pictures import Drawn, Pictures, Recorded, Turn
from cascade.pixels.scheme import PassScheme
from cascade.pixels.weights import Weights
from cascade.pixels.words import words
from cascade.types import Array
from tests.support.hashed_heads import AROUND, PARENTS, walked

SIZE = 8
COPIES = {"parent_copies": PARENTS, "canvas_copies": AROUND}
QUARTERS = OrderSpec(period=4, groups=(-1, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 0))
SCHEMES = {
    "first stage": PassScheme(
        parent="none", order=checkerboard(4, 16), guess="zero", canvas_copies=AROUND
    ),
    "no copies": PassScheme(parent="none", order=subscale(2), guess="zero"),
    "raster": PassScheme(parent="none", order=subscale_raster(SIZE, 4), guess="zero"),
    "columns, rows": PassScheme(
        parent="subsample", order=columns_rows("subsample"), guess="parent", **COPIES
    ),
    "2x2 of corners": PassScheme(
        parent="subsample", order=squares("subsample"), guess="parent", **COPIES
    ),
    "factor 4 of corners": PassScheme(parent="subsample", order=QUARTERS, guess="parent", **COPIES),
    "box": PassScheme(parent="box", order=squares("box"), guess="cell", **COPIES),
    "mean": PassScheme(parent="box", order=squares("box"), guess="cell", keep_mean=True, **COPIES),
    "mean, two of a cell at once": PassScheme(
        parent="box", order=columns_rows("box"), guess="cell", keep_mean=True, **COPIES
    ),
    "mean, factor 4, 8 passes": PassScheme(
        parent="box", order=checkerboard(4, 8), guess="cell", keep_mean=True, **COPIES
    ),
    "channels by passes": PassScheme(
        parent="box",
        order=squares("box"),
        guess="cell",
        channel_passes="passes",
        keep_mean=True,
        **COPIES,
    ),
    "depth": PassScheme(
        parent="box", order=squares("box"), guess="cell", planes=(3, 5), keep_mean=True, **COPIES
    ),
    "depth of corners": PassScheme(
        parent="subsample", order=squares("subsample"), guess="parent", planes=(4, 4), **COPIES
    ),
}


def factor_of(scheme: PassScheme) -> int:
    """Of the picture to its parent."""
    return 4 if scheme.order.period == 4 and scheme.parent != "none" else 2


def truth_of(scheme: PassScheme, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray | None]:
    """Pictures of few colours and much noise, and their parents."""
    rng = np.random.default_rng(seed)
    palette = rng.integers(0, 256, (4, 3))
    palette[0] = 255
    truth = palette[rng.integers(0, 4, (rows, SIZE, SIZE))]
    noisy = rng.random((rows, SIZE, SIZE, 1)) < 0.3
    truth = np.where(noisy, rng.integers(0, 256, truth.shape), truth).astype(np.uint8)
    factor = factor_of(scheme)
    if scheme.parent == "none":
        return truth, None
    if scheme.parent == "subsample":
        return truth, np.ascontiguousarray(truth[:, ::factor, ::factor])
    area = factor * factor
    return truth, ((cell_sums(truth, factor) + area // 2) // area).astype(np.uint8)


def drawn(scheme: PassScheme, parent: np.ndarray | None, rows: int, **choices: int) -> np.ndarray:
    """Pictures drawn by the words of one address."""
    address = {"seed": 7, "image": 0, "stage": 1, **choices}
    decider = Drawn(tuple(words(SIZE * SIZE * 3, **address, digit=d) for d in range(2)))
    return walked(Pictures(scheme, (SIZE, SIZE), parent, rows=rows), decider)


@pytest.mark.parametrize("name", SCHEMES)
def test_any_picture_comes_back_from_its_code(name: str) -> None:
    """Decoded by networks that are asked again; the bytes are as many as the bits said."""
    scheme = SCHEMES[name]
    scheme.check("scheme")
    truth, parent = truth_of(scheme, rows=2)
    recorded = Recorded(truth)
    size = (SIZE, SIZE)
    assert (walked(Pictures(scheme, size, parent, rows=2), recorded) == truth).all()
    data = encoded(recorded.intervals)
    back = walked(Pictures(scheme, size, parent, rows=2), Decoding(data))
    assert (back == truth).all()
    assert abs(8 * len(data) - recorded.bits.sum()) < 17


@pytest.mark.parametrize("name", [n for n, s in SCHEMES.items() if s.keep_mean])
@pytest.mark.parametrize(
    "sharpness", [Sharpness(), Sharpness(temperature_16=6, floor_16=2)], ids=str
)
def test_a_kept_mean_is_the_parent_always(name: str, sharpness: Sharpness) -> None:
    """Of parents that are noise: black, white and all between, whatever the network says."""
    scheme, factor = SCHEMES[name], factor_of(SCHEMES[name])
    rng = np.random.default_rng(11)
    side = SIZE // factor
    parent = rng.choice([0, 1, 2, 127, 128, 253, 254, 255], (4, side, side, 3)).astype(np.uint8)
    wanted = tuple(rng.integers(0, 2**32, (4, SIZE * SIZE * 3)).astype(np.uint32) for _ in range(2))
    pictures = Pictures(scheme, (SIZE, SIZE), parent, rows=4)
    made = walked(pictures, Drawn(wanted), sharpness=sharpness)
    area = factor * factor
    assert ((cell_sums(made, factor) + area // 2) // area == parent).all()


@pytest.mark.parametrize("name", SCHEMES)
def test_a_row_does_not_depend_on_the_others(name: str) -> None:
    """Three pictures at once are the three alone; a subsampled parent is in every picture."""
    scheme = SCHEMES[name]
    _, parent = truth_of(scheme, rows=3)
    together = drawn(scheme, parent, 3)
    for row in range(3):
        own = None if parent is None else parent[row : row + 1]
        assert (drawn(scheme, own, 1) == together[row]).all()
    if scheme.parent == "subsample":
        factor = factor_of(scheme)
        assert (together[:, ::factor, ::factor] == parent).all()
    assert (drawn(scheme, parent, 3, seed=8) != together).any()


@pytest.mark.parametrize("name", ["first stage", "mean, two of a cell at once", "depth"])
def test_blocks_change_no_pixel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five values at a time, across the pictures of a batch, or all at once."""
    _, parent = truth_of(SCHEMES[name], rows=3)
    at_once = drawn(SCHEMES[name], parent, 3)
    layout.layouts_of.cache_clear()
    monkeypatch.setattr(layout, "BLOCK", 5)
    in_blocks = drawn(SCHEMES[name], parent, 3)
    layout.layouts_of.cache_clear()
    assert (in_blocks == at_once).all()


def test_words_do_not_depend_on_the_order() -> None:
    """With a network that answers the same always, every order draws the same picture."""

    class Fixed(Pictures):
        def begin(self, index: int) -> dict[str, np.ndarray]:
            found = super().begin(index)
            return {name: np.zeros_like(array) for name, array in found.items()}

        def heads_inputs(self, channel: int) -> dict[str, np.ndarray]:
            return {"earlier": np.zeros((1, 1), np.int64)}

    found = set()
    decider = Drawn(tuple(words(192, seed=1, image=2, stage=3, digit=d) for d in range(2)))
    for order in (checkerboard(4, 1), checkerboard(4, 1), columns_rows("box"), subscale(4)):
        scheme = PassScheme(parent="none", order=order, guess="zero")
        pictures = Fixed(scheme, (SIZE, SIZE), None)
        for step in pictures.passes:
            body = pictures.begin(step.index)
            for channel in step.channels:
                answer = constant_answer(body["targets"].shape[1])
                pictures.decide(channel, answer, decider)
        found.add(pictures.canvas.values().tobytes())
    assert len(found) == 1


def constant_answer(count: int) -> Logits:
    """The same logits for each of so many values."""
    rng = np.random.default_rng(5)
    high, low = (rng.integers(-99, 99, (1, width)) for width in (16, 256))
    return Logits(*(np.repeat(a, count, 0).astype(np.float32) for a in (high, low)), None)


def test_the_guess_of_a_cell_is_what_its_unknown_pixels_must_be() -> None:
    """By hand: `(2 (4 m - s) + left) // (2 left)`, clipped."""
    parent = np.full((1, 1, 1, 3), 100, np.uint8)
    canvas = np.zeros((1, 2, 2, 3), np.uint8)
    known = np.zeros((1, 2, 2, 3), bool)
    every = np.arange(4)[None]
    assert (guess_of("cell", every, canvas, known, parent) == 100).all()
    canvas[0, 0, 0], known[0, 0, 0] = 30, True
    assert guess_of("cell", every, canvas, known, parent)[0, 3].tolist() == [123] * 3
    canvas[0, 0], known[0, 0] = 10, True
    canvas[0, 1, 0], known[0, 1, 0] = 60, True
    assert guess_of("cell", every, canvas, known, parent)[0, 3].tolist() == [255] * 3
    canvas[0, 0] = 200
    assert guess_of("cell", every, canvas, known, parent)[0, 3].tolist() == [0] * 3
    assert (guess_of("parent", every, canvas, known, parent) == 100).all()
    assert (guess_of("zero", every, canvas, known, parent) == 0).all()


def test_a_preview_shows_what_is_known_and_a_guess_elsewhere() -> None:
    """A whole picture from the first pass on; at the end it is the picture."""
    scheme = SCHEMES["mean"]
    _, parent = truth_of(scheme, rows=1)
    pictures = Pictures(scheme, (SIZE, SIZE), parent)
    assert (pictures.preview() == parent.repeat(2, 1).repeat(2, 2)).all()
    made = walked(pictures, Drawn((words(192, seed=1, image=0, stage=0, digit=0),) * 2))
    assert (pictures.preview() == made).all()
    first = Pictures(SCHEMES["first stage"], (SIZE, SIZE), None)
    assert (first.preview() == 0).all()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"parent": "none"}, "parent"),
        ({"parent": "subsample"}, "order.groups"),
        ({"order": squares("subsample")}, "order.groups"),
        ({"planes": (2, 6)}, "planes"),
        ({"planes": (4,)}, "planes"),
        ({"canvas_copies": ((0, 0),)}, "canvas_copies"),
        ({"canvas_copies": ((0, 9),)}, "canvas_copies"),
        ({"parent_copies": ((0, 1),) * 129}, "canvas_copies"),
        ({"parent_copies": ((1,),)}, "canvas_copies"),
    ],
)
def test_choices_that_contradict_each_other_are_refused(
    change: dict[str, object], field: str
) -> None:
    """Naming the field."""
    with pytest.raises(ManifestError, match=f"scheme.{field}"):
        replace(SCHEMES["mean"], **change).check("scheme")


@pytest.mark.parametrize(
    ("name", "size", "small", "field"),
    [
        ("mean", (8, 8), None, "parent"),
        ("first stage", (8, 8), (4, 4), "parent"),
        ("first stage", (6, 8), None, "makes"),
        ("mean", (8, 8), (3, 4), "makes"),
        ("2x2 of corners", (8, 8), (2, 2), "order.groups"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(
    name: str, size: tuple[int, int], small: tuple[int, int] | None, field: str
) -> None:
    """Of picture, parent and order."""
    with pytest.raises(ManifestError, match=field):
        SCHEMES[name].check_sizes(size, small, "stage")


class WatchedChoices:
    """Draws, and keeps what it was asked by each call, and the kinds of numbers."""

    def __init__(self) -> None:
        address = {"seed": 1, "image": 0, "stage": 1}
        self._drawn = Drawn(tuple(words(SIZE * SIZE * 3, digit=d, **address) for d in range(2)))
        self.calls: list[tuple[int, tuple[int, ...]]] = []
        self.kinds: set[np.dtype] = set()

    def choose(self, turn: Turn, digit: int, weights: Weights) -> Array:
        """See `Decider`."""
        found = self._drawn.choose(turn, digit, weights)
        self.calls.append((len(np.unique(turn.rows)), weights.shape))
        self.kinds |= {turn.guess.dtype, found.dtype}
        return found


@pytest.mark.parametrize("rows", [1, 5])
def test_one_call_a_digit_decides_all_values_of_all_pictures(rows: int) -> None:
    """Two of sixteen choices for each question to the heads, however many pictures there are."""
    scheme = SCHEMES["2x2 of corners"]
    _, parent = truth_of(scheme, rows=rows)
    decider = WatchedChoices()
    walked(Pictures(scheme, (SIZE, SIZE), parent, rows=rows), decider)
    values = rows * SIZE * SIZE // 4
    assert decider.calls == [(rows, (16, values))] * (2 * scheme.head_runs)


def test_symbols_guesses_and_values_are_bytes() -> None:
    """One byte a value wherever they are kept, and two digits of sixteen instead of 256."""
    scheme = SCHEMES["mean"]
    _, parent = truth_of(scheme, rows=2)
    pictures, decider = Pictures(scheme, (SIZE, SIZE), parent, rows=2), WatchedChoices()
    walked(pictures, decider)
    assert decider.kinds == {np.dtype(np.uint8)}
    assert pictures.canvas.planar.dtype == pictures.canvas.planar_decided.dtype == np.uint8
    assert {shape[0] for _, shape in decider.calls} == {16}
