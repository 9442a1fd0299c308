"""Every family answers every question: each place that once told families apart, with each of them.

A new family without an example here fails, and so does one that leaves a method out; every method
of the protocol is asked by some place, or it would not be needed.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cascade.boundary import Image, value_of
from cascade.bundle.bundle import Bundle
from cascade.bundle.manifest import canonical, read_manifest
from cascade.bundle.starting_points import StartKind, first_position
from cascade.bundle.wire_limits import check_wire_limits
from cascade.commands.inspect_verify import describe
from cascade.edit import StageEdit
from cascade.engines.kinds import EngineKind
from cascade.errors import InvalidRequest
from cascade.families import FAMILIES, cost_of, family_of, resolved, warnings_of
from cascade.family import ComponentSpec, DummyRun, Family, FamilyTraits
from cascade.request import GenerateRequest
from cascade.stage_factory import open_stage
from cascade.system.processor import this_processor
from cascade.tuning.dummy_inputs import default_batch, default_shapes, dummy_inputs, free_axes
from cascade.tuning.plan import EnginePlan, auto_precisions
from cascade.tuning.ranking import lossy_precisions
from runtime_client.cli.generate_command import work_rows
from runtime_client.cli.picture_metadata import settings_of
from runtime_server.admission.quota import megapixels_of
from runtime_server.batching.graph_axes import axes_of
from runtime_server.core import start_checks
from runtime_server.lifecycle.reload import begins_from
from runtime_server.runtime.warm_up import probe_of, warm_up
from tests.support.label_bundle import write_label_bundle
from tests.support.latent_bundle import write_latent_bundle
from tests.support.pixel_bundle import write_pixel_bundle
from tests.support.tiny_bundle import write_tiny_bundle
from wire.family_options import options_message, read_options

FOLDERS = ("diffusion", "labels", "latents", "pixels", "text")
Place = Callable[[Bundle, int], object]
GIVEN: tuple[StartKind, ...] = ("image", "tensor", "label", "prompt")
EXAMPLES = {
    "text_encoder": 0,
    "diffusion": 2,
    "pixels": 2,
    "label": 0,
    "encoder": 4,
    "decoder": 3,
}
"""A position in the family's bundle."""
BUNDLES = {
    "pixels": write_pixel_bundle,
    "label": write_label_bundle,
    "encoder": write_latent_bundle,
    "decoder": write_latent_bundle,
}
"""Who writes it; the tiny bundle where nobody is named."""


def spec_at(bundle: Bundle, position: int) -> ComponentSpec:
    """A component's entry."""
    return bundle.manifest.components[position]


def manifest_and_limits(bundle: Bundle, position: int) -> object:
    """The entry is read, checked, and within what the wire can carry."""
    manifest = read_manifest(canonical(bundle.manifest))
    assert spec_at(bundle, position) == manifest.components[position]
    check_wire_limits(manifest)
    return begins_from(manifest, position)


def options(bundle: Bundle, position: int) -> object:
    """Options are a dataclass of their own, travel, and come to a plan that can be told."""
    spec = spec_at(bundle, position)
    family = family_of(spec)
    assert is_dataclass(family.options_type)
    assert all(field.default is None for field in fields(family.options_type))
    least = family.dummy_run.options(spec)
    family.resolve(spec, read_options(options_message(least)))
    request = resolved([spec], GenerateRequest(options={spec.name: least}))
    return warnings_of([spec], request), settings_of([spec], request)


def admission(bundle: Bundle, position: int) -> object:
    """A start is checked; what it costs is counted for quota and limits."""
    spec = spec_at(bundle, position)
    _, handoff = probe_of(bundle.manifest, spec.name)
    start_checks(bundle, [position])[position](handoff, None)
    cost = cost_of(spec)
    assert set(cost.runs) == set(spec.graphs)
    assert min(cost.units, cost.result_bytes, *cost.runs.values()) > 0
    assert megapixels_of([cost]) >= 0
    given = {name: getattr(handoff, name) for name in GIVEN}
    kind: StartKind = next((name for name in GIVEN if given[name] is not None), "context")
    return first_position(bundle.manifest, kind, first_stage=spec.name)


def engines(bundle: Bundle, position: int) -> object:
    """Opened, warmed up by its least work, and known to the batcher."""
    spec = spec_at(bundle, position)
    stage = open_stage(bundle, position, EnginePlan(threads=1))
    try:
        assert set(stage.engines) == set(spec.graphs)
        assert warm_up(stage, bundle.manifest).keys() == {spec.name}
    finally:
        stage.close()
    return [axes_of(graph) for graph in spec.graphs.values()]


def own_pictures(bundle: Bundle, position: int) -> object:
    """A caller's own picture of the declared size is taken, or there is no place for one."""
    spec = spec_at(bundle, position)
    family, low = family_of(spec), value_of(Image, spec.starts_from)
    plan = family.resolve(spec, None)
    assert (spec.name == "base") != bool(family.why_no_negative(spec, plan))
    check_edits(family, spec, plan)
    if low is not None:
        return family.with_own_picture(spec, plan, (low.width, low.height))
    with pytest.raises(InvalidRequest, match="starts from none"):
        family.with_own_picture(spec, plan, (1, 1))
    return plan


