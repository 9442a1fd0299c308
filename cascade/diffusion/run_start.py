"""Where a run starts in its schedule, and whether that is near enough to pure noise.

Every run starts from pure noise. A schedule that keeps few training steps by `leading` or
`linspace` may tell the network that it sees a picture which is half done. Knows schedules and the
manifest's records; runs nothing.

References:
    Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed"
    (arXiv 2305.08891), table 2 for the spacings and section 3 for what a signal at the start does.
"""

from dataclasses import dataclass

from cascade.diffusion.options import run_times
from cascade.diffusion.schedule import make_schedule
from cascade.diffusion.spec import DiffusionSpec

LARGEST_SIGNAL = 0.01
"""Share of a picture's power that a start from noise may lack. At 0.01 a white picture still shows
at a tenth of its strength, 13 levels of 255; the noise's own mean over 64x64 pixels is a tenth of
that. So the network reads from the missing brightness that the picture is grey."""


@dataclass(frozen=True, slots=True)
class LateStart:
    """A run that starts in the middle of its schedule."""

    stage: str
    steps: int
    time: float
    """Of the first step, 1 being the noisiest training step."""
    signal: float
    """Share of a picture's power that training left at that time; the run's start has none."""

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.stage}: a run of {self.steps} steps starts at time {self.time:.3f} of its "
            f"schedule, where training pictures keep {self.signal:.1%} of their power, but from "
            f"noise alone: pictures turn out grey or wrong; more steps start nearer to 1"
        )


def late_start(spec: DiffusionSpec, steps: int) -> LateStart | None:
    """The warning that a run of a stage deserves; None for none.

    Args:
        spec: the stage's entry.
        steps: of the run, as many as the schedule allows.
    """
    schedule = make_schedule(spec.schedule)
    first = float(run_times(spec, schedule, steps)[0])
    signal = float(schedule.alpha(first)) ** 2
    return LateStart(spec.name, steps, first, signal) if signal > LARGEST_SIGNAL else None
