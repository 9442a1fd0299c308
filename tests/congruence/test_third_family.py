"""A family that no code but its own knows, through every room from the manifest to the table."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import wire.family_options
from cascade.bundle.bundle import Bundle
from cascade.bundle.manifest import canonical, read_manifest
from cascade.bundle.wire_limits import check_wire_limits
from cascade.commands.cli import main
from cascade.diffusion.request_options import DiffusionOptions
from cascade.engines.kinds import EngineKind
from cascade.errors import BundleMismatch, CascadeError, InvalidRequest, ManifestError
from cascade.events import Event, Preview, Progress, StageFinished
from cascade.families import FAMILIES, cost_of, family_of
from cascade.graph_spec import QualityRecord, VariantSpec
from cascade.precision import Precision
from cascade.request import GenerateRequest
from cascade.tuning.ranking import lossy_precisions
from cascade.tuning.records import Measurement, Tuning, tuning_key
from protos.cascade.v1 import cascade_pb2 as pb
from runtime_client.cli.generate_command import work_rows
from runtime_client.cli.picture_metadata import metadata_of
from runtime_client.client import Client
from tests.support.ramp_family import (
    CLASSES,
    FIRST,
    HEIGHT,
    TURN,
    WIDTH,
    RampFamily,
    RampOptions,
    expected_ramp,
    write_ramp_bundle,
)
from tests.support.serving import RunningServer, running

ORT, FP32, BF16 = EngineKind.ORT, Precision.FP32, Precision.BF16


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle of the family, while the table holds it; its options travel as steps."""
    monkeypatch.setitem(FAMILIES, "ramp", RampFamily())
    monkeypatch.setitem(
        wire.family_options.WRITERS,
        RampOptions,
        lambda options: pb.StageOptions(steps=options.turns),  # type: ignore[attr-defined]
    )
    monkeypatch.setitem(
        wire.family_options.READERS,
        "diffusion",
        lambda message: RampOptions(turns=message.steps if message.HasField("steps") else None),
    )
    return write_ramp_bundle(tmp_path / "ramps")


@pytest.fixture
def server(bundle: Bundle, tmp_path: Path) -> Iterator[RunningServer]:
    """A server of it, with room for two pictures a minute."""
    megapixels = 2.5 * cost_of(bundle.manifest.components[0]).pixels / 1e6
    with running(
        bundle,
        listen=f"unix:{tmp_path / 's'}",
        cut=0,
        quota_megapixels_per_minute=megapixels,
        max_batch_rows="4",
    ) as running_server:
        yield running_server


def asked(label: int, turns: int | None = None, **fields: Any) -> GenerateRequest:
    """A request for a ramp."""
    options = {} if turns is None else {"ramp": RampOptions(turns=turns)}
    return GenerateRequest(label=label, options=options, **fields)


def test_the_manifest_reads_its_entry(bundle: Bundle) -> None:
    """Written and read back to the same id; what contradicts itself is refused by the family."""
    manifest = bundle.manifest
    assert read_manifest(canonical(manifest)) == manifest
    check_wire_limits(manifest)
    (spec,) = manifest.components
    with pytest.raises(ManifestError, match="expected two"):
        replace(manifest, components=(replace(spec, graphs={FIRST: spec.graphs[FIRST]}),))  # type: ignore[type-var]


