"""From options to a plan: what is requested, what was measured, what is safe; and the record."""

import dataclasses
import os
from pathlib import Path

import pytest

from cascade.bundle.bundle import Bundle
from cascade.engines.factory import EngineChoice, EngineKind
from cascade.errors import InvalidRequest
from cascade.precision import Precision
from cascade.system.processor import Processor, read_cpuinfo, this_processor
from cascade.system.user_cache import user_cache_folder
from cascade.tuning.options import parse_engine_options
from cascade.tuning.plan import (
    EnginePlan,
    Machine,
    auto_precisions,
    file_precisions,
    make_plan,
    plan_here,
    requested_precisions,
)
from cascade.tuning.records import (
    FORMAT,
    Measurement,
    Tuning,
    TuningKey,
    read_tuning,
    tuning_key,
    write_tuning,
)
from tests.support.tiny_bundle import write_tiny_bundle

PLAIN = Processor(model="old", flags=("avx2",), cores=2)
VNNI = Processor(model="new", flags=("avx2", "avx512_vnni"), cores=2)
TILES = Processor(model="newest", flags=("amx_bf16", "amx_int8"), cores=2)
ORT, OPENVINO = EngineKind.ORT, EngineKind.OPENVINO
FP32, INT8, BF16 = Precision.FP32, Precision.INT8, Precision.BF16
FLAGS = {
    "Zen 3": "avx avx2 fma f16c sha_ni vaes vpclmulqdq fsrm",
    "Ice Lake": "avx2 fma f16c avx512f avx512bw avx512vl avx512_vnni avx512_vbmi2",
    "Zen 4": "avx2 fma f16c avx512f avx512bw avx512vl avx512_bf16 avx512_vnni fsrm",
    "Zen 5": "avx2 avx_vnni avx512f avx512vl avx512_bf16 avx512_vnni avx512_vp2intersect",
    "Sapphire Rapids": "avx2 avx512f avx512_bf16 avx512_vnni amx_bf16 avx512_fp16 amx_int8",
}
CPUINFO = {
    model: f"processor\t: 0\nmodel name\t: {model}\nflags\t\t: {flags}\n\nprocessor\t: 1\n"
    for model, flags in FLAGS.items()
}
"""What `/proc/cpuinfo` says, shortened to the flags that decide here and some neighbours."""
CPUINFO_HALVES = {
    "Zen 3": [],
    "Ice Lake": [],
    "Zen 4": [Precision.BF16],
    "Zen 5": [Precision.BF16],
    "Sapphire Rapids": [Precision.FP16, Precision.BF16],
}
"""And the half precisions that these processors compute in."""
STAGES = ("base", "sr16", "sr32")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Stages with an 8-bit file, a text encoder without."""
    return write_tiny_bundle(tmp_path_factory.mktemp("plan") / "bundle", int8=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Float32 only."""
    return write_tiny_bundle(tmp_path_factory.mktemp("plan") / "plain")


def machine(
    processor: Processor = PLAIN,
    kinds: tuple[EngineKind, ...] = (ORT, OPENVINO),
    tuning: Tuning | None = None,
) -> Machine:
    """A machine that is not this one."""
    return Machine(kinds, processor, tuning)


def measured(*rows: tuple[str, EngineKind, Precision, float, str]) -> Tuning:
    """A record of those components, engines, precisions, milliseconds and failures."""
    key = TuningKey(format=FORMAT, bundle_id="b", processor=PLAIN, versions={"o": "1"}, threads=0)
    return Tuning(
        key=key,
        measurements=tuple(
            Measurement(
                component=component,
                kind=kind,
                precision=precision,
                batch=1,
                step_ms=step_ms,
                p10_ms=step_ms,
                p90_ms=step_ms,
                load_s=0.1,
                difference=0.0,
                failed=failed,
            )
            for component, kind, precision, step_ms, failed in rows
        ),
    )


def pairs(plan: EnginePlan) -> dict[str, tuple[EngineKind, Precision]]:
    """Engine and precision by component."""
    return {name: (choice.kind, choice.precision) for name, choice in plan.choices.items()}


