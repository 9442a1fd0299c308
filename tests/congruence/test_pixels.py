"""Pixels by groups: the same bits on every engine, at every cut, in every batch, and no other way.

The graphs are exact by construction (`tests/support/pixel_bundle.py`), so nothing here has a
tolerance: logits are compared bit for bit and not only what is decided by them.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle
from cascade.engines.factory import EngineChoice, open_engine
from cascade.engines.kinds import EngineKind, installed_kinds
from cascade.errors import Cancelled, DeadlineExceeded, InvalidRequest, QuotaExceeded
from cascade.events import Event, FellBack, Preview, Progress, StageFinished
from cascade.families import cost_of
from cascade.generate import generate
from cascade.pixels.guess import cell_sums
from cascade.pixels.request_options import PixelOptions
from cascade.precision import Precision
from cascade.request import GenerateRequest
from cascade.stage_factory import open_stage, open_stages
from cascade.system.processor import this_processor
from cascade.tuning.options import parse_engine_options
from cascade.tuning.plan import EnginePlan, Machine, make_plan
from cascade.types import Array
from runtime_client.client import Client
from runtime_client.config import ClientConfig
from runtime_server.telemetry.server_events import EngineRan, ServerEvent
from tests.congruence.children import LocalAnswers, serving
from tests.support.counting_engine import CountingEngine
from tests.support.pixel_bundle import STAGES, write_pixel_bundle
from tests.support.serving import RunningServer, running

CUTS = range(5)
REQUESTS = (
    GenerateRequest(prompt="a red apple, noto style", seed=1),
    GenerateRequest(prompt="a green cat", seed=2**64 - 1, image_index=3),
    GenerateRequest(
        prompt="cat , cat",
        options={
            "px8": PixelOptions(guidance_16=16, temperature_16=8),
            "px16": PixelOptions(floor_16=2, augmentation=0.3),
        },
    ),
    GenerateRequest(prompt="a cat", last_stage="px16", seed=7),
)
WAYS = [
    (kind, threads)
    for kind in installed_kinds()
    for threads in (1, 2, 4)
    if kind in (EngineKind.ORT, EngineKind.OPENVINO)
]


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Text, then three stages of three kinds."""
    return write_pixel_bundle(tmp_path_factory.mktemp("pixels") / "bundle")


