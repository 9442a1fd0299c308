"""Halves of an autoencoder: what they make of a picture and of a latent, whole and in tiles."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.boundary import BoundaryValue, Image, Prompt, Tensor
from cascade.bundle.bundle import Bundle
from cascade.bundle.manifest import Manifest, read_manifest, write_manifest
from cascade.codecs.image import from_network, to_network
from cascade.codecs.latent import as_latent
from cascade.engines.ort import OrtEngine
from cascade.errors import InvalidRequest, ManifestError, StageError
from cascade.events import Progress, StageFinished
from cascade.families import cost_of, family_of
from cascade.graph_spec import NET
from cascade.latents.spec import AutoencoderSpec
from cascade.latents.stage import AutoencoderStage
from cascade.request import GenerateRequest, Handoff
from cascade.types import Array
from tests.support.latent_bundle import (
    CODE,
    LARGE,
    PICTURE,
    UP,
    WORDS,
    Files,
    decoder,
    encoder,
    write_latent_bundle,
)

RNG = np.random.default_rng(5)
LATENT = (0.5 * RNG.standard_normal(UP.shape)).astype(np.float16)
PIXELS = RNG.integers(0, 256, PICTURE.shape, np.uint8)


def run(spec: AutoencoderSpec, files: Files, handoff: Handoff) -> tuple[Handoff, list[Progress]]:
    """What a half makes of a handoff, and what it said meanwhile."""
    stage = AutoencoderStage(spec, OrtEngine(files[spec.graph.file]))
    events = list(stage.run(GenerateRequest(), handoff))
    stage.close()
    last = events[-1]
    assert isinstance(last, StageFinished)
    return last.handoff, [event for event in events if isinstance(event, Progress)]


def graph_of(spec: AutoencoderSpec, files: Files, name: str, planes: Array) -> Array:
    """The network alone, on all of `planes`."""
    engine = OrtEngine(files[spec.graph.file])
    made = engine.run({name: planes})
    engine.close()
    return next(iter(made.values()))


def test_a_decoder_undoes_scaling_and_shift() -> None:
    """`latent / scaling + shift` goes into the network; words are passed on."""
    files: Files = {}
    spec = decoder(files, "d", UP, PICTURE)
    words = np.zeros((2, WORDS.width), np.float16)
    made, progress = run(spec, files, Handoff(context=words, tensor=LATENT))
    raw = LATENT.astype(np.float32)[None] / np.float32(0.5) + np.float32(0.1)
    np.testing.assert_array_equal(made.image, from_network(graph_of(spec, files, "latent", raw)))
    assert made.context is words
    assert made.tensor is None
    assert [(p.done, p.total, p.unit) for p in progress] == [(1, 1, "tile")]


def test_an_encoder_applies_shift_and_scaling_and_rounds_to_the_declared_dtype() -> None:
    """`(latent - shift) scaling`, in half precision where the manifest says so."""
    for dtype in ("float32", "float16"):
        files: Files = {}
        declared = replace(CODE, dtype=dtype)
        spec = encoder(files, "e", PICTURE, declared)
        made, _ = run(spec, files, Handoff(image=PIXELS))
        raw = graph_of(spec, files, "picture", to_network(PIXELS))
        expected = ((raw[0] - np.float32(0.1)) * np.float32(0.5)).astype(dtype)
        assert made.tensor is not None
        assert made.tensor.dtype == dtype
        np.testing.assert_array_equal(made.tensor, expected)
        assert made.image is None


def test_tiles_are_one_run_but_for_what_a_rim_shows() -> None:
    """Of a view of 3 numbers each tile is right but for its rim, which the joint leaves out."""
    latent, picture = Tensor(shape=(4, 40, 24), dtype="float32"), Image(width=48, height=80)
    numbers = RNG.standard_normal(latent.shape).astype(np.float32)
    pixels = RNG.integers(0, 256, picture.shape, np.uint8)
    for half, sides, given in (
        (decoder, (latent, picture), Handoff(tensor=numbers)),
        (encoder, (picture, latent), Handoff(image=pixels)),
    ):
        whole_files: Files = {}
        tile_files: Files = {}
        make: Any = half
        expected, _ = run(make(whole_files, "w", *sides), whole_files, given)
        tiled = make(tile_files, "w", *sides, tile=16)
        found, progress = run(tiled, tile_files, given)
        assert [p.done for p in progress] == list(range(1, 7))
        assert cost_of(tiled).runs == {NET: 6}
        if half is decoder:
            np.testing.assert_array_equal(found.image, expected.image)
        else:
            np.testing.assert_allclose(found.tensor, expected.tensor, atol=1e-5)


def test_a_latent_that_overflows_is_an_error_of_the_stage() -> None:
    """70,000 is finite in float32 and infinite in float16; so is another shape refused."""
    planes = np.full((1, *CODE.shape), 70000, np.float32)
    assert as_latent("low", planes, CODE).dtype == np.float32
    with pytest.raises(StageError, match="low: its latent holds NaN or infinity as float16"):
        as_latent("low", planes, replace(CODE, dtype="float16"))
    with pytest.raises(StageError, match="expected"):
        as_latent("low", planes[:, :, 1:], CODE)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (Handoff(), "needs a tensor"),
        (Handoff(tensor=LATENT.astype(np.float32)), "got .* float32"),
        (Handoff(tensor=LATENT[:, 1:]), r"got \[4, 15, 12\] float16"),
        (Handoff(tensor=np.full_like(LATENT, np.nan)), "holds NaN or infinity"),
    ],
)
def test_a_latent_that_is_not_as_declared_is_refused(given: Handoff, words: str) -> None:
    """Before anything runs, naming the field."""
    spec = decoder({}, "d", UP, PICTURE)
    check = family_of(spec).start_check(spec, lambda _: b"")
    with pytest.raises(InvalidRequest, match=words) as caught:
        check(given, None)
    assert caught.value.field in ("tensor", "tensor.data")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A cascade of latents."""
    folder: Path = tmp_path_factory.mktemp("latents") / "bundle"
    return write_latent_bundle(folder)


