"""generate: run the list of stages in order.

This is the whole orchestration, on a device, on a server and in tests alike: where a stage runs is
which object stands in the list.
"""

from collections.abc import Iterator, Sequence

from cascade.errors import StageError
from cascade.events import Event, StageFinished
from cascade.request import GenerateRequest, Handoff
from cascade.stage import Stage


def generate(
    stages: Sequence[Stage], request: GenerateRequest, start: Handoff | None = None
) -> Iterator[Event]:
    """Make one picture.

    Args:
        stages: what to run, in order; already cut to end where the request ends.
        request: what to make.
        start: what is already there; the request's prompt alone when None.

    Yields:
        The events of every stage; the last `StageFinished` carries the picture.

    Raises:
        CascadeError: whatever a stage raised; the stages stay usable.
    """
    handoff = start if start is not None else Handoff(prompt=request.prompt)
    for index, stage in enumerate(stages):
        # Before the stage runs: a remote stage uploads the context while this machine computes.
        for later in stages[index + 1 :]:
            later.prefetch(handoff)
        finished: StageFinished | None = None
        events = stage.run(request, handoff)
        try:
            for event in events:
                if isinstance(event, StageFinished):
                    finished = event
                yield event
        finally:
            # Also when the caller stops in the middle: closing is cancelling.
            close = getattr(events, "close", None)
            if close is not None:
                close()
        if finished is None:
            raise StageError(f"stage {stage.names[-1]} ended without a result")
        handoff = finished.handoff
