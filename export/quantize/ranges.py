"""From values seen to a scale and a zero point: how an activation is cut into 256 levels.

Knows samples of numbers; not which tensor they came from.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SAMPLES = 4096
"""Values kept of one tensor per evaluation; extremes are kept exactly."""

SHRINKS = np.linspace(0.3, 1.0, 36)
"""Fractions of the full range that the search by squared error tries."""

PERCENTILE = 99.99
Floats = NDArray[np.float32]
RangeMethod = Literal["min_max", "percentile", "squared_error"]
ActivationKind = Literal["uint8", "uint7", "int8"]
"""`uint8`: asymmetric, 0 to 255. `uint7`: the same type, 0 to 127 only: no pair of products with
any eight-bit weight overflows 16 bits. `int8`: symmetric, -127 to 127."""

LEVELS: dict[ActivationKind, tuple[int, int]] = {
    "uint8": (0, 255),
    "uint7": (0, 127),
    "int8": (-127, 127),
}


@dataclass(slots=True)
class Observed:
    """What was seen of one tensor."""

    low: float = np.inf
    high: float = -np.inf
    samples: list[Floats] = field(default_factory=list)
    outputs: int = 0
    """Values over all evaluations: what multiply-accumulates are counted with."""

    def add(self, values: Floats, rng: np.random.Generator) -> None:
        """Note one evaluation's values."""
        flat = values.reshape(-1)
        self.low = min(self.low, float(flat.min()))
        self.high = max(self.high, float(flat.max()))
        self.outputs += flat.size
        # With replacement: no permutation of a whole feature map for a few thousand numbers.
        picked = rng.integers(0, flat.size, SAMPLES) if flat.size > SAMPLES else slice(None)
        self.samples.append(flat[picked].astype(np.float32))

    @property
    def values(self) -> Floats:
        """All samples and both extremes."""
        return np.concatenate([*self.samples, np.array([self.low, self.high], np.float32)])


@dataclass(frozen=True, slots=True)
class Quantization:
    """`real = (level - zero_point) * scale`.

    Attributes:
        scale: positive, representable in float32.
        zero_point: the level that stands for 0 exactly.
        kind: type and levels in use.
    """

    scale: float
    zero_point: int
    kind: ActivationKind

    def round(self, values: Floats) -> Floats:
        """The values as the levels show them."""
        low, high = LEVELS[self.kind]
        step = np.float32(self.scale)
        # rint rounds halves to even, as QuantizeLinear does.
        levels = np.clip(np.rint(values / step) + self.zero_point, low, high)
        return np.asarray((levels - self.zero_point) * step, np.float32)


def quantization(low: float, high: float, kind: ActivationKind) -> Quantization:
    """The levels of one range; 0 is always inside and always exact."""
    # Padding is 0 and must be exact: an error there would be added along every border.
    low, high = min(low, 0.0), max(high, 0.0)
    least, most = LEVELS[kind]
    if kind == "int8":
        # -127 to 127, not -128: symmetric, so that the zero point is 0 and drops out of the
        # products.
        scale = max(-low, high) / most
        return Quantization(float(np.float32(scale or 1.0)), 0, kind)
    scale = float(np.float32((high - low) / (most - least) or 1.0))
    return Quantization(scale, int(np.clip(round(-low / scale), least, most)), kind)


def choose_range(seen: Observed, kind: ActivationKind, method: RangeMethod) -> Quantization:
    """The levels of one tensor.

    Args:
        seen: its values over the calibration.
        kind: type and number of levels.
        method: `min_max` covers all that was seen; `percentile` all but the outermost
            1 - `PERCENTILE` %; `squared_error` the range with the least squared error of the
            samples among shrunk ones.
    """
    if method == "min_max":
        return quantization(seen.low, seen.high, kind)
    values = seen.values
    if method == "percentile":
        low, high = np.percentile(values, [100 - PERCENTILE, PERCENTILE])
        return quantization(float(low), float(high), kind)
    # Each end is searched with the other held: activations after swish are lopsided.
    low, high = seen.low, seen.high
    tried_high = [quantization(low, high * shrink, kind) for shrink in SHRINKS]
    best = min(tried_high, key=lambda q: squared_error(values, q))
    if low >= 0 or kind == "int8":
        return best
    high *= float(SHRINKS[tried_high.index(best)])
    tried_low = [quantization(low * shrink, high, kind) for shrink in SHRINKS]
    return min(tried_low, key=lambda q: squared_error(values, q))


def squared_error(values: Floats, chosen: Quantization) -> float:
    """Sum of squared differences that the levels make."""
    return float(np.square(chosen.round(values) - values, dtype=np.float64).sum())
