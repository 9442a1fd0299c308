"""A graph proven to give its network's very bits: on every engine, thread count and company.

What is drawn from logits is another picture wherever a draw falls the other way, so that small
differences are no parity. Knows engines and arrays; not how graphs are made, nor whose they are.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from cascade.engine import Engine
from cascade.engines.factory import EngineChoice, installed_kinds, open_engine
from cascade.errors import ParityError
from cascade.graph_spec import ParityRecord
from cascade.precision import Precision
from cascade.types import Array
from export.proof import KINDS, Claim, Report, rows_of

IDENTICAL_DB = 999.0
"""Stands for an infinite ratio in a manifest, which holds finite numbers."""


def prove_exactly(claim: Claim, report: Report) -> ParityRecord:
    """Compare every value bit for bit, on every engine installed.

    Args:
        claim: the graph and what it should be; its cases have two rows or more.
        report: called with a line per engine.

    Returns:
        A record without error: anything else raises.

    Raises:
        ParityError: naming the engine, the output and how many values differ.
        EngineError: an engine cannot run the graph.
    """
    wanted = [claim.original.run(case) for case in claim.cases]
    for kind in (k for k in KINDS if k in installed_kinds()):
        values = 0
        with_engine = open_engine(claim.graph, EngineChoice(kind, Precision.FP32))
        try:
            for case, answer in zip(claim.cases, wanted, strict=True):
                values += compare_bits(claim, KINDS[kind], with_engine, case, answer)
        finally:
            with_engine.close()
        report(f"{claim.name:13} {KINDS[kind]}: 0 of {values} values differ")
    return ParityRecord(max_abs_error=0.0, psnr_db=IDENTICAL_DB, tolerance_abs=0.0)


def compare_bits(
    claim: Claim,
    engine_name: str,
    engine: Engine,
    case: Mapping[str, Array],
    wanted: Mapping[str, Array],
) -> int:
    """How many values are the same: all of them, rows together and every row alone.

    Raises:
        ParityError: one is not.
    """
    count = 0
    for rows, found in answers(engine, case):
        for output in claim.outputs:
            expected = wanted[output][rows]
            differing = differing_values(found[output], expected)
            if differing:
                raise ParityError(
                    f"{claim.name} on {engine_name}: {output}: {differing} of {expected.size} "
                    "values differ from torch's: what is drawn from them would be another picture; "
                    "see docs/decisions/0031-exact-networks.md for what keeps sums exact",
                    field=claim.name,
                )
            count += expected.size
    return count


def answers(
    engine: Engine, case: Mapping[str, Array]
) -> Iterator[tuple[slice, Mapping[str, Array]]]:
    """All rows at once, then each alone, with the rows that are meant."""
    yield slice(None), engine.run(case)
    for number, row in enumerate(rows_of(case)):
        yield slice(number, number + 1), engine.run(row)


def differing_values(found: Array, wanted: Array) -> int:
    """How many values have other bits; all of them where the shapes differ."""
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return max(1, wanted.size)
    # Bits: a zero of the other sign counts too, and so does anything that is not a number.
    bits = np.dtype(f"u{found.itemsize}")
    return int(np.count_nonzero(found.view(bits) != wanted.view(bits)))
