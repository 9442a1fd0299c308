"""A port of the numerics, written from docs/reference/numerics.md alone: numbers and lists only.

It imports nothing of ours, so that a reader in another language can follow it line by line. Every
float32 operation is done in double precision and rounded once, which is the same number for one
addition, subtraction, multiplication, division or root. Knows formulas; not where answers lie.
"""

import hashlib
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.cascade.numerics.port_schedules import START, Line, exp, expm1, f32, log, schedule_of

LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)

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
    if kind == "flow":
        return weighted((1 / (alpha + sigma), x_t), (-sigma / (alpha + sigma), prediction))
    return weighted((1 / alpha, x_t), (-sigma / alpha, prediction))


def guided(conditional: Line, unconditional: Line, weight: float) -> Line:
    """Classifier-free guidance."""
    w = f32(weight)
    pairs = zip(conditional, unconditional, strict=True)
    return [f32(none + f32(w * f32(text - none))) for text, none in pairs]


def dot(one: Line, other: Line) -> float:
    """From left to right, in float64."""
    total = 0.0
    for a, b in zip(one, other, strict=True):
        total += a * b
    return total


def projected(conditional: Line, unconditional: Line, weight: float, along: Line) -> Line:
    """Guidance without what is parallel to `along`."""
    pairs = zip(conditional, unconditional, strict=True)
    difference = [f32(text - none) for text, none in pairs]
    length = dot(along, along)
    share = dot(difference, along) / length if length > 0 else 0.0
    w = f32(weight) - 1
    return weighted((1.0, conditional), (w, difference), (-w * share, along))


def direction(kind: str, conditional: Line, x_t: Line, scales: tuple[float, float]) -> Line:
    """A multiple of the prediction that a conditional estimate stands for."""
    alpha, sigma = scales
    weights = {"epsilon": (1.0, -alpha), "v": (alpha, -1.0), "flow": (1.0, -(alpha + sigma))}
    if kind not in weights:
        return conditional
    from_x_t, from_x0 = weights[kind]
    return weighted((from_x_t, x_t), (from_x0, conditional))


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
    ratio = schedule.alpha(t) / schedule.alpha(s)
    from_x_t = f32((1 - added) / ratio if ratio > 0 else 0.0)
    shares = gamma if isinstance(gamma, list) else [gamma] * len(x_t)
    out = []
    for estimated, noisy, drawn, share in zip(x0, x_t, noise, shares, strict=True):
        # A learned share is a float32, and so is the rest to 1; then everything is double.
        rest = f32(1 - share) if isinstance(gamma, list) else 1 - share
        deviation = f32(exp(0.5 * (share * upper + rest * lower)))
        mean = f32(f32(estimated * from_x0) + f32(from_x_t * noisy))
        out.append(f32(mean + f32(deviation * drawn)))
    return out


def carried_on(schedule: Any, x: Line, estimates: tuple[Line, Line], times: Line) -> Line:
    """A step of `dpmpp_2m` with an estimate before it."""
    (before, x0), (first, t, s) = estimates, times
    ahead = 0.5 * (schedule.log_snr(s) - schedule.log_snr(t))
    ahead /= schedule.log_snr(t) - schedule.log_snr(first)
    kept = schedule.sigma(s) / schedule.sigma(t)
    toward = schedule.alpha(s) - kept * schedule.alpha(t)
    return weighted((kept, x), (toward * (1 + ahead), x0), (-toward * ahead, before))


def heun_weight(schedule: Any, t: float, s: float) -> float:
    """Of the later estimate less the earlier one."""
    if schedule.alpha(t) == 0:
        return 0.0
    ratio = (schedule.sigma(t) * schedule.alpha(s)) / (schedule.alpha(t) * schedule.sigma(s))
    return 0.5 * schedule.alpha(s) * (ratio - 1)


def last_step(entry: Any, schedule: Any, x0: Line, t: float, noise: Callable[[], Line]) -> Line:
    """To time 0."""
    first = 1 / schedule.train_steps if schedule.train_steps else 0.0
    if entry["sampler"] == "ddpm_final_noise" and t > first:
        return weighted((1.0, x0), (schedule.sigma(t), noise()))
    return x0


def run(
    entry: Any, network: Callable[[Line], Line], noise: Callable[[int], Line]
) -> Iterator[tuple[Line, Line]]:
    """A run of any sampler: the estimate and the picture after each evaluation."""
    schedule, sampler = schedule_of(entry), entry["sampler"]
    times = schedule.times(entry["run_steps"])

    def estimated(x: Line, t: float) -> Line:
        found = estimate(entry["prediction"], network(x), x, schedule, t)
        return threshold(found, entry["threshold"])

    x, before = noise(START), None
    for index in range(len(times) - 1):
        t, s = times[index], times[index + 1]
        x0 = estimated(x, t)
        if s == 0:
            x = last_step(entry, schedule, x0, t, lambda index=index: noise(index))  # type: ignore[misc]
        elif sampler == "stochastic":
            ahead = times[min(index + 2, len(times) - 1)]
            reached = ddim_step(schedule, x, x0, t, ahead) if ahead > 0 else x0
            x = add_noise(schedule, reached, ahead, s, noise(index))
        elif sampler.startswith("ddpm"):
            x = ancestral(schedule, x, x0, (t, s), noise(index), entry["gamma"])
        elif sampler == "dpmpp_2m" and before is not None:
            x = carried_on(schedule, x, (before, x0), [times[index - 1], t, s])
        else:
            x = ddim_step(schedule, x, x0, t, s)
        yield x0, x
        if sampler == "heun" and s > 0:
            later, weight = estimated(x, s), heun_weight(schedule, t, s)
            x = weighted((1.0, x), (weight, later), (-weight, x0))
            yield later, x
        before = x0


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
        elif kind == "nearest":
            places, weights = [at // factor], [1.0]
        elif kind == "bilinear":
            centre = (at + 0.5) * (len(line) / (len(line) * factor)) - 0.5
            place = min(max(centre, 0.0), float(last))
            above = min(max(math.floor(place), 0), max(last - 1, 0))
            places, share = [above, min(above + 1, last)], place - above
            weights = [f32(1 - share), f32(share)]
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


def pil_line(line: Line, factor: int) -> Line:
    """One row or column of Pillow's bicubic, levels to levels."""
    scale, out = len(line) / (len(line) * factor), []
    for at in range(len(line) * factor):
        centre = (at + 0.5) * scale
        taps = range(max(int(centre - 1.5), 0), min(int(centre + 2.5), len(line)))
        found, whole = [], 0.0
        for tap in taps:
            d = abs(tap - centre + 0.5)
            near = (1.5 * d - 2.5) * d * d + 1
            far = ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
            found.append(near if d <= 1 else far if d < 2 else 0.0)
            whole += found[-1]
        total = 1 << 21
        for tap, value in zip(taps, found, strict=True):
            scaled = value / whole * (1 << 22)
            total += int(scaled + math.copysign(0.5, scaled)) * int(line[tap])
        out.append(float(min(max(total >> 22, 0), 255)))
    return out


def enlarge(plane: list[Line], factor: int, kind: str) -> list[Line]:
    """One channel: along the rows, then along the columns."""
    if kind == "bicubic_pil":
        levels = [[float(from_network(value)) for value in row] for row in plane]
        wide = [pil_line(row, factor) for row in levels]
        turned = [pil_line([row[at] for row in wide], factor) for at in range(len(wide[0]))]
        return [[to_network(int(v)) for v in row] for row in zip(*turned, strict=True)]
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
