"""How much of a denoising step is spent outside the engine, and on what?

    python -m benchmarks.host_share [--bundle bundles/emoji-1] [--rounds 15] [--json FILE]

Every stage of the bundle runs whole, with its default steps, on its own engine whose calls are
timed: what lies between two calls is the host's part of a step, what lies before the first is the
picture's start (noise, enlarging), what lies after the last its end. Then each part of the host's
work runs alone on arrays of that run, which shows where the time goes. Medians; the first round is
a warm-up and not counted. The last column asks what an engine three times as fast would make of it.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from benchmarks.host_parts import StepArrays, parts_of
from benchmarks.lib.record import write_record
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.diffusion.family import diffusion_specs
from cascade.engine import Engine
from cascade.engines.factory import EngineChoice, open_engine
from cascade.events import StageFinished
from cascade.request import GenerateRequest, Handoff
from cascade.stage import Stage
from cascade.stage_factory import open_stage
from cascade.tuning.options import parse_engine_options
from cascade.tuning.plan import EnginePlan, plan_here
from cascade.types import Array

FASTER = 3.0
"""The engine's speed-up that the last column assumes: int8 and better processors."""


@dataclass
class StampedEngine:
    """An engine that keeps when each call began and ended, and what the last one was about."""

    inner: Engine
    calls: list[tuple[float, float]] = field(default_factory=list)
    inputs: Mapping[str, Array] = field(default_factory=dict)
    outputs: dict[str, Array] = field(default_factory=dict)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The inner engine's outputs."""
        begun = time.perf_counter()
        self.inputs, self.outputs = inputs, self.inner.run(inputs)
        self.calls.append((begun, time.perf_counter()))
        return self.outputs

    def terminate(self) -> None:
        """End the inner engine's run."""
        self.inner.terminate()

    def close(self) -> None:
        """Close the inner engine."""
        self.inner.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class RunTimes:
    """Where the seconds of one picture of one stage went."""

    engine: list[float]
    """Each call."""
    between: list[float]
    """From each call's end to the next one's begin: the host's part of a step."""
    start: float
    end: float
    total: float

    @property
    def stage_share(self) -> float:
        """Share of the whole stage that was spent outside the engine."""
        return 1 - sum(self.engine) / self.total


def run_once(stage: Stage, engine: StampedEngine, handoff: Handoff) -> tuple[RunTimes, Handoff]:
    """One picture: its times, and what the next stage starts from."""
    engine.calls.clear()
    result = handoff
    begun = time.perf_counter()
    for event in stage.run(GenerateRequest(prompt=handoff.prompt, seed=7), handoff):
        if isinstance(event, StageFinished):
            result = event.handoff
    ended = time.perf_counter()
    calls = engine.calls
    times = RunTimes(
        engine=[end - begin for begin, end in calls],
        between=[after[0] - before[1] for before, after in pairwise(calls)],
        start=calls[0][0] - begun,
        end=ended - calls[-1][1],
        total=ended - begun,
    )
    return times, result


def median_ms(work: Callable[[], object], rounds: int) -> float:
    """Milliseconds of a call, the median after one warm-up."""
    work()
    seconds = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return 1000 * statistics.median(seconds)


def figures_of(runs: list[RunTimes]) -> dict[str, float]:
    """Medians over all runs, milliseconds, and the shares."""
    engine = statistics.median(s for run in runs for s in run.engine)
    # A run of one step has nothing between two calls; then the end of the picture stands in.
    host = statistics.median(s for run in runs for s in run.between or [run.end])
    return {
        "engine_ms": 1000 * engine,
        "host_ms": 1000 * host,
        "start_ms": 1000 * statistics.median(run.start for run in runs),
        "end_ms": 1000 * statistics.median(run.end for run in runs),
        "steps": float(len(runs[0].engine)),
        "step_share": host / (host + engine),
        "step_share_if_faster": host / (host + engine / FASTER),
        "stage_share": statistics.median(run.stage_share for run in runs),
    }


def print_stage(name: str, figures: dict[str, float], parts: dict[str, float]) -> None:
    """One stage's part of the table."""
    print(
        f"{name:10}{figures['engine_ms']:10.2f}{figures['host_ms']:9.2f}"
        f"{100 * figures['step_share']:9.1f}%{100 * figures['step_share_if_faster']:9.1f}%"
        f"{figures['start_ms']:10.2f}{figures['end_ms']:9.2f}"
        f"{100 * figures['stage_share']:9.1f}%"
    )
    for part, milliseconds in parts.items():
        print(f"    {part:28}{milliseconds:9.3f} ms")


def measure(bundle: Bundle, rounds: int, plan: EnginePlan) -> dict[str, dict[str, object]]:
    """Every stage in turn, each starting from what the one before it made."""
    manifest = bundle.manifest
    text = open_stage(bundle, 0, plan)
    prompt = Handoff(prompt="a red apple, noto style")
    handoff = prompt
    for event in text.run(GenerateRequest(prompt=prompt.prompt), prompt):
        if isinstance(event, StageFinished):
            handoff = event.handoff
    text.close()
    found: dict[str, dict[str, object]] = {}
    for position, spec in enumerate(diffusion_specs(manifest.components), start=1):
        engines: list[StampedEngine] = []

        def make(graph: bytes, choice: EngineChoice, made: list[StampedEngine] = engines) -> Engine:
            made.append(StampedEngine(open_engine(graph, choice, cache=plan.cache)))
            return made[0]

        stage = open_stage(bundle, position, plan, make)
        runs = [run_once(stage, engines[0], handoff) for _ in range(rounds + 1)]
        arrays = StepArrays(dict(engines[0].inputs), engines[0].outputs, handoff, position)
        parts = {name: median_ms(part, rounds) for name, part in parts_of(spec, arrays).items()}
        figures = figures_of([times for times, _ in runs[1:]])
        print_stage(spec.name, figures, parts)
        found[spec.name] = {**figures, "parts_ms": parts}
        handoff = runs[-1][1]
        stage.close()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--engine", default="ort", help="as in `cascade generate`")
    parser.add_argument("--precision", default="fp32", help="as in `cascade generate`")
    parser.add_argument("--threads", type=int, default=0, help="0 takes one per core")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    print("medians, milliseconds; `step` is engine + host, `stage` the whole picture")
    print(
        f"{'stage':10}{'engine':>10}{'host':>9}{'of step':>10}{'if x3':>10}{'start':>10}"
        f"{'end':>9}{'of stage':>10}"
    )
    bundle = open_bundle(args.bundle)
    plan = plan_here(
        bundle.manifest, parse_engine_options(args.engine, args.precision, args.threads)
    )
    stages = measure(bundle, args.rounds, plan)
    choice = {"engine": args.engine, "precision": args.precision}
    write_record(args.json, {"rounds": args.rounds, **choice, "stages": stages})


if __name__ == "__main__":
    main()
