"""Write docs/reference/vectors/numerics.json: answers that a port of any cut has to give.

`python -m tests.numeric_vectors` after a change that the manifest's version or a sampler's name
announces; with `--check` it only compares. Numbers are the big-endian hex of their IEEE 754 bits,
so that no reader rounds them. Knows which functions have vectors; the page explains them.
"""

import hashlib
import json
import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from cascade.codecs.image import from_network, to_network
from cascade.diffusion.betas import BetaSpec
from cascade.diffusion.conditioning import augment
from cascade.diffusion.continuous import FlowSpec, SigmaSpec
from cascade.diffusion.denoiser import EngineDenoiser
from cascade.diffusion.enlarging import enlarge
from cascade.diffusion.guidance import Halves, OscillatingGuidance, Projected
from cascade.diffusion.samplers.choice import SamplerInputs, sample
from cascade.diffusion.samplers.ddpm import ancestral_step, posterior
from cascade.diffusion.schedule import ScheduleSpec, TableSpec, make_schedule, training_steps
from cascade.diffusion.spec import ThresholdSpec
from cascade.diffusion.thresholding import thresholded
from cascade.engine import Engine
from cascade.numerics.elementary import (
    cosine,
    exponential,
    exponential_minus_1,
    logarithm,
    logarithm_of_1_plus,
    sine,
)
from cascade.numerics.length_buckets import bucket_length
from cascade.numerics.noise import AUGMENTATION, START, normal_table, normals, philox
from wire.contexts import context_handle

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "reference" / "vectors" / "numerics.json"
ADDRESS = {"seed": 7, "image": 0, "stage": 1}
SHAPE = (1, 3, 2, 2)
TABLE = TableSpec(alpha_bar=(0.99, 0.9, 0.75, 0.5, 0.3, 0.15, 0.05, 0.01))


BETAS = BetaSpec(kind="betas", rule="linear", train_steps=20, last=0.3)
EDM = SigmaSpec(kind="sigmas", rule="karras", lowest=0.002, highest=80.0)
FLOW = FlowSpec(kind="flow", shift=3.0)
ZERO = replace(BETAS, rule="scaled_linear", zero_terminal_snr=True, spacing="trailing")
FORMULAS: tuple[ScheduleSpec, ...] = (
    replace(BETAS, spacing="linspace_inside"),
    replace(BETAS, rule="squared_cosine", spacing="leading_inside", offset=1),
    replace(BETAS, rule="sigmoid", spacing="trailing"),
    replace(BETAS, rule="listed", train_steps=4, betas=(0.1, 0.2, 0.4, 0.8)),
    ZERO,
    replace(BETAS, ramp="karras"),
    replace(BETAS, ramp="exponential"),
    EDM,
    replace(EDM, rule="exponential"),
    FLOW,
)
"""Schedules by formula."""


class HalfEngine(Engine):
    """A network that predicts half of the noisy image: exact in float32."""

    def run(self, inputs: Any) -> Any:
        """Its one output."""
        return {"prediction": inputs["x_t"] * np.float32(0.5)}

    def terminate(self) -> None:
        """Nothing runs on."""

    def close(self) -> None:
        """Nothing to release."""


def float32s(values: Any) -> list[str]:
    """Bits of float32 numbers in C order."""
    return [struct.pack(">f", value).hex() for value in np.asarray(values, np.float32).reshape(-1)]


def float64s(values: Any) -> list[str]:
    """Bits of float64 numbers in C order."""
    return [struct.pack(">d", value).hex() for value in np.asarray(values, np.float64).reshape(-1)]


