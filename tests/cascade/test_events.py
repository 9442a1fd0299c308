"""The events: how often progress passes."""

from cascade.events import Event, Progress, ProgressThrottle, StageFinished
from cascade.request import Handoff


def test_progress_passes_at_most_so_often() -> None:
    """Steps of 20 ms pass every 60 ms; the first and the last of a stage always, others too."""
    now = 0.0
    throttle = ProgressThrottle(lambda: now, interval_s=0.05)
    passed: list[Event] = []
    steps: list[Event] = [Progress("a", done, 9) for done in range(1, 10)]
    for event in (*steps, StageFinished("a", Handoff()), Progress("b", 1, 2)):
        if throttle.passes(event):
            passed.append(event)
        now += 0.02
    done = [event.done for event in passed if isinstance(event, Progress) and event.stage == "a"]
    assert done == [1, 4, 7, 9]
    assert passed[-2:] == [StageFinished("a", Handoff()), Progress("b", 1, 2)]
