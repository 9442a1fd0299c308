"""A phone's file compared with its network: numbers, not only whether it loads.

Some converters lose an operator, a norm's digits or half of the precision without an error. Knows
subjects and their answers; no framework.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.errors import ParityError
from cascade.types import Array
from export.exact_proof import differing_values
from export.phone.runtime import PhoneFile
from export.phone.subject import PhoneGraph

LEAST_DB = 60.0
"""Of the worst case of a network that is not exact. Float32 in another order of sums gives 100 dB
and more; half precision, a lost operator or a wrong norm gives less than 60."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How far a file's answers are from its network's."""

    psnr_db: float
    """Of the worst answer, against twice its largest value; infinite where all are equal."""
    differing: int
    """Values with other bits, of all cases together."""
    values: int


def agreement_of(subject: PhoneGraph, file: PhoneFile) -> Agreement:
    """Compare every case.

    Raises:
        ParityError: an answer has another shape or dtype, is not finite, differs in a bit where
            the network is exact, or is below `LEAST_DB` elsewhere.
    """
    names = [tensor.name for tensor in subject.outputs]
    original = subject.original
    worst, differing, values = math.inf, 0, 0
    for number, case in enumerate(subject.cases):
        wanted, found = original.run(case), file.run(case)
        for name, answer in zip(names, paired(subject, found), strict=True):
            check_answer(subject, f"{name} of case {number}", answer, wanted[name])
            worst = min(worst, decibels(answer, wanted[name]))
            differing += differing_values(answer, wanted[name])
            values += answer.size
    figures = Agreement(psnr_db=worst, differing=differing, values=values)
    check_figures(subject, figures)
    return figures


def paired(subject: PhoneGraph, answers: Sequence[Array]) -> Sequence[Array]:
    """The answers, if there are as many as outputs.

    Raises:
        ParityError: another number.
    """
    if len(answers) != len(subject.outputs):
        raise ParityError(
            f"{subject.name}: {len(answers)} answers, expected {len(subject.outputs)}",
            field=subject.component,
        )
    return answers


def check_answer(subject: PhoneGraph, where: str, found: Array, wanted: Array) -> None:
    """Refuse an answer that cannot be compared.

    Raises:
        ParityError: another shape or dtype, or numbers that are not finite.
    """
    same = found.shape == wanted.shape and found.dtype == wanted.dtype
    if not same or not np.isfinite(found).all():
        raise ParityError(
            f"{subject.name}: {where} is {found.dtype}{list(found.shape)}"
            f"{'' if same else f', expected {wanted.dtype}{list(wanted.shape)}'}"
            f"{' with values that are not finite' if same else ''}: it is not written",
            field=subject.component,
        )


def decibels(found: Array, wanted: Array) -> float:
    """Peak signal-to-noise ratio of an answer of any shape; infinite where it is equal."""
    noise = float(np.mean((found.astype(np.float64) - wanted) ** 2))
    peak = 2 * float(np.abs(wanted).max())
    return math.inf if noise == 0 else 10 * math.log10(max(peak, 1e-30) ** 2 / noise)


def check_figures(subject: PhoneGraph, figures: Agreement) -> None:
    """Refuse a file that is not its network.

    Raises:
        ParityError: with component and figure.
    """
    if subject.exact and figures.differing:
        raise ParityError(
            f"{subject.name}: {figures.differing} of {figures.values} values differ from the "
            "network's, whose every bit counts: it is not written",
            field=subject.component,
        )
    if figures.psnr_db < LEAST_DB:
        raise ParityError(
            f"{subject.name}: {figures.psnr_db:.1f} dB from {subject.compared_with}, at least "
            f"{LEAST_DB:.0f} dB are expected: it is not written",
            field=subject.component,
        )
