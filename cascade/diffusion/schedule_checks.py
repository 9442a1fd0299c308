"""Schedules of a manifest that contradict themselves or a stage's other choices, refused by field.

Knows the records of schedules; computes of them only what tells whether they fall.
"""

from itertools import pairwise

from cascade.diffusion.betas import MAX_TRAIN_STEPS, BetaSpec, alpha_bars
from cascade.diffusion.continuous import FlowSpec, SigmaSpec
from cascade.diffusion.schedule import ScheduleSpec, TableSpec
from cascade.errors import ManifestError

HIGHEST_SIGMA = 1e6
SHIFTS = (0.01, 100.0)
ROOTS = (1.0, 100.0)


def check_schedule(spec: ScheduleSpec, path: str) -> None:
    """Refuse numbers that make no schedule.

    Args:
        spec: as the manifest gives it.
        path: of the field that holds it.

    Raises:
        ManifestError: naming the number.
    """
    if isinstance(spec, TableSpec):
        check_table(spec, path)
    elif isinstance(spec, BetaSpec):
        check_betas(spec, path)
    elif isinstance(spec, SigmaSpec):
        refuse(
            not 0 < spec.lowest < spec.highest <= HIGHEST_SIGMA,
            f"{path}.lowest",
            f"expected above 0 and below highest, which is at most {HIGHEST_SIGMA:g}, got "
            f"{spec.lowest:g} and {spec.highest:g}",
        )
        refuse(
            not ROOTS[0] <= spec.rho <= ROOTS[1],
            f"{path}.rho",
            f"expected {ROOTS[0]:g} to {ROOTS[1]:g}, got {spec.rho:g}",
        )
    elif isinstance(spec, FlowSpec):
        refuse(
            not SHIFTS[0] <= spec.shift <= SHIFTS[1],
            f"{path}.shift",
            f"expected {SHIFTS[0]:g} to {SHIFTS[1]:g}, got {spec.shift:g}",
        )


def check_table(spec: TableSpec, path: str) -> None:
    """Refuse powers that do not fall; only the last may be 0, and not where sigmas are spaced."""
    refuse(
        not 0 < spec.at_zero <= 1,
        f"{path}.at_zero",
        f"expected above 0, up to 1, got {spec.at_zero:g}",
    )
    powers = spec.alpha_bar
    # A run may end at the first training step rather than at the clean picture.
    starts = bool(powers) and (powers[0] < spec.at_zero or powers[0] == spec.at_zero < 1)
    falls = starts and all(a > b for a, b in pairwise(powers)) and powers[-1] >= 0
    below = "below" if spec.at_zero == 1 else "up to"
    refuse(
        not falls,
        f"{path}.alpha_bar",
        f"expected falling numbers {below} {spec.at_zero:g}, from 0",
    )
    check_ramp(spec, powers[-1], path)


def check_betas(spec: BetaSpec, path: str) -> None:
    """Refuse betas out of bounds, and bounds that a rule does not have."""
    steps, listed = spec.train_steps, spec.rule == "listed"
    least = 2 if spec.zero_terminal_snr else 1
    refuse(
        not least <= steps <= MAX_TRAIN_STEPS,
        f"{path}.train_steps",
        f"expected {least} to {MAX_TRAIN_STEPS}, got {steps}",
    )
    refuse(
        not 0 < spec.first <= spec.last < 1,
        f"{path}.first",
        f"expected above 0, up to last, which is below 1, got {spec.first:g} and {spec.last:g}",
    )
    refuse(
        len(spec.betas) != (steps if listed else 0) or any(not 0 < b < 1 for b in spec.betas),
        f"{path}.betas",
        f"expected {steps if listed else 'no'} numbers above 0 and below 1 with the rule "
        f"{spec.rule}, got {len(spec.betas)}",
    )
    powers = alpha_bars(spec)
    refuse(
        any(a <= b for a, b in pairwise(powers.tolist())),
        f"{path}.{'betas' if listed else 'last'}",
        "too little for some step to change anything in double precision",
    )
    check_ramp(spec, float(powers[-1]), path)


def check_ramp(spec: TableSpec | BetaSpec, last: float, path: str) -> None:
    """Refuse sigmas between ends of which one is infinite."""
    refuse(
        spec.ramp != "steps" and isinstance(spec, TableSpec) and spec.at_zero < 1,
        f"{path}.at_zero",
        f"expected 1 with the ramp {spec.ramp}, whose runs end at the clean picture",
    )
    refuse(
        spec.ramp != "steps" and last == 0,
        f"{path}.ramp",
        f"{spec.ramp} spaces sigmas, and that of the noisiest step is infinite: expected steps",
    )


def ends_without_signal(spec: ScheduleSpec) -> bool:
    """Whether nothing of a picture is left at time 1."""
    if isinstance(spec, TableSpec):
        return spec.alpha_bar[-1] == 0
    return isinstance(spec, FlowSpec) or (isinstance(spec, BetaSpec) and spec.zero_terminal_snr)


def refuse(wrong: bool, field: str, message: str) -> None:  # noqa: FBT001  what was found
    """Raise where something is wrong.

    Raises:
        ManifestError: naming the field.
    """
    if wrong:
        raise ManifestError(f"{field}: {message}", field=field)
