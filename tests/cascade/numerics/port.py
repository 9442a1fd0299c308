"""A port of the numerics, written from docs/reference/numerics.md alone: numbers and lists only.

It imports nothing of ours, so that a reader in another language can follow it line by line. Every
float32 operation is done in double precision and rounded once, which is the same number for one
addition, subtraction, multiplication, division or root. Knows formulas; not where answers lie.
"""

import hashlib
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist
from typing import Any

START, AUGMENTATION = 0xFFFFFFFF, 0xFFFFFFFE
MASK = 0xFFFFFFFF
LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
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
        if self._spacing == "leading":
            kept = [k * (total // steps) + self._offset for k in reversed(range(steps))]
        elif self._spacing == "linspace":
            stride = (total - 1) / max(steps - 1, 1)
            kept = [round(k * stride) for k in range(steps)]
            kept = [*kept[:-1], total - 1][::-1] if steps > 1 else [0]
        else:
            stride = (total - total / steps) - total
            kept = [round(total + k * stride) - 1 for k in range(steps)]
        return [*((step + 1) / total for step in kept), 0.0]


def schedule_of(entry: Any) -> Any:
    """The schedule of a vector."""
    if entry["schedule"] == "table":
        return Table(entry["alpha_bar"], entry["spacing"])
    return Cosine() if entry["schedule"] == "cosine" else Linear()


# Estimates --------------------------------------------------------------------------------------


def weighted(*terms: tuple[float, Sequence[float]]) -> Line:
    """Weights rounded to float32, then every product and sum, from left to right."""
    weights = [f32(weight) for weight, _ in terms]
    out = []
    for values in zip(*(line for _, line in terms), strict=True):
        total = f32(weights[0] * values[0])
        for weight, value in zip(weights[1:], values[1:], strict=True):
            total = f32(total + f32(weight * value))
        out.append(total)
    return out


def estimate(kind: str, prediction: Line, x_t: Line, schedule: Any, t: float) -> Line:
    """The clean picture that a prediction stands for; its time is a float32."""
    alpha, sigma = schedule.alpha(f32(t)), schedule.sigma(f32(t))
    if kind == "x0":
        return prediction
    if kind == "v":
        return weighted((alpha, x_t), (-sigma, prediction))
    return weighted((1 / alpha, x_t), (-sigma / alpha, prediction))


def guided(conditional: Line, unconditional: Line, weight: float) -> Line:
    """Classifier-free guidance."""
    w = f32(weight)
    pairs = zip(conditional, unconditional, strict=True)
    return [f32(none + f32(w * f32(text - none))) for text, none in pairs]


def oscillating(step: int, high: float, low: float, first_steps: int) -> float:
    """The weight of a step."""
    return high if step < first_steps or (step - first_steps) % 2 else low


def threshold(x0: Line, spec: Any) -> Line:
    """Static or dynamic thresholding."""
    if spec["kind"] == "none":
        return x0
    k = 1.0
    if spec["kind"] == "dynamic":
        ordered = sorted(abs(value) for value in x0)
        rank = spec["percentile"] * (len(x0) - 1)
        below = int(rank)
        low, high = ordered[below], ordered[min(below + 1, len(x0) - 1)]
        k = max(1.0, low + (rank - below) * (high - low))
        k = f32(k if spec["cap"] is None else min(k, spec["cap"]))
    clipped = [min(max(value, -k), k) for value in x0]
    return clipped if k == 1 else [f32(value / k) for value in clipped]


# Samplers ---------------------------------------------------------------------------------------


def ddim_step(schedule: Any, x_t: Line, x0: Line, t: float, s: float) -> Line:
    """Along the line through the estimate."""
    kept = schedule.sigma(s) / schedule.sigma(t)
    return weighted((kept, x_t), (schedule.alpha(s) - kept * schedule.alpha(t), x0))


def add_noise(schedule: Any, x_s: Line, s: float, t: float, noise: Line) -> Line:
    """Forward, from `s` to the later `t`."""
    added = -expm1(schedule.log_snr(t) - schedule.log_snr(s))
    ratio = schedule.alpha(t) / schedule.alpha(s)
    return weighted((ratio, x_s), (schedule.sigma(t) * math.sqrt(added), noise))


def ancestral(
    schedule: Any, x_t: Line, x0: Line, times: tuple[float, float], noise: Line, gamma: Any
) -> Line:
    """A step of `ddpm`; gamma is a number, or one for every value."""
    t, s = times
    added = -expm1(schedule.log_snr(t) - schedule.log_snr(s))
    upper, lower = log(schedule.sigma(t) ** 2 * added), log(schedule.sigma(s) ** 2 * added)
    from_x0 = f32(schedule.alpha(s) * added)
    from_x_t = f32((1 - added) / (schedule.alpha(t) / schedule.alpha(s)))
    shares = gamma if isinstance(gamma, list) else [gamma] * len(x_t)
    out = []
    for estimated, noisy, drawn, share in zip(x0, x_t, noise, shares, strict=True):
        # A learned share is a float32, and so is the rest to 1; then everything is double.
        rest = f32(1 - share) if isinstance(gamma, list) else 1 - share
        deviation = f32(exp(0.5 * (share * upper + rest * lower)))
        mean = f32(f32(estimated * from_x0) + f32(from_x_t * noisy))
        out.append(f32(mean + f32(deviation * drawn)))
    return out


def run(
    entry: Any, network: Callable[[Line], Line], noise: Callable[[int], Line]
) -> Iterator[tuple[Line, Line]]:
    """A run of any sampler: the estimate and the picture after each step."""
    schedule, sampler = schedule_of(entry), entry["sampler"]
    times = schedule.times(len(entry["steps"]))
    x = noise(START)
    for index in range(len(times) - 1):
        t, s = times[index], times[index + 1]
        x0 = threshold(
            estimate(entry["prediction"], network(x), x, schedule, t), entry["threshold"]
        )
        if s == 0:
            first = 1 / schedule.train_steps if schedule.train_steps else 0.0
            noisy = sampler == "ddpm_final_noise" and t > first
            x = weighted((1.0, x0), (schedule.sigma(t), noise(index))) if noisy else x0
        elif sampler == "ddim":
            x = ddim_step(schedule, x, x0, t, s)
        elif sampler == "stochastic":
            ahead = times[min(index + 2, len(times) - 1)]
            reached = ddim_step(schedule, x, x0, t, ahead) if ahead > 0 else x0
            x = add_noise(schedule, reached, ahead, s, noise(index))
        else:
            x = ancestral(schedule, x, x0, (t, s), noise(index), entry["gamma"])
        yield x0, x


# Pictures ---------------------------------------------------------------------------------------


def to_network(level: int) -> float:
    """A level as a value."""
    return f32(f32(level / 127.5) - 1)


def from_network(value: float) -> int:
    """A value as a level: half to even."""
    return int(min(max(round(f32(f32(value + 1) * 127.5)), 0), 255))


def cubic_weights(factor: int, phase: int) -> tuple[int, Line]:
    """The first of four taps, counted from the pixel, and their weights."""
    centre = (phase + 0.5) / factor - 0.5
    base = math.floor(centre)
    weights = []
    for tap in range(-1, 3):
        d = abs(centre - base - tap)
        near = (1.5 * d - 2.5) * d * d + 1
        far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
        weights.append(f32(near if d <= 1 else far if d < 2 else 0.0))
    return base - 1, weights


def enlarge_line(line: Line, factor: int, kind: str) -> Line:
    """One row or column."""
    last = len(line) - 1
    out = []
    for at in range(len(line) * factor):
        if kind == "cubic":
            first, weights = cubic_weights(factor, at % factor)
            places = [min(max(at // factor + first + tap, 0), last) for tap in range(4)]
        else:
            place = at * (last / max(len(line) * factor - 1, 1))
            above = min(max(math.floor(place), 0), max(last - 1, 0))
            places, share = [above, min(above + 1, last)], place - above
            weights = [f32(1 - share), f32(share)]
        total = f32(weights[0] * line[places[0]])
        for weight, source in zip(weights[1:], places[1:], strict=True):
            total = f32(total + f32(weight * line[source]))
        out.append(total)
    return out


def enlarge(plane: list[Line], factor: int, kind: str) -> list[Line]:
    """One channel: along the rows, then along the columns."""
    wide = [enlarge_line(row, factor, kind) for row in plane]
    columns = [enlarge_line([row[at] for row in wide], factor, kind) for at in range(len(wide[0]))]
    return [list(row) for row in zip(*columns, strict=True)]


# Text -------------------------------------------------------------------------------------------


def handle(rows: list[Line]) -> bytes:
    """The name of a context."""
    values = [value for row in rows for value in row]
    data = struct.pack(f"<{len(values)}e", *values)
    return hashlib.sha256(f"{len(rows)}x{len(rows[0])}:float16:".encode() + data).digest()


def length_of(tokens: int) -> int:
    """The length at which a context is shown to a network."""
    return next((length for length in LENGTHS if length >= tokens), tokens)