def test_inspect_and_verify_know_it(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """Both graphs are shown and run."""
    assert main(["inspect", str(bundle.folder)]) == 0
    assert main(["verify", str(bundle.folder)]) == 0
    printed = capsys.readouterr().out
    for words in ("0 ramp  (ramp)", "ramp     3 turns", "graph    turn", "turn.onnx: signature"):
        assert words in printed


@pytest.mark.parametrize("turns", [None, 1, 4])
def test_a_client_makes_its_picture_here(bundle: Bundle, turns: int | None) -> None:
    """Cut after the last component: the same code that runs the other families."""
    with Client(bundle, cut=1, threads=1) as client:
        result = client.run(asked(2, turns))
    np.testing.assert_array_equal(result.image, expected_ramp(2, 3 if turns is None else turns))
    assert result.image.shape == (HEIGHT, WIDTH, 3)


def test_the_command_line_begins_with_a_label(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--label, with an option of the family; what comes says how it is made again."""
    path, again = tmp_path / "ramp.png", tmp_path / "again.png"
    base = ("generate", "--bundle", str(bundle.folder), "--cut", "1", "-q")
    assert main([*base, "-o", str(path), "--label", "2", "--set", "ramp.turns=4"]) == 0
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(path)), expected_ramp(2, 4))
    assert main([*base, "-o", str(again), "--from", str(path)]) == 0
    assert again.read_bytes() == path.read_bytes()
    for words, field in (
        ((), "first_stage"),
        (("--label", "-1"), "label"),
        (("--label", str(CLASSES)), "label"),
        (("--label", "1", "--picture", str(path)), "picture"),
        (("a cat", "--label", "1"), "label"),
    ):
        capsys.readouterr()
        assert main([*base, "-o", str(again), *words]) == 2
        assert capsys.readouterr().err.startswith(f"error: {field}: ")


def test_a_server_makes_the_same(bundle: Bundle, server: RunningServer) -> None:
    """Label, options, progress in its own unit, a picture that is wider than high, its time."""
    with Client(bundle, server=server.address, cut=0) as client:
        events: list[Event] = list(client.events(asked(3, 2, previews=2)))
        result = client.run(asked(4))
    progress = [e for e in events if isinstance(e, Progress)]
    assert progress[-1] == Progress("ramp", 2, 2, "turn")
    assert not [e for e in events if isinstance(e, Preview)]
    (finished,) = [e for e in events if isinstance(e, StageFinished)]
    assert finished.handoff.image is not None
    np.testing.assert_array_equal(finished.handoff.image, expected_ramp(3, 2))
    np.testing.assert_array_equal(result.image, expected_ramp(4, 3))
    assert work_rows(bundle.manifest, result).there == ["ramp"]
    assert metadata_of(bundle.manifest, asked(4), result)["turns"] == {"ramp": 3}


def test_admission_asks_the_family(bundle: Bundle, server: RunningServer) -> None:
    """A label that there is none of, and options of another family, name their field."""
    with Client(bundle, server=server.address, cut=0) as client:
        with pytest.raises(InvalidRequest) as wrong:
            client.run(asked(CLASSES))
        assert wrong.value.field == "label"
        with pytest.raises(InvalidRequest) as other:
            client.run(GenerateRequest(label=1, options={"ramp": DiffusionOptions(steps=1)}))
        assert other.value.field == "options.ramp"
        with pytest.raises(InvalidRequest) as words:
            client.run(GenerateRequest(prompt="a ramp"))
        assert words.value.field == "first_stage"
        with pytest.raises(InvalidRequest) as beyond:
            client.run(asked(1, 10))
        assert beyond.value.field == "options.ramp.turns"


def test_the_quota_counts_its_pixels(bundle: Bundle, server: RunningServer) -> None:
    """Three turns pass twice a minute; a third time the caller would have to wait too long."""
    with Client(bundle, server=server.address, cut=0, timeout_s=6.0) as client:
        client.run(asked(1))
        client.run(asked(2))
        with pytest.raises(CascadeError, match="megapixels of steps a minute"):
            client.run(asked(3))
        client.run(asked(3, 1))


def test_health_and_limits_know_it(bundle: Bundle, server: RunningServer) -> None:
    """The probe runs its least work; the server tells of it, and every role has its engine."""
    core = server.core
    server.run(core.probe("ramp"))
    assert core.stages_work() == {"ramp": True}
    (told,) = core.info().components
    assert told.output_height == HEIGHT
    assert (told.family, told.output_width, told.default_steps) == ("ramp", WIDTH, 3)
    roles = {key.role for key in core.executor.batcher.limits.present}
    assert roles == {FIRST, TURN}


def test_it_is_warmed_up_and_measured(bundle: Bundle, tmp_path: Path) -> None:
    """One step at the start, then rows joined and compared with themselves alone, per role."""
    with running(bundle, listen=f"unix:{tmp_path / 'w'}", max_batch_rows="auto") as server:
        server.core.executor.measure_now()
        limits = server.core.executor.batcher.limits
        assert all(limits.run_seconds(key) for key in limits.present)


def test_tuning_goes_by_role(bundle: Bundle) -> None:
    """A way counts where every graph runs by it, each as often as a request runs it."""
    (spec,) = bundle.manifest.components
    way = {"component": "ramp", "kind": ORT, "batch": 1, "p10_ms": 0, "p90_ms": 0, "load_s": 0}
    measured = [
        Measurement(**way, role=role, precision=precision, step_ms=ms, difference=0)
        for role, precision, ms in ((FIRST, FP32, 5.0), (TURN, FP32, 2.0), (TURN, BF16, 1.0))
    ]
    tuning = Tuning(key=tuning_key(bundle.bundle_id, 1), measurements=tuple(measured))
    assert tuning.usable("ramp", cost_of(spec).runs) == {(ORT, FP32): 5.0 + 3 * 2.0}


def test_no_precision_is_taken_unasked(bundle: Bundle) -> None:
    """What is drawn comes out differently, however close: neither files nor tiles change that."""
    (spec,) = bundle.manifest.components
    graph = spec.graphs[TURN]
    quality = QualityRecord(metric="share_of_equal_pixels", value=0.99)
    variant = VariantSpec(precision=BF16, file="turn.onnx", parity=graph.parity, quality=quality)
    graphs = {**spec.graphs, TURN: replace(graph, variants=(variant,))}
    coarse = replace(spec, graphs=graphs)  # type: ignore[type-var]
    assert family_of(coarse).is_discrete
    assert lossy_precisions(coarse) == {BF16}


def test_another_bundle_is_refused(bundle: Bundle, server: RunningServer, tmp_path: Path) -> None:
    """By its id, as any other."""
    changed = Bundle(bundle.folder, replace(bundle.manifest, name="other"))
    with Client(changed, server=server.address, cut=0) as client, pytest.raises(BundleMismatch):
        client.run(asked(1))


def test_without_its_line_in_the_table_it_is_unknown(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader names the families that there are."""
    text = canonical(bundle.manifest)
    monkeypatch.delitem(FAMILIES, "ramp")
    with pytest.raises(ManifestError, match="expected one of text_encoder, diffusion"):
        read_manifest(text)
