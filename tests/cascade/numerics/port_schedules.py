"""The port's numbers and schedules: noise, elementary functions, times and scales.

As `tests.cascade.numerics.port` it is written from docs/reference/numerics.md alone, numbers and
lists only, and imports nothing of ours. Knows formulas; not where answers lie.
"""

import math
import struct
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import Any

START, AUGMENTATION = 0xFFFFFFFF, 0xFFFFFFFE
MASK = 0xFFFFFFFF
Line = list[float]


def f32(value: float) -> float:
    """The nearest float32."""
    rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return rounded


# Noise ------------------------------------------------------------------------------------------


def philox(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """Philox 4x32-10."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK, (p0 >> 32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return [c0, c1, c2, c3]


def normal(u: int) -> float:
    """One entry of the table."""
    if u < 32768:
        return -normal(65535 - u)
    return f32(NormalDist().inv_cdf((u + 0.5) / 65536))


def normals(count: int, seed: int, image: int, stage: int, step: int) -> Line:
    """The first values at an address."""
    values: Line = []
    for block in range((count + 7) // 8):
        for word in philox((block, step, stage, image), (seed & MASK, seed >> 32)):
            values += [normal(word & 0xFFFF), normal(word >> 16)]
    return values[:count]


# Elementary functions ---------------------------------------------------------------------------

LN2 = (float.fromhex("0x1.62e42fee00000p-1"), float.fromhex("0x1.a39ef35793c76p-33"))
HALF_PI = (float.fromhex("0x1.921fb54442d18p+0"), float.fromhex("0x1.1a62633145c07p-54"))
SQRT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")


def horner(terms: Sequence[float], x: float) -> float:
    """A polynomial, from the highest power down."""
    total = terms[-1] * x
    for term in terms[-2:0:-1]:
        total = (total + term) * x
    return total + terms[0]


def reduced(x: float) -> tuple[float, int]:
    """The rest and the power of two."""
    x = min(max(x, -1100.0), 1100.0)
    twos = float(round(x / LN2[0]))
    return (x - twos * LN2[0]) - twos * LN2[1], int(twos)


EXP = [1 / math.factorial(n) for n in range(1, 15)]


def exp(x: float) -> float:
    """`e^x`."""
    rest, twos = reduced(x)
    return math.ldexp(1 + rest * horner(EXP, rest), twos)


def expm1(x: float) -> float:
    """`e^x - 1`."""
    rest, twos = reduced(x)
    power = math.ldexp(1.0, twos)
    return power * (rest * horner(EXP, rest)) + (power - 1)


def log_near_1(x: float) -> float:
    """`log(1 + x)` for small x."""
    part = x / (2 + x)
    return 2 * part * horner([1 / (2 * n + 1) for n in range(12)], part * part)


def log(x: float) -> float:
    """The natural logarithm."""
    if x == 0:
        return -math.inf
    mantissa, twos = math.frexp(x)
    if mantissa < SQRT_HALF:
        mantissa, twos = mantissa * 2, twos - 1
    return twos * LN2[0] + (log_near_1(mantissa - 1) + twos * LN2[1])


def log1p(x: float) -> float:
    """`log(1 + x)`."""
    return log_near_1(x) if SQRT_HALF - 1 < x < 1 / SQRT_HALF - 1 else log(1 + x)


SIN = [(-1) ** n / math.factorial(2 * n + 1) for n in range(9)]
COS = [(-1) ** n / math.factorial(2 * n) for n in range(10)]


def sin(x: float) -> float:
    """From 0 to half of pi."""
    other = (HALF_PI[0] - x) + HALF_PI[1]
    return x * horner(SIN, x * x) if x < other else horner(COS, other * other)


def cos(x: float) -> float:
    """From 0 to half of pi."""
    other = (HALF_PI[0] - x) + HALF_PI[1]
    return horner(COS, x * x) if x < other else other * horner(SIN, other * other)


# Schedules --------------------------------------------------------------------------------------


class Cosine:
    """The rule `cosine`."""

    train_steps: int | None = None

    def _angle(self, t: float) -> float:
        low, high = (
            float.fromhex("0x1.7cd79b51e3f99p-15"),
            float.fromhex("0x1.921cbb950c2dcp+0"),
        )
        return low + (high - low) * t

    def alpha(self, t: float) -> float:
        """Signal scale."""
        return cos(self._angle(t))

    def sigma(self, t: float) -> float:
        """Noise scale."""
        return sin(self._angle(t))

    def log_snr(self, t: float) -> float:
        """Log signal-to-noise ratio."""
        return -2.0 * log(self.sigma(t) / self.alpha(t))

    def times(self, steps: int) -> Line:
        """Evenly from 1 to 0."""
        return [*(1.0 + index * (-1.0 / steps) for index in range(steps)), 0.0]


class Linear:
    """The rule `linear`."""

    train_steps: int | None = 1000

    def __init__(self) -> None:
        step = (0.02 - 1e-4) / 999
        betas = [*(index * step + 1e-4 for index in range(999)), 0.02]
        self._logs = [0.0]
        for beta in betas:
            self._logs.append(self._logs[-1] + log1p(-beta))

    def _log_power(self, t: float) -> float:
        place = min(max(t, 0.0), 1.0) * 1000
        below = min(int(place), 999)
        return self._logs[below] + (place - below) * (self._logs[below + 1] - self._logs[below])

    def alpha(self, t: float) -> float:
        """Signal scale."""
        return exp(0.5 * self._log_power(t))

    def sigma(self, t: float) -> float:
        """Noise scale."""
        return math.sqrt(-expm1(self._log_power(t)))

    def log_snr(self, t: float) -> float:
        """Log signal-to-noise ratio."""
        power = self._log_power(t)
        return power - log(-expm1(power))

    def times(self, steps: int) -> Line:
        """Both ends kept; one step alone keeps the noisy end."""
        if steps == 1:
            return [1.0, 0.0]
        stride, offset, kept = 999 / (steps - 1), 0.0, [1]
        for _ in range(steps - 1):
            offset += stride
            kept.append(round(offset) + 1)
        return [*(step / 1000 for step in reversed(kept)), 0.0]


class Table:
    """A schedule written out."""

    def __init__(self, alpha_bar: Sequence[float], spacing: str, offset: int = 0) -> None:
        self.train_steps: int | None = len(alpha_bar)
        self._powers = [1.0, *alpha_bar]
        self._spacing, self._offset = spacing, offset

    def _power(self, t: float) -> float:
        last = len(self._powers) - 1
        return self._powers[min(max(round(t * last), 0), last)]

    def alpha(self, t: float) -> float:
        """Signal scale."""
        return math.sqrt(self._power(t))

    def sigma(self, t: float) -> float:
        """Noise scale."""
        return math.sqrt(1 - self._power(t))

    def log_snr(self, t: float) -> float:
        """Log signal-to-noise ratio."""
        return log(self._power(t)) - log1p(-self._power(t))

    def times(self, steps: int) -> Line:
        """By spacing."""
        total = len(self._powers) - 1
        more = steps + 1 if self._spacing.endswith("_inside") else steps
        if self._spacing.startswith("leading"):
            kept = [k * (total // more) + self._offset for k in reversed(range(more))][:steps]
        elif self._spacing.startswith("linspace"):
            stride = (total - 1) / max(more - 1, 1)
            kept = [round(k * stride) for k in range(more)]
            kept = ([*kept[:-1], total - 1][::-1] if more > 1 else [0])[:steps]
        else:
            stride = (total - total / steps) - total
            kept = [round(total + k * stride) - 1 for k in range(steps)]
        return [*((step + 1) / total for step in kept), 0.0]


def evenly(first: float, last: float, count: int) -> Line:
    """So many numbers from one to another."""
    stride = (last - first) / max(count - 1, 1)
    return [*(index * stride + first for index in range(count - 1)), last] if count > 1 else [first]


def beta_powers(entry: Any) -> Line:
    """Signal power after each training step of a schedule by betas."""
    rule, steps = entry["rule"], entry["train_steps"]
    if rule == "listed":
        betas = entry["betas"]
    elif rule == "squared_cosine":
        half = float.fromhex("0x1.921fb54442d18p+0")
        cosines = [cos((index / steps + 0.008) / 1.008 * half) for index in range(steps + 1)]
        squares = [value * value for value in cosines]
        betas = [min(1 - late / early, 0.999) for early, late in pairwise(squares)]
    elif rule == "scaled_linear":
        roots = evenly(math.sqrt(entry["first"]), math.sqrt(entry["last"]), steps)
        betas = [root * root for root in roots]
    elif rule == "sigmoid":
        shares = [1 / (1 + exp(-x)) for x in evenly(-6.0, 6.0, steps)]
        betas = [s * (entry["last"] - entry["first"]) + entry["first"] for s in shares]
    else:
        betas = evenly(entry["first"], entry["last"], steps)
    powers, total = [], 0.0
    for beta in betas:
        total += log1p(-beta)
        powers.append(exp(total))
    if not entry["zero_terminal_snr"]:
        return powers
    roots = [math.sqrt(power) for power in powers]
    share = roots[0] / (roots[0] - roots[-1])
    return [((root - roots[-1]) * share) ** 2 for root in roots]


def log_sigma(ramp: str, low: float, high: float, share: float, rho: float = 7.0) -> float:
    """The logarithm of sigma between two ends."""
    if ramp == "exponential":
        return low + share * (high - low)
    least, most = exp(low / rho), exp(high / rho)
    return rho * log(least + share * (most - least))


class Sigmas:
    """Continuous time, by the logarithm of `sigma / alpha` at each."""

    train_steps: int | None = None

    def __init__(self, entry: Any) -> None:
        self._entry = entry
        self._ends = log(entry["lowest"]), log(entry["highest"])

    def log_sigma(self, t: float) -> float:
        """By the rule; time 1/1000 is the lowest."""
        share = min(max((t - 1 / 1000) / (1 - 1 / 1000), 0.0), 1.0)
        return log_sigma(self._entry["rule"], *self._ends, share, self._entry["rho"])

    def alpha(self, t: float) -> float:
        """Signal scale."""
        ratio = exp(self.log_sigma(t))
        return 1 / math.sqrt(1 + ratio * ratio) if t > 0 else 1.0

    def sigma(self, t: float) -> float:
        """Noise scale."""
        return exp(self.log_sigma(t)) * self.alpha(t) if t > 0 else 0.0

    def log_snr(self, t: float) -> float:
        """Log signal-to-noise ratio."""
        return -2.0 * self.log_sigma(t) if t > 0 else math.inf

    def times(self, steps: int) -> Line:
        """Evenly to the lowest sigma, then 0."""
        return [*evenly(1.0, 1 / 1000, steps), 0.0]


class Ramped(Sigmas):
    """Sigmas spaced between those of a table's ends; in between a line of their logarithms."""

    def __init__(self, powers: Line, ramp: str) -> None:
        self.train_steps = len(powers)
        self._logs = [0.5 * (log1p(-power) - log(power)) for power in powers]
        self._ramp = ramp

    def log_sigma(self, t: float) -> float:
        """Between the two training steps around a time."""
        last = len(self._logs) - 1
        place = min(max(t * (last + 1) - 1, 0.0), float(last))
        below = min(int(place), max(last - 1, 0))
        above = min(below + 1, last)
        return self._logs[below] + (place - below) * (self._logs[above] - self._logs[below])

    def times(self, steps: int) -> Line:
        """The places of the sigmas."""
        logs, last, found = self._logs, len(self._logs) - 1, []
        for share in evenly(1.0, 0.0, steps):
            wanted = log_sigma(self._ramp, logs[0], logs[-1], share)
            below = sum(value <= wanted for value in logs) - 1
            below = min(max(below, 0), max(last - 1, 0))
            above = min(below + 1, last)
            width = logs[above] - logs[below] if above > below else 1.0
            found.append(below + min(max((wanted - logs[below]) / width, 0.0), 1.0))
        return [*((place + 1) / (last + 1) for place in found), 0.0]


class Flow:
    """Rectified flow."""

    train_steps: int | None = None

    def __init__(self, shift: float) -> None:
        self._shift = shift

    def alpha(self, t: float) -> float:
        """Signal scale."""
        return 1 - t

    def sigma(self, t: float) -> float:
        """Noise scale."""
        return t

    def log_snr(self, t: float) -> float:
        """Log signal-to-noise ratio."""
        return 2.0 * (log(self.alpha(t)) - log(self.sigma(t)))

    def times(self, steps: int) -> Line:
        """Evenly, and shifted."""
        return [self._shift * t / (1 + (self._shift - 1) * t) for t in evenly(1.0, 0.0, steps + 1)]


def schedule_of(entry: Any) -> Any:
    """The schedule of a vector."""
    spec = entry["schedule"]
    if isinstance(spec, str):
        return Cosine() if spec == "cosine" else Linear()
    if spec["kind"] == "sigmas":
        return Sigmas(spec)
    if spec["kind"] == "flow":
        return Flow(spec["shift"])
    powers = spec["alpha_bar"] if spec["kind"] == "table" else beta_powers(spec)
    if spec.get("ramp", "steps") != "steps":
        return Ramped(powers, spec["ramp"])
    return Table(powers, spec["spacing"], spec["offset"])
