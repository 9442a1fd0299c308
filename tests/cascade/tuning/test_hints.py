"""Hints: an idle card and engines that nobody measured, said once and silenced by a variable."""

import json
from pathlib import Path

import pytest

from cascade.bundle.bundle import Bundle
from cascade.engines.gpus import NO_GPUS, Gpus
from cascade.engines.kinds import EngineKind
from cascade.precision import Precision
from cascade.system.processor import Processor
from cascade.tuning.hints import OFF, VARIABLE, as_line, hints_of, hints_wanted
from cascade.tuning.options import parse_engine_options
from cascade.tuning.plan import EnginePlan, Machine, make_plan
from cascade.tuning.records import Measurement, Tuning, tuning_key, write_tuning
from tests.support.command_line import cascade, generate_here, generate_split
from tests.support.serving import child_server
from tests.support.tiny_bundle import write_tiny_bundle

ORT, CUDA = EngineKind.ORT, EngineKind.ORT_CUDA
PLAIN = Processor(model="plain", flags=(), cores=2)
CARD = ("NVIDIA L4",)
ON = {VARIABLE: ""}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Stages with an 8-bit file: two ways to run each."""
    return write_tiny_bundle(tmp_path_factory.mktemp("hints") / "bundle", int8=True)


def plan_of(bundle: Bundle, engine: str = "auto", gpus: Gpus = NO_GPUS) -> EnginePlan:
    """The plan of a machine with ONNX Runtime, where nothing was measured."""
    kinds = (ORT,) if gpus == NO_GPUS else (ORT, CUDA)
    options = parse_engine_options(engine, "auto")
    return make_plan(bundle.manifest, options, Machine(kinds, PLAIN, None, gpus))


def events(plan: EnginePlan, cards: tuple[str, ...] = CARD) -> list[str]:
    """What there are hints of."""
    return [hint.event for hint in hints_of(plan, cards)]


def test_a_card_that_is_not_used(bundle: Bundle) -> None:
    """Without an engine for it, or with one that cannot run; not where it is used."""
    assert events(plan_of(bundle)) == ["gpu_unused", "untuned"]
    assert events(plan_of(bundle), ()) == ["untuned"]
    assert events(plan_of(bundle, gpus=Gpus(CARD[0], (CUDA,)))) == ["untuned"]
    broken = plan_of(bundle, gpus=Gpus(CARD[0], (), {CUDA: "libcudnn.so.9 is missing"}))
    line = as_line(hints_of(broken, CARD))
    assert "NVIDIA L4 is here and not used: ort-cuda: libcudnn.so.9 is missing; " in line
    assert "run `cascade tune`" in line
    assert line.endswith("(CASCADE_HINTS=off silences this)")


def test_what_was_asked_for_is_no_reason(bundle: Bundle) -> None:
    """Whoever names an engine has chosen it."""
    assert events(plan_of(bundle, "ort")) == []
    assert events(plan_of(bundle, "base=ort")) == ["gpu_unused", "untuned"]
    assert as_line(hints_of(EnginePlan(), CARD)) == ""


def test_the_variable_silences() -> None:
    """One word; anything else does not."""
    assert hints_wanted({})
    assert hints_wanted({VARIABLE: "on"})
    assert not hints_wanted({VARIABLE: OFF})


@pytest.mark.parametrize("split", [False, True])
def test_generate_says_it_once(bundle: Bundle, tmp_path: Path, *, split: bool) -> None:
    """One line before any work, also where the rest runs in a private server; -q is quiet."""
    arguments = (generate_split if split else generate_here)(bundle.folder, tmp_path / "a.png")
    said = cascade(*arguments, environment=ON).stderr
    assert said.count("hint: ") == said.count("cascade tune") == 1
    assert said.startswith("hint: ")
    for words, environment in (((), {VARIABLE: OFF}), (("-q",), ON), (("--json",), ON)):
        done = cascade(*arguments, *words, environment=environment)
        assert (done.returncode, "hint" in done.stderr) == (0, False)


def test_generate_says_nothing_once_it_is_measured(bundle: Bundle, tmp_path: Path) -> None:
    """The record of `cascade tune` ends it."""
    names = [component.name for component in bundle.manifest.components]
    record = Tuning(
        key=tuning_key(bundle.bundle_id, 1),
        measurements=tuple(
            Measurement(
                component=name, kind=ORT, precision=Precision.FP32, batch=1, step_ms=1, p10_ms=1,
                p90_ms=1, load_s=0, difference=0,
            )
            for name in names
        ),
    )  # fmt: skip
    write_tuning(tmp_path / "edge-cascade" / "tuning", record)
    arguments = generate_here(bundle.folder, tmp_path / "a.png")
    done = cascade(*arguments, environment={**ON, "XDG_CACHE_HOME": str(tmp_path)})
    assert (done.returncode, "hint" in done.stderr) == (0, False)


@pytest.mark.parametrize("value", ["", OFF])
def test_serve_logs_it_once(bundle: Bundle, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning with the event's name, after the server listens; off, there is none."""
    monkeypatch.setenv(VARIABLE, value)
    options = ("--listen", "127.0.0.1:0", "--threads", "1")
    with child_server(bundle.folder, *options) as (process, read_line):
        lines = [json.loads(read_line())]
        process.terminate()
        while line := read_line():
            lines.append(json.loads(line))
    found = [line for line in lines if line["event"] == "untuned"]
    assert len(found) == (0 if value == OFF else 1)
    for line in found:
        assert line["level"] == "warning"
        assert "run `cascade tune`" in line["text"]
