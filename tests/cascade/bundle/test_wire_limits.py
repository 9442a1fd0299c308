"""What a manifest alone decides is refused before anything is computed."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cascade.boundary import Context, Tensor
from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.manifest import Manifest, write_manifest
from cascade.bundle.wire_limits import MAX_TENSOR_BYTES, check_tensor_fits, check_wire_limits
from cascade.commands.cli import main
from cascade.errors import InvalidRequest, ManifestError
from cascade.graph_spec import NET, GraphSpec
from runtime_server.admission.concurrency_limits import check_bytes_suffice
from runtime_server.config.config import ServerConfig
from runtime_server.core import load_core
from tests.support.manifests import encoder_of, enlarging, square, stages_of, starts, with_stages
from tests.support.tiny_bundle import WIDTH, write_tiny_bundle
from wire.limits import MAX_RESOLUTION


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One that is within every limit."""
    return write_tiny_bundle(tmp_path_factory.mktemp("limits") / "b")


def with_last(manifest: Manifest, size: int = 32, **fields: Any) -> Manifest:
    """The last stage with another size and other fields."""
    *others, last = stages_of(manifest)
    return with_stages(manifest, (*others, replace(last, makes=square(size), **fields)))


def reading(graph: GraphSpec, width: int) -> GraphSpec:
    """The same graph for embeddings of another width."""
    inputs = tuple(
        replace(t, shape=(*t.shape[:-1], width)) if t.name == "context" else t for t in graph.inputs
    )
    return replace(graph, inputs=inputs)


def with_text(manifest: Manifest, max_tokens: int, width: int = WIDTH) -> Manifest:
    """The text encoder with other limits, and stages of its width."""
    encoder = replace(encoder_of(manifest), max_tokens=max_tokens, makes=Context(width=width))
    stages = [
        replace(
            spec,
            starts_from=starts(spec.low and spec.low.width, width),
            graphs={NET: reading(spec.graph, width)},
        )
        for spec in stages_of(manifest)
    ]
    return replace(manifest, components=(encoder, *stages))


BEYOND: dict[str, Callable[[Manifest], Manifest]] = {
    "components[3].makes": lambda m: with_last(m, 2 * MAX_RESOLUTION),
    "components[3].steps": lambda m: with_last(m, steps=1001),
    "components[0].max_tokens": lambda m: with_text(m, 513),
    "components[0].makes.width": lambda m: with_text(m, 512, 8192),
}


@pytest.mark.parametrize("field", BEYOND)
def test_each_limit_is_named_with_its_field(bundle: Bundle, field: str) -> None:
    """The component, the field and the limit."""
    with pytest.raises(ManifestError) as found:
        check_wire_limits(BEYOND[field](bundle.manifest))
    assert found.value.field == f"manifest.{field}"


def test_within_the_limits_nothing_is_refused(bundle: Bundle) -> None:
    """The largest picture, the most steps, the widest context of a T5-XXL."""
    manifest = with_last(bundle.manifest, MAX_RESOLUTION, steps=1000)
    check_wire_limits(with_text(manifest, 512, 4096))


@pytest.mark.parametrize("field", ["components[3].makes", "components[0].max_tokens"])
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
        check_bytes_suffice(
            bundle.manifest, ServerConfig(bundle=bundle.folder, **{name: least}), range(4)
        )
        with pytest.raises(InvalidRequest, match=str(least)) as found:
            load_core(ServerConfig(bundle=bundle.folder, **{name: least - 1}))
        assert found.value.field == name
    check_bytes_suffice(
        bundle.manifest, ServerConfig(bundle=bundle.folder, result_store_bytes=0), range(4)
    )


def test_a_stage_enlarges_by_whole_numbers(bundle: Bundle) -> None:
    """Another factor could not even be computed."""
    with pytest.raises(ManifestError, match="sr32 enlarges 16x16 to 40x40") as found:
        with_last(bundle.manifest, 40)
    assert found.value.field == "manifest.components[3].makes"


def test_a_picture_that_keeps_its_size_needs_no_other_name_for_its_start(bundle: Bundle) -> None:
    """Two components may start from pictures of one size: a request names the first."""
    base, middle, last = stages_of(bundle.manifest)
    stages = (base, enlarging(middle, 8, 8), enlarging(last, 8, 16))
    check_wire_limits(with_stages(bundle.manifest, stages))


def test_the_reference_bundle_is_within_the_limits() -> None:
    """The one that is part of this repository."""
    manifest = Path(__file__).parents[3] / "bundles" / "emoji-1" / "manifest.json"
    assert json.loads(manifest.read_text())
    check_wire_limits(open_bundle(manifest.parent).manifest)


def test_a_latent_fills_a_message_and_no_more() -> None:
    """Of float32 and of float16, to the row."""
    for dtype, size in (("float32", 4), ("float16", 2)):
        rows = MAX_TENSOR_BYTES // (size * 4 * 64)
        within = Tensor(shape=(4, rows, 64), dtype=dtype)  # type: ignore[arg-type]
        assert within.size_bytes == MAX_TENSOR_BYTES
        check_tensor_fits("low", within, "components[1]")
        beyond = replace(within, shape=(4, rows + 1, 64))
        with pytest.raises(ManifestError, match="can be sent") as caught:
            check_tensor_fits("low", beyond, "components[1]")
        assert caught.value.field == "components[1].makes"
