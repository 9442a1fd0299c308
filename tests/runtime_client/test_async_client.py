"""The client for event loops: the same pictures, and nothing left behind however a task ends."""

import asyncio
import inspect
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest

from benchmarks.async_client import cancel_often
from cascade.bundle.bundle import Bundle
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import Cancelled, InvalidRequest
from cascade.events import Progress, StageFinished
from cascade.request import GenerateRequest
from runtime_client.async_client import AsyncClient
from runtime_client.client import Client
from tests.support.serving import PROMPT, RunningServer, running

FEW = {n: DiffusionOptions(steps=2) for n in ("base", "sr16", "sr32")}
QUICK = GenerateRequest(prompt=PROMPT, seed=3, options=FEW)
LONG = GenerateRequest(
    prompt=PROMPT,
    options={n: DiffusionOptions(steps=1000 if n != "base" else 1) for n in FEW},
)
PATIENCE_S = 60.0
SYNCHRONOUS = {"ended_by", "close", "warnings"}


@pytest.fixture(scope="module")
def server(slow_bundle: Bundle) -> Iterator[RunningServer]:
    """A server whose long requests take many seconds."""
    with running(slow_bundle, max_in_flight=256, max_in_flight_per_identity=256) as running_server:
        yield running_server


@pytest.fixture
def client(server: RunningServer, slow_bundle: Bundle) -> Iterator[AsyncClient]:
    """A client of it, closed by each test; then neither a thread nor a request is left."""
    yield AsyncClient(slow_bundle, server=server.address, cut=0, threads=1)
    until_nothing_is_left(server)


def async_threads() -> list[str]:
    """Threads of asynchronous calls."""
    return [t.name for t in threading.enumerate() if t.name.startswith("cascade-async")]


def until_nothing_is_left(server: RunningServer) -> None:
    """Wait until no request is at the server and no thread of a call is here."""
    until = time.monotonic() + PATIENCE_S
    while async_threads() or not server.is_at_rest:
        assert time.monotonic() < until, (async_threads(), server.core.executor.counts)
        time.sleep(0.01)


async def until_stage(events: AsyncIterator[object], stage: str) -> None:
    """Take events up to the first step of a stage."""
    async for event in events:
        if isinstance(event, Progress) and event.stage == stage:
            return


def test_the_methods_are_those_of_the_synchronous_client() -> None:
    """Same names, same parameters, same defaults; what waits there is awaited here."""
    theirs = {n: f for n, f in vars(Client).items() if inspect.isfunction(f) and n[0] != "_"}
    for name in theirs.keys() - SYNCHRONOUS:
        ours = getattr(AsyncClient, name)
        assert inspect.iscoroutinefunction(ours) or inspect.isasyncgenfunction(ours), name
        assert inspect.signature(ours).parameters == inspect.signature(theirs[name]).parameters
    assert inspect.signature(AsyncClient.warnings) == inspect.signature(Client.warnings)
    assert inspect.signature(AsyncClient).parameters == inspect.signature(Client).parameters


def test_the_picture_is_the_synchronous_one(
    client: AsyncClient, server: RunningServer, slow_bundle: Bundle
) -> None:
    """From `generate`, from the events, and from many at once."""
    with Client(slow_bundle, server=server.address, cut=0) as plain:
        right = plain.run(QUICK).image

    async def ask() -> None:
        heard: list[object] = []
        async with client:
            result = await client.generate(PROMPT, seed=3, options=FEW, on_event=heard.append)
            finished = [
                event async for event in client.events(QUICK) if isinstance(event, StageFinished)
            ]
            many = [made async for made in client.run_many([QUICK])]
        assert np.array_equal(result.image, right)
        assert np.array_equal(finished[-1].handoff.image, right)
        assert np.array_equal(many[0][1].image, right)
        assert any(isinstance(event, StageFinished) for event in heard)

    asyncio.run(ask())


def test_two_hundred_at_once(bundle: Bundle) -> None:
    """Each ends with a picture of its own seed."""
    requests = [GenerateRequest(prompt=PROMPT, seed=n, last_stage="base") for n in range(200)]

    async def ask(address: str) -> None:
        async with AsyncClient(bundle, server=address, cut=0) as client:
            results = await asyncio.gather(*map(client.run, requests))
        assert [result.seed for result in results] == list(range(200))
        assert len({result.image.tobytes() for result in results}) == 200

    with running(bundle) as server:
        asyncio.run(ask(server.address))
        until_nothing_is_left(server)