def test_unmeasured_everything_is_float32_in_onnx_runtime(bundle: Bundle) -> None:
    """Where the processor has no instructions for bytes."""
    plan = make_plan(bundle.manifest, parse_engine_options("auto", "auto"), machine())
    assert set(pairs(plan).values()) == {(ORT, FP32)}


def test_unmeasured_eight_bits_need_their_instructions(bundle: Bundle) -> None:
    """With them, every component that has an 8-bit file uses it."""
    plan = make_plan(bundle.manifest, parse_engine_options("auto", "auto"), machine(VNNI))
    assert pairs(plan) == {"text_encoder": (ORT, FP32), **dict.fromkeys(STAGES, (ORT, INT8))}


def test_what_was_measured_fastest_is_taken_and_what_failed_is_not(bundle: Bundle) -> None:
    """Per component; a component without a measurement falls back to what is safe."""
    tuning = measured(
        ("base", ORT, FP32, 3.0, ""),
        ("base", OPENVINO, INT8, 2.0, ""),
        ("sr16", ORT, FP32, 3.0, ""),
        ("sr16", OPENVINO, FP32, 0.0, "it ended the process (signal 11)"),
    )
    plan = make_plan(bundle.manifest, parse_engine_options("auto", "auto"), machine(tuning=tuning))
    found = pairs(plan)
    assert found["base"] == (OPENVINO, INT8)
    assert found["sr16"] == (ORT, FP32)
    assert found["sr32"] == (ORT, FP32)


def test_bfloat16_is_taken_where_it_was_measured_in_tiles(bundle: Bundle) -> None:
    """Exact before 8 bits where both take the same time; never untried, never without tiles."""
    tuning = measured(
        ("base", ORT, FP32, 9.0, ""),
        ("base", OPENVINO, BF16, 5.0, ""),
        ("sr16", ORT, FP32, 9.0, ""),
        ("sr16", OPENVINO, BF16, 5.2, ""),
        ("sr16", OPENVINO, INT8, 5.0, ""),
        ("sr32", ORT, FP32, 9.0, ""),
        ("sr32", OPENVINO, BF16, 5.0, "too far from float32: 0.06"),
    )
    auto = parse_engine_options("auto", "auto")
    found = pairs(make_plan(bundle.manifest, auto, machine(TILES, tuning=tuning)))
    expected = {"base": (ORT, FP32), "sr16": (OPENVINO, BF16), "sr32": (ORT, FP32)}
    assert {name: found[name] for name in STAGES} == expected
    asked = parse_engine_options("auto", "base=bf16")
    found = pairs(make_plan(bundle.manifest, asked, machine(TILES, tuning=tuning)))
    assert found["base"] == (OPENVINO, BF16)
    found = pairs(make_plan(bundle.manifest, auto, machine(VNNI, tuning=tuning)))
    assert found["sr16"] == (OPENVINO, INT8)
    for engine_options in (auto, parse_engine_options("openvino", "auto")):
        untried = pairs(make_plan(bundle.manifest, engine_options, machine(TILES)))
        assert BF16 not in {precision for _, precision in untried.values()}


def test_eight_bits_that_change_pictures_are_taken_only_when_asked_for(tmp_path: Path) -> None:
    """Measured fastest or not, on a processor with their instructions."""
    manifest = write_tiny_bundle(tmp_path / "far", int8=True, picture_db=32.0).manifest
    tuning = measured(("base", ORT, FP32, 9.0, ""), ("base", ORT, INT8, 1.0, ""))
    for known in (None, tuning):
        here = machine(VNNI, tuning=known)
        assert pairs(make_plan(manifest, parse_engine_options("auto", "auto"), here))["base"] == (
            ORT,
            FP32,
        )
        asked = pairs(make_plan(manifest, parse_engine_options("auto", "base=int8"), here))
        assert asked["base"] == (ORT, INT8)


