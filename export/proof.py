"""A graph proven against its original: on every engine, rows together and alone, at large means.

ONNX Runtime alone proves too little: another engine may be wrong where it is right. Cases alone
prove too little too: a network that mixes the rows of its batch does so in torch and in the graph
alike, and sums that cancel at a mean of 0 need not at one of 100. Knows engines and arrays; not how
graphs are made, nor whose they are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cascade.engine import Engine
from cascade.engines.factory import EngineChoice, EngineKind, installed_kinds, open_engine
from cascade.errors import EngineError, ParityError
from cascade.graph_spec import ParityRecord
from cascade.precision import Precision
from cascade.types import Array
from cascade.weights.source import ExternalGraph, GraphSource
from export.parity import TOLERANCE_ABS, compare_engines

Case = Mapping[str, Array]
Report = Callable[[str], None]

KINDS = {EngineKind.ORT: "ONNX Runtime", EngineKind.OPENVINO: "OpenVINO"}
"""Engines that a graph is proven on where they are installed; ONNX Runtime always is."""

LARGE_BYTES = 1 << 28
"""Of weights beside a graph: from here on a second and a third copy would be felt."""

LARGE_MEAN = 100.0

ROUNDING = 0.01
"""Largest difference that rounding explains, in standard deviations of the answer: of a row in
other company, where kernels of another size sum in another order."""

ROUNDING_AT_LARGE_MEAN = 0.05
"""Of inputs around `LARGE_MEAN`: float32 holds 100 plus noise with two digits less, and every norm
subtracts the 100 again (plain exports with GroupNormalization lose up to 2e-2)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """What is to be proven."""

    name: str
    """The component's, for reports and errors."""
    original: Engine
    """The torch network."""
    graph: GraphSource
    cases: Sequence[Case]
    """Batches of inputs."""
    outputs: Sequence[str]
    precision: Precision = Precision.FP32
    tolerance_abs: float = TOLERANCE_ABS


class Remembered:
    """An engine that is asked each question once, however many graphs are compared with it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._answers: dict[int, tuple[Case, dict[str, Array]]] = {}

    def run(self, inputs: Case) -> dict[str, Array]:
        """All outputs; of the same mapping object those of the first time."""
        if id(inputs) not in self._answers:
            # The case is kept too: its identity must not pass to another one.
            self._answers[id(inputs)] = inputs, self._engine.run(inputs)
        return self._answers[id(inputs)][1]

    def terminate(self) -> None:
        """End the run in progress."""
        self._engine.terminate()

    def close(self) -> None:
        """Nothing: the engine belongs to whoever gave it."""


def prove(claim: Claim, report: Report) -> ParityRecord:
    """Compare on every engine installed.

    Args:
        claim: the graph and what it should be.
        report: called with a line about each engine but the first.

    Returns:
        The worst engine's record.

    Raises:
        ParityError: naming the engine, or saying that the network mixes its rows.
        EngineError: ONNX Runtime cannot run the graph.
    """
    original = Remembered(claim.original)
    unlike = unlike_rows(claim.cases[0])
    refuse_mixing(claim, original, unlike)
    records = []
    for kind in (k for k in KINDS if k in installed_kinds()):
        if kind is not EngineKind.ORT and is_large(claim.graph):
            report(f"{claim.name:13} {KINDS[kind]}: not tried, it copies weights of this size")
            continue
        try:
            records.append(prove_on(claim, original, kind, unlike))
        except EngineError as failed:
            if kind is EngineKind.ORT:
                raise
            report(f"{claim.name:13} {KINDS[kind]} cannot run it: {failed}")
            continue
        if kind is not EngineKind.ORT:
            report(f"{claim.name:13} {KINDS[kind]}: {records[-1].max_abs_error:.1e} max abs error")
    return max(records, key=lambda record: record.max_abs_error)


def is_large(graph: GraphSource) -> bool:
    """Whether a copy of a graph's weights is more than an export should take."""
    return isinstance(graph, ExternalGraph) and graph.buffer.entry.size_bytes > LARGE_BYTES


