"""Several requests at once, each with an end of its own: one that fails costs the others nothing.

Knows threads and errors; neither what a request is nor what comes of it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TypeVar

from cascade.errors import CascadeError

Request = TypeVar("Request")
Made = TypeVar("Made")


def in_parallel(
    run: Callable[[Request], Made], requests: Sequence[Request], parallel: int
) -> Iterator[tuple[int, Made | CascadeError]]:
    """What comes of every request, as it ends.

    Closing the iterator begins no further request; those that run are the caller's to end.

    Args:
        run: does one.
        requests: all of them.
        parallel: how many run at once, from 1.

    Yields:
        The place of a request among the others, and its result or why there is none.
    """
    pool = ThreadPoolExecutor(parallel, thread_name_prefix="cascade-request")
    try:
        running: dict[Future[Made], int] = {
            pool.submit(run, request): at for at, request in enumerate(requests)
        }
        for done in as_completed(running):
            # Results are large: nothing here keeps one after it was taken.
            at = running.pop(done)
            error = done.exception()
            if error is not None and not isinstance(error, CascadeError):
                raise error
            yield at, error if isinstance(error, CascadeError) else done.result()
    finally:
        # Not waited for: an interrupted caller closes its client, which ends what runs.
        pool.shutdown(wait=False, cancel_futures=True)