def test_what_tune_measures(bundle: Bundle) -> None:
    """Files, and bfloat16 of the engine that uses the processor's tiles."""
    text, base, upscaler, _ = bundle.manifest.components
    assert auto_precisions(upscaler, ORT, TILES) == [FP32, INT8]
    assert auto_precisions(upscaler, OPENVINO, TILES) == [FP32, BF16, INT8]
    assert auto_precisions(upscaler, OPENVINO, VNNI) == [FP32, INT8]
    for model, halves in CPUINFO_HALVES.items():
        name, flags = read_cpuinfo(CPUINFO[model])
        here = Processor(model=name, flags=flags, cores=2)
        assert auto_precisions(upscaler, OPENVINO, here) == [FP32, *halves, INT8], model
        assert auto_precisions(upscaler, ORT, here) == [FP32, INT8], model
        assert auto_precisions(base, OPENVINO, here) == [FP32, INT8], model
    assert auto_precisions(upscaler, EngineKind.ORT_TENSORRT, TILES) == [FP32, INT8]
    assert auto_precisions(base, OPENVINO, TILES) == [FP32, INT8]
    assert auto_precisions(text, OPENVINO, TILES) == [FP32]


def test_a_wish_narrows_what_was_measured(bundle: Bundle) -> None:
    """The fastest of what was asked for."""
    tuning = measured(
        ("base", ORT, FP32, 3.0, ""),
        ("base", ORT, INT8, 2.0, ""),
        ("base", OPENVINO, INT8, 1.0, ""),
    )
    for engine, precision, expected in (
        ("ort", "auto", (ORT, INT8)),
        ("auto", "fp32", (ORT, FP32)),
        ("ort", "base=fp32", (ORT, FP32)),
        ("base=openvino", "int8", (OPENVINO, INT8)),
    ):
        engine_options = parse_engine_options(engine, precision)
        found = pairs(make_plan(bundle.manifest, engine_options, machine(tuning=tuning)))
        assert found["base"] == expected, (engine, precision)


def test_a_precision_means_the_bundles_files(bundle: Bundle, plain: Bundle) -> None:
    """It is the same on every machine: files where there are, float32 for the rest."""
    asked = requested_precisions(bundle.manifest, parse_engine_options("auto", "int8"))
    assert asked == {"text_encoder": FP32, **dict.fromkeys(STAGES, INT8)}
    assert requested_precisions(bundle.manifest, parse_engine_options("ort", "auto")) == {}
    assert requested_precisions(bundle.manifest, parse_engine_options("auto", "sr16=int8")) == {
        "sr16": INT8
    }
    assert set(
        requested_precisions(bundle.manifest, parse_engine_options("auto", "bf16")).values()
    ) == {BF16}
    with pytest.raises(InvalidRequest, match="no int8 file") as refused:
        requested_precisions(plain.manifest, parse_engine_options("auto", "int8"))
    assert refused.value.field == "precision"


def test_a_precision_without_files_is_for_an_engine_that_makes_it(bundle: Bundle) -> None:
    """OpenVINO turns float32 into bf16, ONNX Runtime does not."""
    plan = make_plan(bundle.manifest, parse_engine_options("auto", "bf16"), machine())
    assert set(pairs(plan).values()) == {(OPENVINO, BF16)}
    with pytest.raises(InvalidRequest, match="computes text_encoder in bf16"):
        make_plan(bundle.manifest, parse_engine_options("ort", "bf16"), machine())


def test_only_what_runs_here_is_planned(bundle: Bundle) -> None:
    """What other components need is not asked of this machine."""
    engine_options = parse_engine_options("ort", "base=fp32,sr32=bf16")
    assert list(make_plan(bundle.manifest, engine_options, machine(), (1,)).choices) == ["base"]
    with pytest.raises(InvalidRequest, match="sr32"):
        make_plan(bundle.manifest, engine_options, machine())
    with pytest.raises(InvalidRequest, match="pip install"):
        make_plan(bundle.manifest, parse_engine_options("auto", "auto"), machine(kinds=()))


@pytest.mark.parametrize(
    ("engine", "precision", "field"),
    [
        ("fast", "auto", "engine"),
        ("", "auto", "engine"),
        ("=ort", "auto", "engine"),
        ("base=ort,base=openvino", "auto", "engine"),
        ("auto", "int4", "precision"),
        ("auto", "base=", "precision"),
    ],
)
def test_words_that_mean_nothing_are_refused(engine: str, precision: str, field: str) -> None:
    """With the words that would mean something."""
    with pytest.raises(InvalidRequest, match="expected auto, ") as refused:
        parse_engine_options(engine, precision)
    assert refused.value.field == field


