"""What a manifest alone decides is refused before anything is computed."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import Manifest, write_manifest
from cascade.bundle.wire_limits import check_wire_limits
from cascade.commands.cli import main
from cascade.errors import InvalidRequest, ManifestError
from runtime_server.admission.concurrency_limits import check_bytes_suffice
from runtime_server.config.config import ServerConfig
from runtime_server.runtime.core import load_core
from tests.support.tiny_bundle import write_tiny_bundle
from wire.limits import MAX_RESOLUTION


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One that is within every limit."""
    return write_tiny_bundle(tmp_path_factory.mktemp("limits") / "b")


def with_last(manifest: Manifest, **fields: Any) -> Manifest:
    """The last stage with other fields."""
    last = replace(manifest.stages[-1], **fields)
    return replace(manifest, stages=(*manifest.stages[:-1], last))


def with_encoder(manifest: Manifest, **fields: Any) -> Manifest:
    """The text encoder with other fields."""
    return replace(manifest, text_encoder=replace(manifest.text_encoder, **fields))


def twice_the_same(manifest: Manifest) -> Manifest:
    """A stage that keeps the size, and another one after it."""
    base, middle, last = manifest.stages
    middle = replace(middle, output_resolution=8)
    return replace(manifest, stages=(base, middle, replace(last, input_resolution=8)))


BEYOND: dict[str, Callable[[Manifest], Manifest]] = {
    "stages[2].output_resolution": lambda m: with_last(m, output_resolution=2 * MAX_RESOLUTION),
    "stages[2].steps": lambda m: with_last(m, steps=1001),
    "stages[2].input_resolution": twice_the_same,
    "text_encoder.max_tokens": lambda m: with_encoder(m, max_tokens=513),
    "text_encoder.context_width": lambda m: with_encoder(m, max_tokens=512, context_width=8192),
}


@pytest.mark.parametrize("field", BEYOND)
def test_each_limit_is_named_with_its_field(bundle: Bundle, field: str) -> None:
    """The component, the field and the limit."""
    with pytest.raises(ManifestError) as found:
        check_wire_limits(BEYOND[field](bundle.manifest))
    assert found.value.field == f"manifest.{field}"


def test_within_the_limits_nothing_is_refused(bundle: Bundle) -> None:
    """The largest picture, the most steps, the widest context of a T5-XXL."""
    manifest = with_last(bundle.manifest, output_resolution=MAX_RESOLUTION, steps=1000)
    check_wire_limits(with_encoder(manifest, max_tokens=512, context_width=4096))


@pytest.mark.parametrize("field", ["stages[2].output_resolution", "text_encoder.max_tokens"])
def test_such_a_bundle_is_neither_verified_nor_served(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str
) -> None:
    """Before its first step."""
    broken = tmp_path / "b"
    broken.mkdir()
    for file in bundle.folder.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    (broken / "manifest.json").write_text(write_manifest(BEYOND[field](bundle.manifest)))
    assert open_bundle(broken).manifest.name == "tiny"
    assert main(["verify", str(broken)]) != 0
    assert f"manifest.{field}" in capsys.readouterr().err
    with pytest.raises(ManifestError) as found:
        load_core(ServerConfig(bundle=broken))
    assert found.value.field == f"manifest.{field}"


def test_a_server_has_bytes_for_one_request_of_its_bundle(bundle: Bundle) -> None:
    """Or says at its start which setting to raise, not to every caller that there is no room."""
    pictures = 3 * (8**2 + 16**2 + 32**2)
    context = 2 * 16 * 8
    for name, least in (
        ("max_in_flight_bytes", pictures + context),
        ("result_store_bytes", pictures + context),
    ):
        check_bytes_suffice(bundle.manifest, ServerConfig(bundle=bundle.folder, **{name: least}))
        with pytest.raises(InvalidRequest, match=str(least)) as found:
            load_core(ServerConfig(bundle=bundle.folder, **{name: least - 1}))
        assert found.value.field == name
    check_bytes_suffice(bundle.manifest, ServerConfig(bundle=bundle.folder, result_store_bytes=0))


def test_a_stage_enlarges_by_whole_numbers(bundle: Bundle) -> None:
    """Another factor could not even be computed."""
    manifest = with_last(bundle.manifest, output_resolution=40)
    with pytest.raises(ManifestError, match="sr32 enlarges 16 to 40") as found:
        check_wire_limits(manifest)
    assert found.value.field == "manifest.stages[2].output_resolution"


def test_the_reference_bundle_is_within_the_limits() -> None:
    """The one that is part of this repository."""
    manifest = Path(__file__).parents[3] / "bundles" / "emoji-1" / "manifest.json"
    assert json.loads(manifest.read_text())
    check_wire_limits(open_bundle(manifest.parent).manifest)
