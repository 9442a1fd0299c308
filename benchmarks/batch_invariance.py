"""Does a picture depend on who else is being made? Alone against in a shared batch, stage by stage.

    python -m benchmarks.batch_invariance [--bundle B] [--engine E] [--precision P] [--rows 4]

The server's own batcher, stages and engines; every row has its own prompt, seed and picture
to start from. Cases: a batch of two, a batch of all, rows that join one step after the other, and a
row beside a neighbour that is cancelled. For each: the largest difference to the same row alone in
levels of 255, the share of samples that differ, and how many rows a run really had.
"""

import argparse
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks.lib.lockstep_batcher import LockstepBatcher
from benchmarks.lib.record import write_record
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.diffusion.spec import DiffusionSpec
from cascade.errors import Cancelled
from cascade.events import Event, Progress, StageFinished
from cascade.graph_spec import NET
from cascade.request import GenerateRequest, Handoff
from cascade.stage import EngineStage
from cascade.stage_factory import open_stages
from cascade.tuning.options import parse_engine_options
from cascade.tuning.plan import EnginePlan, plan_here
from cascade.types import ImageU8
from runtime_server.batching.graph_axes import axes_of

PROMPTS = (
    "a red apple, noto style",
    "a cat",
    "a green apple, a red apple, a cat, noto style",
    "a red cat, fluent style",
    "cat",
    "a green cat, a red apple",
    "apple",
    "a red apple",
)
EQUAL = tuple(
    f"a {colour} {thing}" for colour in ("red", "green") for thing in ("apple", "cat", "dog", "car")
)
ALONE = "alone"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """Rows that are made together."""

    name: str
    rows: int
    join_after: Sequence[int] = ()
    """Steps of the first row after which each row begins; all at once when empty."""
    cancelled: int | None = None
    """The row that is ended after its first step; it is not compared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What sharing runs did to the rows of one case."""

    largest: int
    """Largest difference in levels of 255."""
    share: float
    """Samples that differ, of all."""
    rows_per_run: float
    most_rows: int


@dataclass
class SharedRows:
    """Rows in one stage at one device.

    Attributes:
        stage: the stage, opened.
        spec: its entry in the manifest.
        position: its place.
        starts: what each row starts from.
        steps: of every row; 0 for the bundle's default.
        alone: each row's picture by itself.
        pads: whether contexts of unequal length share runs.
    """

    stage: EngineStage
    spec: DiffusionSpec
    position: int
    starts: Sequence[Handoff]
    steps: int = 0
    alone: dict[int, ImageU8] = field(default_factory=dict)
    pads: bool = True

    def request(self, row: int) -> GenerateRequest:
        """The request of one row."""
        options = DiffusionOptions(steps=self.steps or None)
        return GenerateRequest(seed=100 + row, options={self.spec.name: options})

    def compare(self, case: Case) -> Outcome:
        """Make a case's rows together, and compare each with itself alone."""
        lockstep, found = self.make(case, range(case.rows))
        differences = [
            np.abs(picture.astype(np.int16) - self.alone[row]) for row, picture in found.items()
        ]
        sizes = lockstep.runs.sizes
        return Outcome(
            largest=max(int(d.max()) for d in differences),
            share=sum(int(np.count_nonzero(d)) for d in differences)
            / sum(d.size for d in differences),
            rows_per_run=sum(sizes) / len(sizes),
            most_rows=max(sizes),
        )

    def make_alone(self, row: int) -> ImageU8:
        """One row by itself, which is what the others are compared with."""
        self.alone[row] = self.make(Case(name=ALONE, rows=1), [row])[1][row]
        return self.alone[row]

    def make(self, case: Case, rows: Sequence[int]) -> tuple[LockstepBatcher, dict[int, ImageU8]]:
        """Pictures by row, of those that are not cancelled."""
        lockstep = LockstepBatcher(
            self.stage.engines,
            2 * case.rows,
            {NET: axes_of(self.spec.graphs[NET])},
            allows_padding=self.pads,
        )
        after = dict(zip(rows, case.join_after or [0] * len(rows), strict=True))
        gates = {row: threading.Event() for row in rows}

        def open_gates(step: int) -> None:
            """Let those begin who join after so many steps of the first row."""
            joining = [row for row in rows if after[row] == step]
            if step:
                lockstep.add(len(joining))
            else:
                lockstep.begin(len(joining))
            for row in joining:
                gates[row].set()

        def make_row(row: int) -> ImageU8 | None:
            gates[row].wait()
            try:
                for event in self._events(lockstep, row, case.cancelled):
                    if isinstance(event, Progress) and row == rows[0]:
                        open_gates(event.done)
                    if isinstance(event, StageFinished):
                        return event.handoff.image
            finally:
                lockstep.add(-1)
            return None

        with ThreadPoolExecutor(len(rows)) as pool:
            futures = {row: pool.submit(make_row, row) for row in rows}
            open_gates(0)
        lockstep.end()
        images = {row: future.result() for row, future in futures.items() if not future.exception()}
        return lockstep, {row: image for row, image in images.items() if image is not None}

    def _events(
        self, lockstep: LockstepBatcher, row: int, cancelled: int | None
    ) -> Iterator[Event]:
        """What happens to one row; the cancelled one is ended after its first step."""
        with closing(lockstep.row(row, {NET: self.steps or self.spec.steps})) as batched:
            stage = self.stage.with_engines(batched.engines)
            with closing(cast(Any, stage.run(self.request(row), self.starts[row]))) as events:
                for event in events:
                    yield event
                    if isinstance(event, Progress) and row == cancelled:
                        lockstep.batcher.cancel(batched, Cancelled("enough"))


