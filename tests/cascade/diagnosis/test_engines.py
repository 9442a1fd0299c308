"""Engines, what is missing for a card, and whether anything was measured."""

from dataclasses import replace
from pathlib import Path

import pytest

from cascade.bundle.bundle import Bundle
from cascade.diagnosis.engines import (
    gpu_findings,
    installed_findings,
    of_built,
    plan_findings,
    try_engines,
)
from cascade.diagnosis.findings import Finding, Level
from cascade.engines.engine_cache import CACHE_FOLDER, CacheKey, EngineCache, Made
from cascade.engines.gpus import Gpus
from cascade.engines.kinds import EngineKind
from cascade.precision import Precision
from cascade.system.nvidia import Card, Nvidia
from cascade.tuning.records import Measurement, Tuning, tuning_key, write_tuning
from tests.support.tiny_bundle import write_tiny_bundle

ORT, CUDA, ORT_TRT = EngineKind.ORT, EngineKind.ORT_CUDA, EngineKind.ORT_TENSORRT
CARD = Nvidia(cards=(Card(name="NVIDIA L4", capability="8.9"),))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Stages with an 8-bit file."""
    return write_tiny_bundle(tmp_path_factory.mktemp("engines") / "bundle", int8=True)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of this user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "edge-cascade"


def by_name(bundle: Bundle, cache: Path, nvidia: Nvidia = Nvidia()) -> dict[str, Finding]:  # noqa: B008  frozen
    """The findings of the plan."""
    return {finding.name: finding for finding in plan_findings(bundle, nvidia, cache)}


def test_installed_engines_run_here() -> None:
    """Each in a process of its own."""
    findings = list(installed_findings(try_engines()))
    assert {f.name for f in findings} >= {"engine ort"}
    assert {f.level for f in findings} == {Level.OK}


def test_an_engine_that_cannot_run_is_an_error() -> None:
    """What the process of the trial said is told."""
    findings = list(installed_findings(try_engines(lambda _: "illegal instruction")))
    assert {f.level for f in findings} == {Level.ERROR}
    assert all(f.text == "installed, and cannot run: illegal instruction" for f in findings)
    assert "--force-reinstall --no-deps onnxruntime" in findings[0].remedy


@pytest.mark.parametrize(
    ("kinds", "gpus", "expected"),
    [
        ((ORT,), Gpus(), ("engines", Level.WARNING, "no engine for GPUs is installed")),
        (
            (ORT, CUDA),
            Gpus("NVIDIA L4", (), {CUDA: "libcudnn.so.9 is missing"}),
            ("engine ort-cuda", Level.WARNING, "cannot run: libcudnn.so.9 is missing"),
        ),
        ((ORT, CUDA), Gpus("NVIDIA L4", (CUDA,)), ("engine ort-cuda", Level.OK, "runs on NVIDIA")),
    ],
)
def test_what_lies_between_a_card_and_its_use(
    kinds: tuple[EngineKind, ...], gpus: Gpus, expected: tuple[str, Level, str]
) -> None:
    """The package, or what the trial of an installed engine said."""
    name, level, words = expected
    finding = next(f for f in gpu_findings(CARD, gpus, kinds) if f.name == name)
    assert (finding.level, words in finding.text) == (level, True)
    assert ("edge-cascade[gpu]" in finding.remedy) is (level is Level.WARNING)


def test_the_builds_for_cpus_go_first() -> None:
    """[cpu] and [gpu] bring two builds of one package."""
    (finding,) = gpu_findings(CARD, Gpus(), (ORT,))
    assert "uninstall -y onnxruntime && " in finding.remedy
    (finding,) = gpu_findings(CARD, Gpus(), ())
    assert "uninstall" not in finding.remedy
    assert list(gpu_findings(Nvidia(), Gpus(), (ORT,))) == []


def measured(bundle: Bundle, **versions: str) -> Tuning:
    """A record as `cascade tune` writes it, of this machine with other versions of some packages.

    float32 takes 10 ms, int8 of the stages 5 ms.
    """
    key = tuning_key(bundle.bundle_id, 0)
    stages = [c.name for c in bundle.manifest.components if c.family == "diffusion"]
    pairs = [(c.name, Precision.FP32) for c in bundle.manifest.components]
    pairs += [(name, Precision.INT8) for name in stages]
    return Tuning(
        key=replace(key, versions={**key.versions, **versions}),
        measurements=tuple(
            Measurement(
                component=name, kind=ORT, precision=precision, batch=1,
                step_ms=5.0 if precision is Precision.INT8 else 10.0,
                p10_ms=1, p90_ms=20, load_s=0, difference=0,
            )
            for name, precision in pairs
        ),
    )  # fmt: skip


def test_before_and_after_tune(bundle: Bundle, cache: Path) -> None:
    """Untuned is a warning with the command, tuned says when; each choice has its reason."""
    before = by_name(bundle, cache)
    assert before["tuned"].level is Level.WARNING
    assert before["tuned"].remedy == f"cascade tune {bundle.folder}"
    assert {"base", "sr16", "sr32"} <= set(before["tuned"].facts["untuned"])
    assert "not measured: the first engine installed" in before["base"].text
    write_tuning(cache / "tuning", measured(bundle))
    after = by_name(bundle, cache)
    assert (after["tuned"].level, after["tuned"].remedy) == (Level.OK, "")
    assert "measured here at 20" in after["tuned"].text
    assert "ms a picture, the fastest of 2" in after["base"].text
    facts = {"engine": "ort", "precision": "int8", "device": "CPU"}
    assert after["base"].facts == facts


def test_a_record_of_other_versions_is_told(bundle: Bundle, cache: Path) -> None:
    """It was measured, and an update of an engine made it void: the versions are named."""
    old = measured(bundle, onnxruntime="onnxruntime-1.0.0.dist-info")
    write_tuning(cache / "tuning", old)
    (cache / "tuning" / "broken.json").write_text("{")
    finding = by_name(bundle, cache)["tuned"]
    assert finding.level is Level.WARNING
    assert "measured before, and no longer true: onnxruntime 1.0.0 -> " in finding.text


def test_engines_built_for_another_card(bundle: Bundle, tmp_path: Path) -> None:
    """Those in the cache are counted by the card that they were built for."""
    cache = EngineCache(tmp_path / "engines" / CACHE_FOLDER)
    assert of_built(bundle, CARD, tmp_path).level is Level.WARNING
    for target, level in (("8.6 NVIDIA A10", Level.WARNING), ("8.9 NVIDIA L4", Level.OK)):
        key = CacheKey(
            graph_sha256="0" * 64, library="tensorrt", library_version="10", target=target,
            profile="", precision=Precision.FP16, flags=(),
        )  # fmt: skip
        cache.write(key, Made(b"engine", {}))
        assert of_built(bundle, CARD, tmp_path).level is level
    (cache.folder / "broken.engine").write_bytes(b"no engine")
    assert of_built(bundle, CARD, tmp_path).facts == {"built": 2, "fitting": 1}