def test_a_manifest_of_latents_is_read_as_it_was_written(bundle: Bundle) -> None:
    """Every field of both families."""
    text = write_manifest(bundle.manifest).encode()
    assert read_manifest(text) == bundle.manifest


def changed(manifest: Manifest, position: int, **changes: object) -> Manifest:
    """The manifest with another entry at one place."""
    components = list(manifest.components)
    components[position] = replace(components[position], **changes)  # type: ignore[type-var]
    return replace(manifest, components=tuple(components))


@pytest.mark.parametrize(
    ("position", "changes", "field"),
    [
        (3, {"starts_from": (Prompt(),)}, "components[3].starts_from"),
        (3, {"makes": CODE}, "components[3].makes"),
        (3, {"makes": Image(width=25, height=32)}, "components[3].makes"),
        (3, {"makes": Image(width=24, height=32, levels=8)}, "components[3].makes.levels"),
        (3, {"scaling": 0.0}, "components[3].scaling"),
        (3, {"graphs": {}}, "components[3].graphs"),
        (4, {"makes": LARGE}, "components[4].makes"),
        (4, {"makes": Tensor(shape=(4, 16, 12), dtype="float32")}, "components[4].graphs"),
        (3, {"starts_from": (UP,)}, "components[3].starts_from"),
        (2, {"enlarge": "bicubic_pil"}, "components[2].enlarge"),
        (1, {"makes": Tensor(shape=(3, 8, 6), dtype="float32")}, "components[1].makes"),
    ],
)
def test_an_entry_that_contradicts_itself_is_refused(
    bundle: Bundle, position: int, changes: dict[str, object], field: str
) -> None:
    """By the field; embeddings that a later component needs are passed on by name."""
    with pytest.raises(ManifestError) as caught:
        changed(bundle.manifest, position, **changes)
    assert caught.value.field == f"manifest.{field}"


def test_a_graph_that_is_no_tile_is_refused(bundle: Bundle) -> None:
    """Free sides, sides that do not fit each other, and tiles larger than the latent."""
    spec = bundle.manifest.components[3]
    graph = spec.graphs[NET]
    for sides, made in (((8, "w"), (16, 16)), ((8, 8), (16, 18)), ((32, 8), (64, 16))):
        inputs = (replace(graph.inputs[0], shape=("batch", 4, *sides)),)
        outputs = (replace(graph.outputs[0], shape=("batch", 3, *made)),)
        other = {NET: replace(graph, inputs=inputs, outputs=outputs)}
        with pytest.raises(ManifestError, match="are no tile of") as caught:
            changed(bundle.manifest, 3, graphs=other)
        assert caught.value.field == "manifest.components[3].graphs"


def test_values_of_both_kinds_say_what_they_are() -> None:
    """For errors, and for budgets of bytes."""
    values: list[BoundaryValue] = [UP, CODE]
    assert [str(value) for value in values] == [
        "a tensor [4, 16, 12] float16",
        "a tensor [3, 16, 12] float32",
    ]
    assert (UP.size_bytes, CODE.size_bytes) == (2 * 4 * 16 * 12, 4 * 3 * 16 * 12)
