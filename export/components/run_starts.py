"""Where the runs of int8 begin: described starts, prompts, and pictures of the stage before."""

from collections.abc import Sequence
from dataclasses import replace

from cascade.request import Handoff
from cascade.types import ImageU8
from export.description import RunStarts
from export.quantize.sampled_runs import SampledRuns, sample_images

RUNS = 8
"""Runs that calibrate, and as many that prove, where the description brings prompts alone."""


def starts_of(
    described: RunStarts | None, before: SampledRuns | None, first: Sequence[Handoff]
) -> RunStarts:
    """Where a stage's runs begin.

    Args:
        described: true starts, if there are any.
        before: runs of the stage before, if it made any for int8.
        first: what stands in where there is neither: the cascade's prompts, say.
    """
    generated = None if before is None else continued_starts(before)
    if described is None:
        return generated or taking_turns(first)
    if generated is None:
        return described
    # Half of each: a stage in use sees what the one before paints, and the data are more varied.
    return RunStarts(
        mixed(generated.calibration, described.calibration),
        mixed(generated.proof, described.proof),
    )


def mixed(generated: Sequence[Handoff], described: Sequence[Handoff]) -> tuple[Handoff, ...]:
    """As many starts as are described, the first half generated as far as those go."""
    taken = generated[: len(described) // 2]
    return (*taken, *described[: len(described) - len(taken)])


def taking_turns(first: Sequence[Handoff]) -> RunStarts:
    """Starts that take turns: even ones calibrate, odd ones prove."""
    starts = [first[n % len(first)] for n in range(2 * RUNS)]
    return RunStarts(tuple(starts[0::2]), tuple(starts[1::2]))


def continued_starts(runs: SampledRuns) -> RunStarts:
    """Where the next stage's runs go on: the same words, the picture made so far."""
    proof = continued(runs.starts.proof, runs.proof_images)
    if runs.described:
        # Every start has words of its own, so that halves of one set share nothing.
        return RunStarts(proof[0::2], proof[1::2])
    images = sample_images(runs.blueprint, runs.engine, runs.starts.calibration)
    return RunStarts(continued(runs.starts.calibration, images), proof)


def continued(starts: Sequence[Handoff], images: Sequence[ImageU8]) -> tuple[Handoff, ...]:
    """The same contexts with other pictures `[H, W, 3]` uint8."""
    return tuple(replace(s, image=image) for s, image in zip(starts, images, strict=True))