def prove_on(claim: Claim, original: Engine, kind: EngineKind, unlike: Case) -> ParityRecord:
    """The worst output's record on one engine."""
    engine = open_engine(claim.graph, EngineChoice(kind, claim.precision))
    try:
        records = [
            compare_engines(
                original, engine, claim.cases, output, tolerance_abs=claim.tolerance_abs
            )
            for output in claim.outputs
        ]
        if claim.precision is Precision.FP32:
            compare_rows(original, engine, unlike, claim.outputs)
            compare_at_large_mean(original, engine, claim.cases[0], claim.outputs)
    except ParityError as wrong:
        raise ParityError(f"{claim.name} on {KINDS[kind]}: {wrong}", field=claim.name) from wrong
    finally:
        engine.close()
    return max(records, key=lambda record: record.max_abs_error)


def refuse_mixing(claim: Claim, original: Engine, case: Case) -> None:
    """Raise where a row's answer depends on the other rows of its batch.

    A server batches strangers' requests: such a network would show them in one another's pictures.
    """
    together = original.run(case)
    for number, row in enumerate(rows_of(case)):
        alone = original.run(row)
        for output in claim.outputs:
            missed = distance(together[output][number : number + 1], alone[output])
            if missed > ROUNDING:
                raise ParityError(
                    f"{claim.name}: {output} of row {number} alone is {missed:.1e} standard "
                    f"deviations from what it is in a batch of {rows_in(case)}: the network mixes "
                    "the rows of its batch, and rows are other people's pictures; take means and "
                    "statistics over each sample alone",
                    field=claim.name,
                )


def compare_rows(original: Engine, engine: Engine, case: Case, outputs: Sequence[str]) -> None:
    """Raise where rows of a graph, together or alone, are not the original's rows alone."""
    together = engine.run(case)
    for number, row in enumerate(rows_of(case)):
        wanted, alone = original.run(row), engine.run(row)
        for output in outputs:
            for found in (alone[output], together[output][number : number + 1]):
                missed = distance(found, wanted[output])
                if missed > ROUNDING:
                    raise ParityError(
                        f"{output} of row {number} is {missed:.1e} standard deviations off alone "
                        "or among others"
                    )


def compare_at_large_mean(
    original: Engine, engine: Engine, case: Case, outputs: Sequence[str]
) -> None:
    """Raise where the graph loses a large mean that the original bears."""
    shifted = {
        name: value + np.float32(LARGE_MEAN) if value.ndim == 4 else value
        for name, value in case.items()
    }
    wanted, found = original.run(shifted), engine.run(shifted)
    for output in outputs:
        # A network that overflows there itself has said nothing about its graph.
        if not np.isfinite(wanted[output]).all():
            continue
        missed = distance(found[output], wanted[output])
        if missed > ROUNDING_AT_LARGE_MEAN:
            raise ParityError(
                f"{output} is {missed:.1e} standard deviations off where pictures have a mean of "
                f"{LARGE_MEAN:.0f}"
            )


def distance(found: Array, wanted: Array) -> float:
    """Largest difference in standard deviations of what was wanted; infinite where not a number.

    Both have one shape, any; another shape is infinitely far.
    """
    if found.shape != wanted.shape:
        return float("inf")
    missed = float(np.abs(found.astype(np.float64) - wanted).max())
    # Of a flat answer the size counts.
    scale = max(float(wanted.std()), 1e-3 * float(np.abs(wanted).max()), 1e-6)
    return missed / scale if np.isfinite(missed) else float("inf")


def rows_in(case: Case) -> int:
    """How many rows a batch has."""
    return min(len(value) for value in case.values())


def rows_of(case: Case) -> Iterator[dict[str, Array]]:
    """Every row of a batch as a batch of its own."""
    for row in range(rows_in(case)):
        yield {name: value[row : row + 1] for name, value in case.items()}


def unlike_rows(case: Case) -> dict[str, Array]:
    """A batch of at least two rows that show other pictures: every second one is turned around.

    Its brightness is another one too: a network may mix means alone.
    """
    batch = case if rows_in(case) > 1 else {n: np.concatenate([v, v]) for n, v in case.items()}
    turned = {name: value.copy() for name, value in batch.items()}
    for value in turned.values():
        if value.ndim == 4:
            value[1::2] = 1 - value[1::2, :, ::-1, ::-1]
        elif value.ndim > 1:
            value[1::2] = value[1::2, ::-1]
    return turned
