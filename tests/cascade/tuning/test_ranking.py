"""Which measured way is taken: exact before fast, where the time between them is nothing."""

from pathlib import Path

import pytest

from cascade.engines.kinds import EngineKind
from cascade.families import cost_of
from cascade.precision import Precision
from cascade.tuning.ranking import lossy_precisions, preferred, request_ms
from tests.cascade.tuning.test_plan import measured
from tests.support.tiny_bundle import write_tiny_bundle

ORT, OPENVINO = EngineKind.ORT, EngineKind.OPENVINO
FP32, BF16, INT8 = Precision.FP32, Precision.BF16, Precision.INT8


@pytest.mark.parametrize(
    ("times", "whole", "expected"),
    [
        # Far apart: the fastest.
        ({(ORT, FP32): 10.0, (ORT, INT8): 5.0}, 0.0, (ORT, INT8)),
        # Within ten per cent: the most exact, and of two engines of one precision the faster.
        ({(ORT, FP32): 5.4, (ORT, INT8): 5.0}, 0.0, (ORT, FP32)),
        ({(OPENVINO, BF16): 5.4, (ORT, FP32): 6.0, (ORT, INT8): 5.0}, 0.0, (OPENVINO, BF16)),
        ({(ORT, FP32): 5.4, (OPENVINO, FP32): 5.3, (ORT, INT8): 5.0}, 0.0, (OPENVINO, FP32)),
        # A hundredth of the request is nothing.
        ({(ORT, FP32): 10.0, (ORT, INT8): 5.0}, 500.0, (ORT, FP32)),
        ({(ORT, FP32): 20.0, (ORT, INT8): 10.0}, 500.0, (ORT, INT8)),
        ({(OPENVINO, FP32): 40.0}, 0.0, (OPENVINO, FP32)),
    ],
)
def test_exact_before_fast(
    times: dict[tuple[EngineKind, Precision], float],
    whole: float,
    expected: tuple[EngineKind, Precision],
) -> None:
    """By share of the component and by share of the request."""
    assert preferred(times, whole) == expected


def test_a_request_is_its_steps_at_their_fastest(tmp_path: Path) -> None:
    """What failed or was not measured does not count."""
    manifest = write_tiny_bundle(tmp_path / "b", steps=3).manifest
    tuning = measured(
        ("text_encoder", ORT, FP32, 2.0, ""),
        ("base", ORT, FP32, 5.0, ""),
        ("base", ORT, INT8, 4.0, ""),
        ("base", OPENVINO, INT8, 1.0, "it ended the process (signal 11)"),
    )
    runs = [cost_of(component).runs["net"] for component in manifest.components]
    assert runs == [1, 3, 3, 3]
    assert request_ms(manifest, tuning) == 2.0 + 3 * 4.0


def test_a_file_of_distant_pictures_is_told_from_the_manifest(tmp_path: Path) -> None:
    """By the worst picture that the exporter saw."""
    far = write_tiny_bundle(tmp_path / "far", int8=True, picture_db=37.9).manifest
    close = write_tiny_bundle(tmp_path / "close", int8=True, picture_db=38.0).manifest
    assert [lossy_precisions(component) for component in far.components] == [set(), *[{INT8}] * 3]
    assert [lossy_precisions(component) for component in close.components] == [set()] * 4