def noise_vectors() -> dict[str, Any]:
    """Words, table entries and arrays of normals."""
    words = philox((np.array([5], np.uint32), 1, 2, 3), (9 << 32) | 8)
    addresses = [
        (0, 0, 0, 0),
        (7, 0, 1, START),
        (7, 0, 2, AUGMENTATION),
        (2**64 - 1, 2**32 - 1, 2, 3),
    ]
    arrays = []
    for seed, image, stage, step in addresses:
        values = normals((1, 3, 8, 8), seed=seed, image=image, stage=stage, step=step)
        data = values.astype("<f4").tobytes()
        arrays.append({
            "seed": str(seed), "image": image, "stage": stage, "step": step, "shape": [1, 3, 8, 8],
            "first": float32s(values.reshape(-1)[:9]), "sha256": hashlib.sha256(data).hexdigest(),
        })  # fmt: skip
    picked = (0, 1, 32767, 32768, 32769, 40000, 49152, 60000, 65535)
    return {
        "philox": {
            "counter": [5, 1, 2, 3], "key": [8, 9], "words": [int(word) for word in words[0]],
        },
        "normal_table": [{"u": u, "value": float32s(normal_table()[u])[0]} for u in picked],
        "normals": arrays,
    }  # fmt: skip


def elementary_vectors() -> list[dict[str, Any]]:
    """Each function at a few points."""
    wide, low = (-20.0, -1.0, -1e-9, 0.3, 1.0, 20.0), (1e-9, 0.1, 0.5, 1.0, 1.5)
    functions: Iterable[tuple[str, Callable[[Any], Any], tuple[float, ...]]] = (
        ("exp", exponential, wide),
        ("expm1", exponential_minus_1, wide),
        ("log", logarithm, (1e-9, 0.1, 0.5, 0.75, 1.0, 1.5, 3.0)),
        ("log1p", logarithm_of_1_plus, (-0.9, -0.02, -1e-4, 0.3, 2.0)),
        ("sin", sine, low),
        ("cos", cosine, low),
    )
    return [
        {"function": name, "x": float64s(points), "y": float64s(function(np.array(points)))}
        for name, function, points in functions
    ]


def schedule_json(spec: ScheduleSpec) -> Any:
    """A schedule as a manifest has it."""
    return spec if isinstance(spec, str) else asdict(spec)


def schedule_vectors() -> list[dict[str, Any]]:
    """The scales of each schedule at the times of a short run."""
    found = []
    tables = [
        TableSpec(alpha_bar=TABLE.alpha_bar, spacing=spacing)
        for spacing in ("leading", "linspace", "trailing")
    ]
    for spec in ("cosine", "linear", *tables, *FORMULAS):
        schedule = make_schedule(spec)
        times = schedule.timesteps(3)
        entry: dict[str, Any] = {"schedule": schedule_json(spec)}
        entry |= {"steps": 3, "times": float64s(times)}
        for name in ("alpha", "sigma", "log_snr"):
            entry[name] = float64s(getattr(schedule, name)(times[:-1]))
        found.append(entry)
    return found


def address_noise(step: int) -> Any:
    """Noise of the runs below."""
    return normals(SHAPE, step=step, **ADDRESS)


