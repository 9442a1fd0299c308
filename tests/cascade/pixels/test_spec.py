"""What the manifest may say of a stage of pixels by groups, and what a request may choose."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cascade.boundary import Context, Image, Prompt
from cascade.bundle.bundle import Bundle
from cascade.bundle.manifest import canonical, read_manifest
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import InvalidRequest, ManifestError
from cascade.families import family_of
from cascade.graph_spec import GpuFormSpec, GraphSpec, ParityRecord, TensorSpec, VariantSpec
from cascade.pixels.mixture import Sharpness
from cascade.pixels.request_options import PixelOptions
from cascade.pixels.spec import HEADS, PASS, PixelSpec, check_choices
from cascade.precision import Precision
from tests.support.manifests import square
from tests.support.pixel_bundle import write_pixel_bundle
from tests.support.tiny_bundle import WIDTH


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Three stages of three kinds."""
    folder: Path = tmp_path_factory.mktemp("pixels")
    return write_pixel_bundle(folder / "bundle")


def stage(bundle: Bundle, number: int = 1) -> PixelSpec:
    """The entry of a component: 1 is a first stage, 2 keeps corners, 3 means."""
    spec = bundle.manifest.components[number]
    assert isinstance(spec, PixelSpec)
    return spec


def with_graph(spec: PixelSpec, role: str, **changes: Any) -> PixelSpec:
    """The same with another entry of a graph."""
    return replace(spec, graphs={**spec.graphs, role: replace(spec.graphs[role], **changes)})


def renamed(graph: GraphSpec, side: str, name: str, other: TensorSpec) -> tuple[TensorSpec, ...]:
    """The tensors of one side with another in the place of one."""
    return tuple(other if t.name == name else t for t in getattr(graph, side))


def test_the_manifest_reads_its_entries(bundle: Bundle) -> None:
    """Written and read back to the same records."""
    assert read_manifest(canonical(bundle.manifest)) == bundle.manifest
    for number in (1, 2, 3):
        check_choices(stage(bundle, number), "s")


@pytest.mark.parametrize(
    ("number", "changes", "field"),
    [
        (1, {"weight_table_sha256": "0" * 64}, "weight_table_sha256"),
        (1, {"logit_unit": 8}, "weight_table_sha256"),
        (1, {"temperature_16": 0}, "temperature_16"),
        (1, {"floor_16": 17}, "floor_16"),
        (1, {"guidance_16": 161}, "guidance_16"),
        (2, {"augmentation": None}, "augmentation"),
        (1, {"starts_from": ()}, "starts_from"),
        (1, {"starts_from": (Prompt(),)}, "starts_from"),
        (1, {"starts_from": (Context(width=WIDTH + 1),)}, "starts_from"),
        (2, {"starts_from": (Context(width=WIDTH), square(16))}, "graphs.pass.inputs|order"),
        (1, {"makes": Image(width=8, height=8, levels=4)}, "makes"),
        (1, {"makes": square(16)}, "graphs.pass.inputs"),
        (1, {"graphs": {}}, "graphs"),
    ],
)
def test_what_contradicts_itself_is_refused(
    bundle: Bundle, number: int, changes: dict[str, Any], field: str
) -> None:
    """Naming the field."""
    with pytest.raises(ManifestError, match=rf"s\.(scheme\.)?({field})"):
        check_choices(replace(stage(bundle, number), **changes), "s")


def test_graphs_of_other_shapes_are_refused(bundle: Bundle) -> None:
    """An input that is missing, another dtype, a free axis where the size is fixed."""
    spec = stage(bundle)
    body, heads = spec.graphs[PASS], spec.graphs[HEADS]
    targets = TensorSpec(name="targets", dtype="float32", shape=("batch", 16))
    low = TensorSpec(name="low", dtype="float32", shape=("batch", 16, 255))
    for role, changes in (
        (PASS, {"inputs": body.inputs[1:]}),
        (PASS, {"inputs": renamed(body, "inputs", "targets", targets)}),
        (PASS, {"outputs": ()}),
        (HEADS, {"outputs": renamed(heads, "outputs", "low", low)}),
        (HEADS, {"inputs": heads.inputs[1:]}),
    ):
        with pytest.raises(ManifestError, match=rf"s\.graphs\.{role}"):
            check_choices(with_graph(spec, role, **changes), "s")


def test_an_exact_component_has_no_file_in_another_precision(bundle: Bundle) -> None:
    """One of floats may have it."""
    parity = ParityRecord(max_abs_error=0, psnr_db=99, tolerance_abs=0)
    graph = stage(bundle).graphs[PASS]
    quality: Any = None
    variant = VariantSpec(precision=Precision.BF16, file=graph.file, parity=parity, quality=quality)
    form = GpuFormSpec(precision=Precision.FP16, file=graph.file, parity=parity)
    for changes in ({"variants": (variant,)}, {"gpu_forms": (form,)}):
        coarse = with_graph(stage(bundle), PASS, **changes)
        with pytest.raises(ManifestError, match=r"graphs\.pass: arithmetic is exact"):
            check_choices(coarse, "s")
        check_choices(replace(coarse, arithmetic="float"), "s")
    assert family_of(coarse).precisions(coarse) == (Precision.FP32,)
    assert Precision.INT8 in family_of(coarse).precisions(replace(coarse, arithmetic="float"))


@pytest.mark.parametrize("storage", ["float16", "int8"])
def test_weights_of_an_exact_component_may_be_stored_in_fewer_bits(
    bundle: Bundle, storage: str
) -> None:
    """They are widened to the same numbers: the precision of its computation stays float32."""
    small = with_graph(with_graph(stage(bundle), PASS, storage=storage), HEADS, storage=storage)
    check_choices(small, "s")
    assert family_of(small).precisions(small) == (Precision.FP32,)


def test_options_fill_the_gaps_of_the_manifest(bundle: Bundle) -> None:
    """What was asked for, else what the manifest says; whole numbers throughout."""
    spec, family = stage(bundle, 2), family_of(stage(bundle, 2))
    plan = family.resolve(spec, PixelOptions(floor_16=3))
    assert plan.sharpness == Sharpness(temperature_16=12, floor_16=3)
    assert not plan.is_guided
    assert plan.augmentation == 0.1
    assert family.resolve(stage(bundle), None).is_guided
    assert family.settings(spec, plan)["temperature_16"] == 12


@pytest.mark.parametrize(
    ("number", "options", "field"),
    [
        (2, PixelOptions(augmentation=0.6), "augmentation"),
        (1, PixelOptions(augmentation=0.1), "augmentation"),
        (1, DiffusionOptions(steps=3), ""),
    ],
)
def test_choices_that_do_not_fit_are_refused(
    bundle: Bundle, number: int, options: Any, field: str
) -> None:
    """Beyond the range, of a stage without a parent, of another family: steps are the order's."""
    spec = stage(bundle, number)
    with pytest.raises(InvalidRequest) as caught:
        family_of(spec).resolve(spec, options)
    assert caught.value.field == ".".join(filter(None, ("options", spec.name, field)))


@pytest.mark.parametrize("change", [{"temperature_16": 0}, {"floor_16": 17}, {"guidance_16": -1}])
def test_choices_out_of_bounds_are_refused(change: dict[str, int]) -> None:
    """Before any bundle is known."""
    with pytest.raises(InvalidRequest, match=rf"options\.px8\.{next(iter(change))}"):
        PixelOptions(**change).check("options.px8")