@pytest.fixture(scope="module")
def slow_pixels(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same components, of whose passes each lasts a while."""
    return write_pixel_bundle(tmp_path_factory.mktemp("slow") / "bundle", slow_layers=60)


@pytest.fixture(scope="module")
def truth(pixels: Bundle) -> Iterator[LocalAnswers]:
    """Pictures made in this process alone."""
    local = LocalAnswers(pixels)
    yield local
    local.close()


@pytest.fixture(scope="module")
def sizes() -> list[tuple[str, int]]:
    """Of every run of the server: whose, and how many requests shared it."""
    return []


@pytest.fixture(scope="module")
def server(
    pixels: Bundle, sizes: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server of every component, where up to eight rows share a run."""

    def note(event: ServerEvent) -> None:
        if isinstance(event, EngineRan):
            sizes.append((event.stage, len(event.requests)))

    place = f"unix:{tmp_path_factory.mktemp('s') / 's'}"
    with running(pixels, listen=place, cut=0, max_batch_rows="8", emit=note) as started:
        yield started


@pytest.mark.parametrize("cut", CUTS)
def test_every_cut_makes_the_same_picture(
    pixels: Bundle, truth: LocalAnswers, server: RunningServer, cut: int
) -> None:
    """Client and server, for several prompts, seeds and options: every stage's, byte for byte."""
    with Client(pixels, server=server.address, cut=cut, threads=1) as client:
        for request in REQUESTS:
            result = client.run(request)
            expected = truth.images(request)
            assert (request.last_stage or "px32") in result.images
            for name, image in result.images.items():
                np.testing.assert_array_equal(image, expected[name], err_msg=name)


def test_parents_are_kept(truth: LocalAnswers) -> None:
    """The second stage's corners are the first's pixels, the third's means are the second's."""
    for request in REQUESTS[:3]:
        found = truth.images(request)
        assert (found["px16"][::2, ::2] == found["px8"]).all()
        assert ((cell_sums(found["px32"][None], 2) + 2) // 4 == found["px16"]).all()
        assert len(np.unique(found["px32"])) > 20


def test_options_and_seeds_change_the_picture(truth: LocalAnswers) -> None:
    """Each of them, so that none is read by nobody."""
    plain = GenerateRequest(prompt="a cat", seed=1)
    choices = [{"temperature_16": 40}, {"floor_16": 16}, {"guidance_16": 100}]
    others = [replace(plain, options={"px8": PixelOptions(**c)}) for c in choices]
    others.append(replace(plain, options={"px16": PixelOptions(augmentation=0.5)}))
    others += [
        replace(plain, seed=2),
        replace(plain, image_index=1),
        replace(plain, prompt="apple"),
    ]
    before = truth.images(plain)["px32"]
    assert all((truth.images(other)["px32"] != before).any() for other in others)


class AnswersKept:
    """An engine that keeps every answer."""

    def __init__(self, graph: bytes, choice: EngineChoice, heard: list[bytes]) -> None:
        self._engine, self._heard = open_engine(graph, choice), heard

    def run(self, inputs: Any) -> dict[str, Array]:
        """The engine's own answer, of which a copy stays."""
        found = self._engine.run(inputs)
        self._heard.extend(found[name].tobytes() for name in sorted(found))
        return found

    def terminate(self) -> None:
        """End a run."""
        self._engine.terminate()

    def close(self) -> None:
        """Release the engine."""
        self._engine.close()


def answers(bundle: Bundle, kind: EngineKind, threads: int) -> tuple[list[bytes], int]:
    """All features and logits of all requests on one engine, and how many values they decided."""
    heard: list[bytes] = []

    def make(graph: bytes, choice: EngineChoice) -> AnswersKept:
        return AnswersKept(graph, replace(choice, kind=kind, threads=threads), heard)

    stages = open_stages(bundle, range(4), EnginePlan(threads=1), make)
    decided = 0
    try:
        for request in REQUESTS[:3]:
            for event in generate(stages, request):
                if isinstance(event, StageFinished) and event.handoff.image is not None:
                    decided += event.handoff.image.size
    finally:
        for stage in stages:
            stage.close()
    return heard, decided


def test_every_engine_gives_the_same_bits(pixels: Bundle) -> None:
    """Features and logits: ONNX Runtime and OpenVINO in float32 with 1, 2 and 4 threads."""
    assert (EngineKind.ORT, 4) in WAYS
    first, decided = answers(pixels, EngineKind.ORT, 1)
    assert decided == 3 * 3 * (8 * 8 + 16 * 16 + 32 * 32)
    for kind, threads in WAYS[1:]:
        found, _ = answers(pixels, kind, threads)
        assert len(found) == len(first)
        assert sum(a != b for a, b in zip(first, found, strict=True)) == 0, (kind, threads)


def test_rows_at_different_passes_share_runs_and_stay_what_they_were(
    pixels: Bundle, truth: LocalAnswers, server: RunningServer, sizes: list[tuple[str, int]]
) -> None:
    """Twenty-four requests, eight at once: bodies and heads are shared, no bit is another."""
    requests = [replace(REQUESTS[seed % 3], seed=seed) for seed in range(24)]
    with (
        Client(pixels, server=server.address, cut=0, threads=1) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        results = list(pool.map(client.run, requests))
    for request, result in zip(requests, results, strict=True):
        np.testing.assert_array_equal(result.image, truth.images(request)["px32"])
    assert {stage for stage, count in sizes if count > 1} >= set(STAGES)


def test_progress_counts_passes_and_previews_are_whole_pictures(pixels: Bundle) -> None:
    """After any pass: what is known stands there, and a guess everywhere else."""
    request = replace(REQUESTS[0], preview_every=1)
    stages = open_stages(pixels, range(4), EnginePlan(threads=1))
    events = list(generate(stages, request))
    for stage in stages:
        stage.close()
    for name, (scheme, size) in STAGES.items():
        steps = [e for e in events if isinstance(e, Progress) and e.stage == name]
        assert steps == [
            Progress(name, k, scheme.passes, "pass") for k in range(1, scheme.passes + 1)
        ]
        shown = [e for e in events if isinstance(e, Preview) and e.stage == name]
        (end,) = [e for e in events if isinstance(e, StageFinished) and e.stage == name]
        assert [e.done for e in shown] == list(range(1, scheme.passes))
        assert all(e.image.shape == (size, size, 3) for e in shown)
        assert end.handoff.image is not None
        kept = [(e.image == end.handoff.image).mean() for e in shown]
        assert kept[-1] >= (scheme.passes - 1) / (scheme.passes + 1)


def test_closing_between_passes_ends_the_work(pixels: Bundle) -> None:
    """Nothing is run after it, and the stage is as good as before."""
    stage = open_stage(pixels, 1, EnginePlan(threads=1), CountingEngine)
    handoff = pixels_context(pixels)
    CountingEngine.runs = 0
    events = stage.run(REQUESTS[0], handoff)
    next(events)
    before = CountingEngine.runs
    events.close()  # type: ignore[attr-defined]
    assert CountingEngine.runs == before == 4
    assert isinstance(list(stage.run(REQUESTS[0], handoff))[-1], StageFinished)
    stage.close()


def pixels_context(bundle: Bundle) -> Any:
    """What the first stage of pixels starts from."""
    encoder = open_stage(bundle, 0, EnginePlan(threads=1))
    (*_, last) = encoder.run(REQUESTS[0], REQUESTS[0].start)
    encoder.close()
    assert isinstance(last, StageFinished)
    return last.handoff


def test_terminate_ends_a_pass_inside(slow_pixels: Bundle) -> None:
    """As `Cancelled`, from another thread; a later run is not affected."""
    stage = open_stage(slow_pixels, 1, EnginePlan(threads=1))
    handoff = pixels_context(slow_pixels)
    with ThreadPoolExecutor(1) as pool:
        running_stage = pool.submit(lambda: list(stage.run(REQUESTS[0], handoff)))
        while not running_stage.done():
            stage.terminate()
        with pytest.raises(Cancelled):
            running_stage.result()
    assert isinstance(list(stage.run(REQUESTS[0], handoff))[-1], StageFinished)
    stage.close()


def test_a_deadline_ends_it(slow_pixels: Bundle, tmp_path: Path) -> None:
    """Between two passes, wherever it runs."""
    with (
        running(slow_pixels, listen=f"unix:{tmp_path / 's'}", cut=0, refuse_late=False) as server,
        Client(slow_pixels, server=server.address, cut=0, timeout_s=0.05) as client,
        pytest.raises(DeadlineExceeded),
    ):
        client.run(REQUESTS[0])


def test_a_dead_server_falls_back_to_the_same_picture(slow_pixels: Bundle, tmp_path: Path) -> None:
    """Killed in mid-stage, the rest is made here, from the last stage that was finished."""
    local = LocalAnswers(slow_pixels)
    expected = local.images(REQUESTS[0])["px32"]
    local.close()
    address = f"unix:{tmp_path / 's'}"
    with serving(slow_pixels, address) as server:
        config = ClientConfig(server=address, fallback="local", threads=1)
        with Client(slow_pixels, config, cut=2) as client:
            events: list[Event] = []
            for event in client.events(REQUESTS[0]):
                here = isinstance(event, Progress) and event.stage == "px16"
                if here and not any(isinstance(e, Progress) for e in events):
                    server.kill()
                if here or isinstance(event, FellBack | StageFinished):
                    events.append(event)
    assert [type(e) for e in events].count(FellBack) == 1
    last = events[-1]
    assert isinstance(last, StageFinished)
    np.testing.assert_array_equal(last.handoff.image, expected)


def test_the_quota_counts_passes(pixels: Bundle, tmp_path: Path) -> None:
    """A picture's pixels for each; a second request would have to wait."""
    costs = [cost_of(spec) for spec in pixels.manifest.components[1:]]
    assert [dict(cost.runs) for cost in costs] == [
        {"pass": s.passes, "heads": s.head_runs} for s, _ in STAGES.values()
    ]
    assert [cost.pixels for cost in costs] == [4 * 64, 3 * 256, 4 * 1024]
    megapixels = 1.5 * sum(cost.pixels for cost in costs) / 1e6
    with (
        running(
            pixels,
            listen=f"unix:{tmp_path / 's'}",
            cut=0,
            quota_megapixels_per_minute=megapixels,
        ) as server,
        Client(pixels, server=server.address, cut=0, timeout_s=4) as client,
    ):
        client.run(REQUESTS[0])
        with pytest.raises(QuotaExceeded):
            client.run(replace(REQUESTS[0], seed=2))


def test_a_forecast_of_all_passes_refuses_what_would_be_late(
    slow_pixels: Bundle, tmp_path: Path
) -> None:
    """Once passes were timed: a later request with less time left is refused before any run."""
    runs: list[ServerEvent] = []

    def note(event: ServerEvent) -> None:
        if isinstance(event, EngineRan):
            runs.append(event)

    with running(slow_pixels, listen=f"unix:{tmp_path / 's'}", cut=0, emit=note) as server:
        with Client(slow_pixels, server=server.address, cut=0) as client:
            client.run(REQUESTS[0])
        made = len(runs)
        assert made == 1 + sum(s.passes + s.head_runs for s, _ in STAGES.values())
        with (
            Client(slow_pixels, server=server.address, cut=0, timeout_s=0.05) as client,
            pytest.raises(DeadlineExceeded),
        ):
            client.run(replace(REQUESTS[0], seed=2))
        assert len(runs) == made


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP16, Precision.INT8])
def test_an_exact_component_is_computed_in_float32_alone(
    pixels: Bundle, precision: Precision
) -> None:
    """Every other plan is refused, by the planner and again where the stage is opened."""
    kinds: Sequence[EngineKind] = (EngineKind.ORT, EngineKind.OPENVINO, EngineKind.TENSORRT)
    machine = Machine(tuple(kinds), this_processor(), None)
    with pytest.raises(InvalidRequest, match=r"precision: px8 is exact in fp32 alone|no int8 file"):
        make_plan(pixels.manifest, parse_engine_options("auto", f"px8={precision}"), machine)
    plan = EnginePlan({"px8": EngineChoice(EngineKind.ORT, precision, 1)})
    with pytest.raises(InvalidRequest, match="px8 is exact in fp32 alone"):
        open_stage(pixels, 1, plan)
    assert make_plan(pixels.manifest, parse_engine_options("auto", "auto"), machine)