def sampler_vectors() -> list[dict[str, Any]]:
    """Runs of three steps with a network that predicts half of what it sees."""
    found = []
    for sampler, gamma, kind, schedule_name, threshold in (
        ("ddim", 0.0, "v", "cosine", ThresholdSpec(kind="static")),
        ("stochastic", 0.0, "v", "cosine", ThresholdSpec(kind="static")),
        ("ddpm", 0.3, "epsilon", "linear", ThresholdSpec(kind="none")),
        ("ddpm_final_noise", 1.0, "epsilon", "linear", ThresholdSpec(kind="static")),
        ("ddim", 0.0, "x0", "cosine", ThresholdSpec(kind="dynamic", percentile=0.8, cap=1.5)),
        ("ddpm", 0.3, "v", ZERO, ThresholdSpec(kind="none")),
        ("euler", 0.0, "flow", FLOW, ThresholdSpec(kind="none")),
        ("heun", 0.0, "flow", FLOW, ThresholdSpec(kind="none")),
        ("heun", 0.0, "v", EDM, ThresholdSpec(kind="static")),
        ("dpmpp_2m", 0.0, "epsilon", "linear", ThresholdSpec(kind="static")),
        ("dpmpp_2m", 0.0, "v", ZERO, ThresholdSpec(kind="none")),
    ):
        schedule = make_schedule(schedule_name)
        denoiser = thresholded(EngineDenoiser(HalfEngine(), schedule, kind, {}), threshold)
        known = training_steps(schedule_name)
        inputs = SamplerInputs(
            denoise=lambda _, denoiser=denoiser: denoiser,
            start=address_noise(START),
            schedule=schedule,
            times=schedule.timesteps(3),
            noise=address_noise,
            gamma=gamma,
            first_time=0.0 if known is None else 1 / known,
        )
        steps = [
            {"x0": float32s(step.x0), "x_t": float32s(step.x_t)} for step in sample(sampler, inputs)
        ]
        found.append({
            "sampler": sampler, "gamma": gamma, "prediction": kind,
            "schedule": schedule_json(schedule_name), "run_steps": 3,
            "threshold": {
                "kind": threshold.kind, "percentile": threshold.percentile, "cap": threshold.cap,
            },
            **ADDRESS, "shape": list(SHAPE), "network": "0.5 * x_t", "steps": steps,
        })  # fmt: skip
    return found


def learned_variance_vector() -> dict[str, Any]:
    """One ancestral step whose network learned the variance."""
    schedule = make_schedule("linear")
    times = schedule.timesteps(3)
    x_t, noise = address_noise(START), address_noise(0)
    x0, variance = np.clip(address_noise(1), -1, 1), address_noise(2)
    share = (variance + 1) / 2
    step = posterior(schedule, times[0], times[1], share)
    return {
        "schedule": "linear", "t": float64s(times[0])[0], "s": float64s(times[1])[0],
        "x_t": float32s(x_t), "x0": float32s(x0), "variance": float32s(variance),
        "noise": float32s(noise), "result": float32s(ancestral_step(step, x0, x_t, noise)),
    }  # fmt: skip


def threshold_vectors() -> list[dict[str, Any]]:
    """Estimates and what is left of them."""
    x0 = np.array([0.1, -0.4, 2.5, -1.75, 0.9, -3.0, 1.2, 0.0, -0.6, 1.4], np.float32)

    class Fixed(Engine):
        """Returns these numbers."""

        def run(self, inputs: Any) -> Any:
            """They are the estimate."""
            return {"prediction": x0.reshape(1, 1, 2, 5)}

        def terminate(self) -> None:
            """Nothing runs on."""

        def close(self) -> None:
            """Nothing to release."""

    found = []
    for spec in (
        ThresholdSpec(kind="static"),
        ThresholdSpec(kind="dynamic", percentile=0.75),
        ThresholdSpec(kind="dynamic", percentile=0.95, cap=1.5),
    ):
        inner = EngineDenoiser(Fixed(), make_schedule("cosine"), "x0", {})
        shape = np.zeros((1, 1, 2, 5), np.float32)
        result = thresholded(inner, spec)(shape, np.array([0.5], np.float32)).x0
        found.append({
            "kind": spec.kind, "percentile": spec.percentile, "cap": spec.cap,
            "x0": float32s(x0), "result": float32s(result),
        })  # fmt: skip
    return found


