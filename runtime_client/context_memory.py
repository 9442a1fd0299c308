"""Contexts that a server made, kept by prompt: one that is asked for again is not downloaded again.

A stage around the hop of a text encoder that runs alone. Knows prompts and contexts; not where the
encoder runs.
"""

import threading
from collections import OrderedDict
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from typing import cast

from cascade.events import Event, StageFinished
from cascade.request import GenerateRequest, Handoff
from cascade.stage import Stage

MOST_PROMPTS = 64
"""Kept of one client; a context of the reference bundle takes about 20 kB."""
Key = tuple[str, str]
"""A prompt, and the place of the encoder: another engine rounds otherwise."""


class ContextMemory:
    """The results of text encoders elsewhere, the least recently used forgotten first."""

    def __init__(self, most: int = MOST_PROMPTS) -> None:
        """Nothing kept."""
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, StageFinished] = OrderedDict()

    def find(self, key: Key) -> StageFinished | None:
        """What was kept under that key."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def keep(self, key: Key, finished: StageFinished) -> None:
        """Keep a result; its seconds were spent once."""
        with self._lock:
            self._kept[key] = StageFinished(finished.stage, finished.handoff, {}, finished.computed)
            self._kept.move_to_end(key)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


class RememberedStage:
    """A text encoder elsewhere that is asked once for each prompt."""

    def __init__(self, stage: Stage, memory: ContextMemory, place: str) -> None:
        """A stage.

        Args:
            stage: the encoder, alone.
            memory: of the client.
            place: where the encoder runs.
        """
        self._stage = stage
        self._memory = memory
        self._place = place

    @property
    def names(self) -> tuple[str, ...]:
        """The encoder's name."""
        return self._stage.names

    def prefetch(self, handoff: Handoff) -> None:
        """See `Stage.prefetch`."""
        self._stage.prefetch(handoff)

    def run(self, request: GenerateRequest, handoff: Handoff) -> Iterator[Event]:
        """The kept context of the handoff's prompt, or what the encoder makes of it."""
        key = (handoff.prompt or "", self._place)
        known = self._memory.find(key)
        if known is not None:
            # What the request brings is its own; what was made of the words is the memory's.
            vectors = {**known.handoff.vectors, **handoff.vectors}
            yield replace(known, handoff=replace(known.handoff, vectors=vectors))
            return
        events = cast(Generator[Event, None, None], self._stage.run(request, handoff))
        with closing(events):
            for event in events:
                if isinstance(event, StageFinished):
                    self._memory.keep(key, event)
                yield event

    def terminate(self) -> None:
        """See `Stage.terminate`."""
        self._stage.terminate()

    def close(self) -> None:
        """See `Stage.close`."""
        self._stage.close()
