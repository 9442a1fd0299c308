"""The client for event loops: a bridge over the synchronous one, a thread for each call in flight.

    from runtime_client.async_client import AsyncClient

    async with AsyncClient("bundles/emoji-1", server="host:7860") as client:
        async for event in client.events(GenerateRequest(prompt="a robot, noto style")):
            ...

No logic of its own: what a call does, `client` knows. A task that is cancelled ends the work within
a step, and waits for that. Knows asyncio; neither hops nor servers.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from cascade.bundle.bundle import Bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.edit import Edit
from cascade.errors import CascadeError
from cascade.events import Event
from cascade.request import GenerateRequest, KeptPicture
from cascade.types import ImageU8
from runtime_client.client import Client, OnEvent
from runtime_client.config import DEFAULT_CUT, ClientConfig
from runtime_client.request_thread import ASK_AGAIN_S, RequestThread, on_loop
from runtime_client.result import Result

if TYPE_CHECKING:
    from cascade.family import PlanWarning
    from runtime_client.planning.capacity import CapacityPlan
    from runtime_client.planning.placement_plan import PlacementPlan, WhatIf

T = TypeVar("T")
END: Final = object()
"""What stands for the end of an iterator: `StopIteration` cannot be raised through a future."""


class AsyncClient:
    """Makes pictures from prompts, awaited. Belongs to no loop; several tasks may use it at once.

    Has the methods of `Client`, with the same arguments, results and errors.
    """

    def __init__(
        self,
        bundle: Bundle | Path | str,
        config: ClientConfig | None = None,
        **choices: Any,
    ) -> None:
        """See `Client`; nothing is started or loaded yet."""
        self._client = Client(bundle, config, **choices)
        self._threads: set[RequestThread] = set()

    @property
    def bundle(self) -> Bundle:
        """What it works with."""
        return self._client.bundle

    @property
    def config(self) -> ClientConfig:
        """How it works."""
        return self._client.config

    async def generate(  # noqa: PLR0913  as of `Client.generate`
        self,
        prompt: str,
        *,
        seed: int = 0,
        image_index: int = 0,
        options: Mapping[str, DiffusionOptions] | None = None,
        edit: Edit | None = None,
        vectors: Mapping[str, Any] | None = None,
        on_event: OnEvent | None = None,
    ) -> Result:
        """One picture from a prompt; see `Client.generate`."""
        told = on_loop(on_event)
        return await self._call(
            lambda client: client.generate(
                prompt,
                seed=seed,
                image_index=image_index,
                options=options,
                edit=edit,
                vectors=vectors,
                on_event=told,
            )
        )

    async def upscale(
        self,
        picture: ImageU8,
        *,
        prompt: str | None = None,
        seed: int = 0,
        first_stage: str | None = None,
        on_event: OnEvent | None = None,
    ) -> Result:
        """One's own picture, `[height, width, 3]` uint8 RGB, larger; see `Client.upscale`."""
        told = on_loop(on_event)
        return await self._call(
            lambda client: client.upscale(
                picture, prompt=prompt, seed=seed, first_stage=first_stage, on_event=told
            )
        )

    async def upscale_kept(
        self,
        kept: KeptPicture,
        *,
        prompt: str | None = None,
        seed: int = 0,
        options: Mapping[str, DiffusionOptions] | None = None,
        on_event: OnEvent | None = None,
    ) -> Result:
        """A picture that the server keeps, enlarged again; see `Client.upscale_kept`."""
        told = on_loop(on_event)
        return await self._call(
            lambda client: client.upscale_kept(
                kept, prompt=prompt, seed=seed, options=options, on_event=told
            )
        )

    async def run(self, request: GenerateRequest, *, on_event: OnEvent | None = None) -> Result:
        """One picture; see `Client.run`."""
        told = on_loop(on_event)
        return await self._call(lambda client: client.run(request, on_event=told))

    async def run_many(
        self, requests: Sequence[GenerateRequest], *, parallel: int = 4
    ) -> AsyncIterator[tuple[int, Result | CascadeError]]:
        """Many pictures as they end; see `Client.run_many`."""
        made = self._iterate(lambda client: client.run_many(requests, parallel=parallel))
        async with aclosing(made):
            async for item in made:
                yield item

    async def submit(self, request: GenerateRequest, *, on_event: OnEvent | None = None) -> str:
        """Leave a request to the server; see `Client.submit`."""
        told = on_loop(on_event)
        return await self._call(lambda client: client.submit(request, on_event=told))

    async def fetch(self, request_id: str, *, on_event: OnEvent | None = None) -> Result:
        """The picture of a request that was left to the server; see `Client.fetch`."""
        told = on_loop(on_event)
        return await self._call(lambda client: client.fetch(request_id, on_event=told))

    async def cancel(self, request_id: str) -> bool:
        """End a request that was left to the server; see `Client.cancel`."""
        return await self._call(lambda client: client.cancel(request_id))

    async def events(self, request: GenerateRequest) -> AsyncIterator[Event]:
        """Everything that happens while one picture is made; see `Client.events`.

        Leaving the loop, by `break` or by an exception, cancels; an iterator that is kept is closed
        by its `aclose`.
        """
        events = self._iterate(lambda client: client.events(request))
        async with aclosing(events):
            async for event in events:
                yield event

    def warnings(self, request: GenerateRequest) -> "tuple[PlanWarning, ...]":
        """What a request asks for that its stages were hardly trained for; waits for nothing."""
        return self._client.warnings(request)

    async def plan(
        self, request: GenerateRequest, what_if: "WhatIf | None" = None
    ) -> "PlacementPlan":
        """Where the components of a request would run; see `Client.plan`."""
        return await self._call(lambda client: client.plan(request, what_if))

    async def capacity(self, request: GenerateRequest, cut: int = DEFAULT_CUT) -> "CapacityPlan":
        """What replicas can do for requests like this one; see `Client.capacity`."""
        return await self._call(lambda client: client.capacity(request, cut))

    async def wait_ahead(self) -> None:
        """Wait until what is opened and measured between requests is done."""
        await self._call(lambda client: client.wait_ahead())

    async def close(self) -> None:
        """End what is in progress, wait for that, and release everything."""
        while busy := [thread for thread in self._threads if thread.is_busy]:
            for thread in busy:
                thread.ending.ask()
            await asyncio.sleep(ASK_AGAIN_S)
        await asyncio.to_thread(self._client.close)

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.close()

    async def _call(self, work: Callable[[Client], T]) -> T:
        """What a method of the synchronous client comes to, on a thread of its own."""
        with self._thread() as thread:
            return await thread.call(work, self._client.ended_by(thread.ending))

    async def _iterate(self, work: Callable[[Client], Iterator[T]]) -> AsyncGenerator[T, None]:
        """The items of an iterator of the synchronous client, each taken when it is asked for."""
        with self._thread() as thread:
            items: Any = work(self._client.ended_by(thread.ending))
            item: Any
            try:
                while (item := await thread.call(next, items, END)) is not END:
                    yield item
            finally:
                # On its own thread: a generator is closed where it runs.
                await thread.call(items.close)

    @contextmanager
    def _thread(self) -> Iterator[RequestThread]:
        """A thread for the length of a call."""
        thread = RequestThread()
        self._threads.add(thread)
        try:
            yield thread
        finally:
            self._threads.discard(thread)
            thread.close()