def cases_of(rows: int, steps: int) -> list[Case]:
    """The cases of the table.

    Args:
        rows: the most at once.
        steps: of every row.
    """
    staggered = [min(n, steps - 1) for n in range(rows)]
    return [
        Case(name="batch of 2", rows=2),
        Case(name=f"batch of {rows}", rows=rows),
        Case(name="joined in mid-flight", rows=rows, join_after=staggered),
        Case(name="cancelled neighbour", rows=max(3, rows - 1), cancelled=1),
    ]


def shared_rows(
    bundle: Bundle, plan: EnginePlan, rows: int, steps: int, prompts: Sequence[str] = PROMPTS
) -> list[SharedRows]:
    """Every diffusion stage with rows of true inputs: each stage's come from the one before."""
    count = len(bundle.manifest.components)
    stages = open_stages(bundle, range(count), plan)
    handoffs = []
    for prompt in prompts[:rows]:
        events = stages[0].run(GenerateRequest(prompt=prompt), Handoff(prompt=prompt))
        handoffs += [e.handoff for e in events if isinstance(e, StageFinished)]
    stages[0].close()
    found = []
    for position in range(1, count):
        spec = cast(DiffusionSpec, bundle.manifest.components[position])
        shared = SharedRows(stages[position], spec, position, list(handoffs), steps)
        handoffs = [
            Handoff(context=handoffs[row].context, image=shared.make_alone(row))
            for row in range(rows)
        ]
        found.append(shared)
    return found


def invariance(
    bundle: Bundle,
    plan: EnginePlan,
    *,
    rows: int,
    steps: int = 0,
    prompts: Sequence[str] = PROMPTS,
) -> dict[str, Mapping[str, Outcome]]:
    """Stage to case to outcome."""
    table: dict[str, Mapping[str, Outcome]] = {}
    group = shared_rows(bundle, plan, rows, steps, prompts)
    try:
        for shared in group:
            cases = cases_of(rows, steps or shared.spec.steps)
            table[shared.spec.name] = {case.name: shared.compare(case) for case in cases}
    finally:
        for shared in group:
            shared.stage.close()
    return table


def print_table(table: Mapping[str, Mapping[str, Outcome]]) -> None:
    """One line per stage and case."""
    print(f"{'stage':10} {'case':22} {'rows a run':>10} {'most':>5} {'levels':>7} {'differ':>10}")
    for stage, cases in table.items():
        for case, o in cases.items():
            print(
                f"{stage:10} {case:22} {o.rows_per_run:10.2f} {o.most_rows:5d} {o.largest:7d} "
                f"{100 * o.share:9.4f}%"
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("bundles/emoji-1"))
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--rows", type=int, default=4, help="the most at once, 3 to 8")
    parser.add_argument("--steps", type=int, default=0, help="of every stage; 0: the bundle's")
    parser.add_argument(
        "--equal-lengths", action="store_true", help="prompts of equal length: nothing is padded"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    bundle = open_bundle(args.bundle)
    engine_options = parse_engine_options(args.engine, args.precision, args.threads)
    positions = range(len(bundle.manifest.components))
    plan = plan_here(bundle.manifest, engine_options, positions)
    prompts = EQUAL if args.equal_lengths else PROMPTS
    table = invariance(bundle, plan, rows=args.rows, steps=args.steps, prompts=prompts)
    ways = {
        c.name: f"{plan.of(c.name).kind} {plan.of(c.name).precision}"
        for c in bundle.manifest.components
    }
    print(", ".join(f"{name}: {way}" for name, way in ways.items()))
    print_table(table)
    write_record(
        args.json,
        {
            "engines": ways,
            "stages": {
                stage: {
                    case: {name: getattr(o, name) for name in Outcome.__slots__}
                    for case, o in cases.items()
                }
                for stage, cases in table.items()
            },
        },
    )


if __name__ == "__main__":
    main()