def test_names_must_be_the_bundles(bundle: Bundle) -> None:
    """An option for a component that is not there is a mistake, not nothing."""
    with pytest.raises(InvalidRequest, match="no component 'sr64'") as refused:
        plan_here(bundle.manifest, parse_engine_options("sr64=ort", "auto"))
    assert refused.value.field == "engine"


def test_a_plan_survives_the_command_line(bundle: Bundle) -> None:
    """A private server is told the plan as text and makes the same one."""
    engine_options = parse_engine_options("base=openvino", "sr16=int8", 1)
    plan = make_plan(bundle.manifest, engine_options, machine())
    again = make_plan(bundle.manifest, parse_engine_options(*plan.texts, 1), machine())
    assert again.choices == plan.choices
    assert plan.of("base") == EngineChoice(OPENVINO, FP32, 1)
    assert EnginePlan(threads=3).of("anything") == EngineChoice(ORT, FP32, 3)


def test_files_are_listed_float32_first(bundle: Bundle) -> None:
    """The order in which they are preferred."""
    assert file_precisions(bundle.manifest.components[0]) == (FP32,)
    assert file_precisions(bundle.manifest.components[1]) == (FP32, INT8)


def test_a_record_is_found_again_under_its_key_only(tmp_path: Path) -> None:
    """Every part of the key counts: another bundle, processor, version or number of threads."""
    tuning = measured(("base", ORT, FP32, 3.0, ""))
    write_tuning(tmp_path / "t", tuning)
    assert read_tuning(tmp_path / "t", tuning.key) == tuning
    for change in (
        {"format": FORMAT + 1},
        {"bundle_id": "c"},
        {"processor": VNNI},
        {"processor": dataclasses.replace(PLAIN, cores=3)},
        {"versions": {"o": "2"}},
        {"threads": 1},
    ):
        other = dataclasses.replace(tuning.key, **change)  # type: ignore[arg-type]
        assert other.file_name != tuning.key.file_name
        assert read_tuning(tmp_path / "t", other) is None


def test_a_record_that_is_not_whole_is_as_good_as_none(tmp_path: Path) -> None:
    """Truncated, of another kind, renamed from another key, too long, or a folder."""
    tuning = measured(("base", ORT, FP32, 3.0, ""))
    path = write_tuning(tmp_path, tuning)
    assert list(tmp_path.iterdir()) == [path]
    whole = path.read_text()
    other = dataclasses.replace(tuning.key, bundle_id="c")
    (tmp_path / other.file_name).write_text(whole)
    assert read_tuning(tmp_path, other) is None
    for broken in ("", whole[:-20], "[]", "{}", whole.replace('"ort"', '"none"'), "9" * (2 << 20)):
        path.write_text(broken)
        assert read_tuning(tmp_path, tuning.key) is None
    path.unlink()
    path.mkdir()
    assert read_tuning(tmp_path, tuning.key) is None


def test_the_key_of_this_machine_stays_the_same() -> None:
    """Two looks in a row, or nothing measured would ever be found."""
    assert tuning_key("b", 2) == tuning_key("b", 2)
    assert "onnxruntime" in tuning_key("b", 2).versions
    assert this_processor().cores >= 1


def test_processors_are_read_in_both_dialects() -> None:
    """What Linux says on x86 and on ARM; elsewhere nothing is known."""
    x86 = "processor\t: 0\nmodel name\t: EPYC 9\nflags\t\t: sse avx512_vnni\n\nprocessor\t: 1\n"
    arm = "processor\t: 0\nFeatures\t: fp asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"
    assert read_cpuinfo(x86) == ("EPYC 9", ("avx512_vnni", "sse"))
    assert read_cpuinfo(arm) == ("0x41 0xd0c", ("asimddp", "fp"))
    assert read_cpuinfo("") == ("", ())
    assert VNNI.has_int8_dot
    assert not PLAIN.has_int8_dot


def test_the_cache_lies_where_the_user_wants() -> None:
    """The standard's variable, unless it is relative."""
    assert user_cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/edge-cascade")
    expected = Path(os.path.expanduser("~/.cache/edge-cascade"))  # noqa: PTH111
    assert user_cache_folder({"XDG_CACHE_HOME": "x"}) == user_cache_folder({}) == expected