def test_a_cancelled_task_ends_the_work_before_it_ends(
    client: AsyncClient, server: RunningServer
) -> None:
    """As `asyncio` means it: the task is cancelled, and not ended by an error of ours."""

    async def ask() -> None:
        async with client:
            begun = asyncio.Event()
            task = asyncio.create_task(client.run(LONG, on_event=lambda _: begun.set()))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not async_threads() or not client._threads
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await client.run(LONG)

    asyncio.run(ask())


@pytest.mark.parametrize("leaves_by", ["break", "exception", "aclose"])
def test_leaving_the_events_cancels(
    client: AsyncClient, server: RunningServer, leaves_by: str
) -> None:
    """While the client stays open and the loop goes on."""

    async def leave() -> None:
        async for event in client.events(LONG):
            if isinstance(event, Progress) and event.stage == "sr16":
                if leaves_by == "exception":
                    raise ZeroDivisionError
                break

    async def ask() -> None:
        async with client:
            if leaves_by == "aclose":
                events = client.events(LONG)
                await until_stage(events, "sr16")
                await events.aclose()
            elif leaves_by == "exception":
                with pytest.raises(ZeroDivisionError):
                    await leave()
            else:
                await leave()
            await asyncio.to_thread(until_nothing_is_left, server)

    asyncio.run(ask())


def test_an_exception_in_the_body_ends_what_runs(client: AsyncClient) -> None:
    """Closing waits until the calls of other tasks have ended; each of them is told."""

    async def ask() -> None:
        tasks = []

        async def break_down() -> None:
            begun = asyncio.Event()
            async with client:
                tasks.append(asyncio.create_task(client.run(LONG, on_event=lambda _: begun.set())))
                await begun.wait()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await break_down()
        with pytest.raises(Cancelled):
            await tasks[0]

    asyncio.run(ask())


def test_what_a_callback_raises_ends_the_call(client: AsyncClient) -> None:
    """It runs on the loop, and its error comes out of the call."""

    async def ask() -> None:
        loop = asyncio.get_running_loop()

        def refuse(event: object) -> None:
            assert asyncio.get_running_loop() is loop
            raise ZeroDivisionError

        async with client:
            with pytest.raises(ZeroDivisionError):
                await client.run(LONG, on_event=refuse)
            with pytest.raises(InvalidRequest):
                await client.generate("")

    asyncio.run(ask())


def test_work_on_this_machine_ends_within_its_step(slow_bundle: Bundle) -> None:
    """Waiting for its turn at an engine, or inside a run."""

    async def ask() -> None:
        async with AsyncClient(slow_bundle, cut=4, threads=1) as here:
            counts = [0, 0]

            def count(at: int) -> object:
                return lambda _: counts.__setitem__(at, counts[at] + 1)

            tasks = [asyncio.create_task(here.run(LONG, on_event=count(at))) for at in range(2)]
            while not all(counts):
                await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ends)
            # The engines are usable again.
            quick = await here.run(GenerateRequest(prompt=PROMPT, last_stage="base", options=FEW))
            assert quick.image.shape == (8, 8, 3)

    asyncio.run(ask())


def test_it_detaches_and_fetches(client: AsyncClient) -> None:
    """In a loop that was running before there was a client, as in a notebook."""

    async def ask() -> None:
        async with client:
            request_id = await client.submit(QUICK)
            result = await client.fetch(request_id)
            assert result.image.shape == (32, 32, 3)
            assert await client.cancel(request_id)
            assert not await client.cancel(request_id)

    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(ask())
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def test_sixty_cancels_at_random_moments_leave_nothing(
    client: AsyncClient, server: RunningServer
) -> None:
    """By the task, by a timeout and by leaving the events."""

    async def ask() -> None:
        async with client:
            chance = random.Random(4)
            settled = await cancel_often(client, 60, chance, lambda: server.is_at_rest)
        assert settled.count(None) == 0
        assert len(settled) == 60

    asyncio.run(ask())