def check_edits(family: Any, spec: ComponentSpec, plan: Any) -> None:
    """A picture of no size, and one that is made of another: planned, or refused by name."""
    blank = StageEdit(np.zeros((1, 1, 3), np.uint8))
    for asked, name in ((lambda: family.with_size(spec, plan, (10**6, 1)), "size"),
                        (lambda: family.with_edit(spec, plan, blank), "edit")):  # fmt: skip
        if (name, spec.family) == ("edit", "diffusion"):
            assert asked() != plan
            continue
        with pytest.raises(InvalidRequest, match=rf"{name}: {spec.name} ") as refused:
            asked()
        assert refused.value.field == name


def tuning(bundle: Bundle, position: int) -> object:
    """Shapes, inputs of every graph, and which precisions `auto` may take."""
    spec = spec_at(bundle, position)
    rows = default_batch(spec)
    for role, graph in spec.graphs.items():
        inputs = dummy_inputs(spec, free_axes(spec, batch=rows, tokens=3), role)
        assert inputs.keys() == default_shapes(spec, role).keys() == {t.name for t in graph.inputs}
    assert lossy_precisions(spec) <= set(
        auto_precisions(spec, EngineKind.OPENVINO, this_processor())
    )
    return family_of(spec).is_discrete


def words(bundle: Bundle, position: int) -> object:
    """What `inspect` prints, the rows of the table, and what progress counts."""
    spec = spec_at(bundle, position)
    result: Any = SimpleNamespace(images={spec.name: None}, cut=0)
    rows = work_rows(bundle.manifest, result)
    assert set(family_of(spec).time_rows(spec)) <= {*rows.words, *rows.here, *rows.there}
    assert family_of(spec).unit
    return describe(spec)


PLACES: Mapping[str, Place] = {
    place.__name__: place
    for place in (manifest_and_limits, options, admission, engines, own_pictures, tuning, words)
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Bundle]:
    """By family, a bundle that has a component of it."""
    folder = tmp_path_factory.mktemp("families")
    tiny = write_tiny_bundle(folder / "tiny")
    return {
        family: BUNDLES[family](folder / family) if family in BUNDLES else tiny
        for family in FAMILIES
    }


@pytest.fixture(scope="module")
def bundle(bundles: Mapping[str, Bundle]) -> Bundle:
    """The tiny bundle."""
    return bundles["diffusion"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_place_knows_every_family(
    bundles: Mapping[str, Bundle], family: str, place: str
) -> None:
    """Remedy where it fails for want of an example: give the new family one above."""
    assert family in EXAMPLES, "give the family an example"
    spec = spec_at(bundles[family], EXAMPLES[family])
    assert (spec.family, type(spec)) == (family, FAMILIES[family].spec_type)
    PLACES[place](bundles[family], EXAMPLES[family])


QUESTIONS = sorted(
    name
    for protocol in (FamilyTraits, DummyRun, Family)
    for name, value in vars(protocol).items()
    if not name.startswith("_") and value is not None
)


class Lacking:
    """A family without one of its methods, or with a dummy run without one."""

    def __init__(self, family: Any, lacks: str) -> None:
        self._family, self._lacks = family, lacks

    def __getattr__(self, name: str) -> Any:
        if name == self._lacks:
            raise AttributeError(name)
        found = getattr(self._family, name)
        return Lacking(found, self._lacks) if name == "dummy_run" else found


@pytest.mark.parametrize("lacks", QUESTIONS)
def test_a_family_that_lacks_an_answer_is_noticed(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    """So the test above is total: no question of the protocol is asked nowhere."""
    monkeypatch.setitem(FAMILIES, "diffusion", Lacking(FAMILIES["diffusion"], lacks))
    failed = []
    for place in PLACES.values():
        try:
            place(bundle, EXAMPLES["diffusion"])
        except AttributeError as exc:
            failed.append(str(exc))
    assert set(failed) == {lacks}


def test_no_code_outside_the_families_tells_them_apart() -> None:
    """By the type of a record, or by its word."""
    root = Path(__file__).parents[2]
    packages = ("bench", "cascade", "runtime_client", "runtime_server", "wire", "export", "stages")
    inside = {root / "cascade" / name for name in FOLDERS}
    found = []
    assert all(path.is_dir() for path in inside)
    for package in packages:
        for path in (root / package).rglob("*.py"):
            if inside & set(path.parents):
                continue
            text = path.read_text()
            told = ("isinstance" in line and "Spec)" in line for line in text.splitlines())
            if any(told) or ".family ==" in text or ".family !=" in text:
                found.append(str(path.relative_to(root)))
    assert found == []