def picture_vectors() -> dict[str, Any]:
    """From bytes to network values, enlarged, corrupted, and back to bytes."""
    pixels = (np.arange(2 * 3 * 3) * 37 % 256).astype(np.uint8).reshape(2, 3, 3)
    low = to_network(pixels)
    enlarged = [
        {
            "kind": kind,
            "factor": factor,
            "result": float32s(enlarge(pixels, (3 * factor, 2 * factor), kind)),
        }
        for kind, factor in (
            ("cubic", 2),
            ("cubic", 4),
            ("bilinear_corners", 2),
            ("nearest", 2),
            ("bilinear", 3),
            ("bicubic_pil", 2),
            ("bicubic_pil", 3),
        )
    ]
    noise = normals(low.shape, seed=7, image=0, stage=2, step=AUGMENTATION)
    edges = [-1.5, -1.0, -0.99608, -0.5, -0.003922, 0.0, 0.003922, 0.5, 0.7, 1.0, 1.5, 0.0117648]
    values = np.array(edges, np.float32)
    rounded = from_network(np.repeat(values[None, None, None], 3, 1))[0, :, 0]
    return {
        "height": 2, "width": 3, "pixels": pixels.reshape(-1).tolist(), "network": float32s(low),
        "enlarged": enlarged,
        "augmented": {
            "level": float64s(0.1)[0], "seed": 7, "image": 0, "stage": 2,
            "result": float32s(augment(low, 0.1, noise)),
        },
        "rounding": {"x0": float32s(values), "levels": rounded.tolist()},
    }  # fmt: skip


def projected_vectors() -> list[dict[str, Any]]:
    """Guidance without the parallel part, along the clean picture and along predictions."""
    draws = (address_noise(step) for step in (3, 4, 5))
    conditional, unconditional, x_t = draws
    t, weight = np.array([0.4], np.float32), np.array([3.3], np.float32)
    schedule = make_schedule("cosine")
    found = []
    for prediction in ("x0", "epsilon", "v", "flow"):
        halves = Halves(conditional, unconditional, x_t, t)
        result = Projected(schedule, prediction)(halves, weight)
        found.append({
            "prediction": prediction, "schedule": "cosine", "t": 0.4, "weight": 3.3,
            "conditional": float32s(conditional), "unconditional": float32s(unconditional),
            "x_t": float32s(x_t), "result": float32s(result),
        })  # fmt: skip
    return found


def context_vectors() -> list[dict[str, Any]]:
    """Contexts and their handles."""
    found = []
    for rows in ([[0.0, 1.0], [-2.0, 0.5]], [[0.1, -0.2, 0.3]]):
        values = np.array(rows, np.float16)
        found.append({
            "rows": rows, "data": values.astype("<f2").tobytes().hex(),
            "handle": context_handle(values).hex(),
        })  # fmt: skip
    return found


def vectors() -> dict[str, Any]:
    """Everything."""
    guidance = OscillatingGuidance(high=6.0, low=1.5, first_steps=2)
    both = (np.array([0.7, -0.3], np.float32), np.array([0.1, 0.2], np.float32))
    return {
        "format": 1,
        "noise": noise_vectors(),
        "elementary": elementary_vectors(),
        "schedules": schedule_vectors(),
        "samplers": sampler_vectors(),
        "learned_variance": learned_variance_vector(),
        "thresholds": threshold_vectors(),
        "pictures": picture_vectors(),
        "guidance": {
            "conditional": float32s(both[0]),
            "unconditional": float32s(both[1]),
            "weight": 3.3,
            "result": float32s(both[1] + np.float32(3.3) * (both[0] - both[1])),
            "oscillating": {"high": 6.0, "low": 1.5, "first_steps": 2},
            "weights": [guidance.at(step) for step in range(6)],
        },
        "projected_guidance": projected_vectors(),
        "contexts": context_vectors(),
        "lengths": [[tokens, bucket_length(tokens)] for tokens in (1, 8, 9, 33, 77, 512)],
    }


def main() -> int:
    """Write or compare; 1 when the file differs."""
    text = json.dumps(vectors(), indent=1) + "\n"
    if "--check" not in sys.argv:
        FILE.parent.mkdir(exist_ok=True)
        FILE.write_text(text)
    elif not FILE.exists() or FILE.read_text() != text:
        sys.stderr.write(f"{FILE.name} is stale, run `python -m tests.numeric_vectors`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
