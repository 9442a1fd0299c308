"""The manifest: strict to read, one canonical form, an id that covers every file and number."""

import copy
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.boundary import BoundaryValue, Context, Image, Prompt, Tensor
from cascade.bundle.manifest import (
    FORMAT_VERSION,
    Manifest,
    canonical,
    read_manifest,
    write_manifest,
)
from cascade.codecs.strict_json import to_json
from cascade.diffusion.spec import (
    AugmentationSpec,
    DiffusionSpec,
    GuidanceSpec,
    ThresholdSpec,
)
from cascade.errors import ManifestError
from cascade.graph_spec import (
    NET,
    FileEntry,
    GraphSpec,
    ParityRecord,
    TensorSpec,
)
from cascade.text.spec import TextEncoderSpec
from tests.support.manifests import (
    encoder_of,
    square,
    stages_of,
    starts,
    with_encoder,
    with_stages,
)
from tests.support.tiny_bundle import WIDTH, write_tiny_bundle

QUICK = settings(derandomize=True, deadline=None, max_examples=25)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.text(max_size=12)
FREE = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | WORDS,
    lambda inner: (
        st.lists(inner, max_size=2).map(tuple) | st.dictionaries(WORDS, inner, max_size=2)
    ),
    max_leaves=4,
)
"""Values whose shape no record declares."""
TENSORS = st.lists(
    st.builds(
        TensorSpec,
        name=WORDS.map("x".__add__),
        dtype=st.sampled_from(["float32", "float16", "int64", "int8", "uint8"]),
        shape=st.lists(st.integers() | WORDS, max_size=4).map(tuple),
    ),
    max_size=2,
).map(tuple)
PARITY = st.builds(
    ParityRecord,
    max_abs_error=NUMBERS,
    psnr_db=NUMBERS,
    tolerance_abs=NUMBERS,
)
Place = tuple[str | int, ...]


@st.composite
def manifests(draw: Any) -> Manifest:
    """Any manifest whose chain of resolutions fits."""
    width = draw(st.integers(1, 2**20))

    def graph(file: str, *taken: str) -> GraphSpec:
        inputs = (TensorSpec(name=name, dtype="float32", shape=("batch",)) for name in taken)
        return GraphSpec(
            file=file,
            inputs=(*inputs, *draw(TENSORS)),
            outputs=draw(TENSORS),
            storage=draw(st.sampled_from(["float32", "float16", "int8"])),
            parity=draw(PARITY),
        )

    size = draw(st.integers(1, 2**10))
    sizes = [size]
    for factor in draw(st.lists(st.integers(1, 4), max_size=2)):
        sizes.append(sizes[-1] * factor)
    stages = tuple(
        DiffusionSpec(
            name=f"stage{index}",
            family="diffusion",
            graphs={NET: graph(f"{index}.onnx", "context", *(["low_res"] if index else []))},
            starts_from=starts(sizes[index - 1] if index else None, width),
            makes=square(size),
            schedule=draw(st.sampled_from(["cosine", "linear"])),
            prediction=draw(st.sampled_from(["epsilon", "v", "x0"])),
            sampler=draw(st.sampled_from(["ddim", "ddpm", "stochastic"])),
            steps=draw(st.integers(1, 1000)),
            gamma=draw(NUMBERS),
            guidance=GuidanceSpec(
                kind=draw(st.sampled_from(["constant", "oscillating"])), weight=draw(NUMBERS)
            ),
            null_context="mask",
            threshold=ThresholdSpec(kind="dynamic", cap=draw(st.none() | NUMBERS)),
            augmentation=draw(
                st.none()
                | st.builds(AugmentationSpec, lowest=NUMBERS, highest=NUMBERS, default=NUMBERS)
            ),
            provenance=draw(st.dictionaries(WORDS, FREE, max_size=2)),
        )
        for index, size in enumerate(sizes)
    )
    names = ["text.onnx", "words", *(stage.graph.file for stage in stages)]
    return Manifest(
        format_version=FORMAT_VERSION,
        name=draw(WORDS),
        licence=draw(WORDS),
        provenance=draw(st.dictionaries(WORDS, FREE, max_size=2)),
        components=(
            TextEncoderSpec(
                name="text",
                family="text_encoder",
                graphs={NET: graph("text.onnx")},
                starts_from=(Prompt(),),
                makes=Context(width=width),
                tokenizer_file="words",
                max_tokens=draw(st.integers()),
                provenance=draw(st.dictionaries(WORDS, FREE, max_size=2)),
            ),
            *stages,
        ),
        files=tuple(
            FileEntry(name=name, sha256=draw(WORDS), size_bytes=draw(st.integers()))
            for name in draw(st.permutations(names))
        ),
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """The manifest of the tiny bundle."""
    return write_tiny_bundle(tmp_path_factory.mktemp("manifest") / "bundle").manifest


def leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every number, string and null of a document, with its place."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*place, index))
    else:
        yield place, value


def changed(document: Any, place: Place, value: Any) -> Any:
    """A copy of a document with one value replaced."""
    result = copy.deepcopy(document)
    inner = result
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return result


def path_of(place: Place) -> str:
    """How errors write a place."""
    return "manifest" + "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in place)


def read(document: Any) -> Manifest:
    """A manifest from a document."""
    return read_manifest(json.dumps(document).encode())


@QUICK
@given(manifests())
def test_both_forms_are_read_back(manifest: Manifest) -> None:
    """The form for people and the canonical one both give the same manifest and id again."""
    for text in (write_manifest(manifest).encode(), canonical(manifest)):
        again = read_manifest(text)
        assert again == manifest
        assert again.bundle_id == manifest.bundle_id


def test_canonical_form_is_stable(tiny: Manifest) -> None:
    """Key order, spaces and whole numbers written as integers do not change the canonical form."""

    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(list(value))}
        if isinstance(value, list):
            return [turned(item) for item in value]
        return int(value) if isinstance(value, float) and value == int(value) else value

    text = json.dumps(turned(to_json(tiny)), indent=7)
    assert text != canonical(tiny).decode()
    assert canonical(read_manifest(text.encode())) == canonical(tiny)


def test_bundle_id_is_the_hash_of_the_canonical_form(tiny: Manifest) -> None:
    """Any language can compute the id: sha256 of sorted, compact ASCII JSON."""
    text = json.dumps(to_json(tiny), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert tiny.bundle_id == hashlib.sha256(text.encode()).hexdigest()


def test_every_hash_and_number_is_in_the_id(tiny: Manifest) -> None:
    """Changing any one number or hash gives another id each time, or is refused as inconsistent."""
    document = to_json(tiny)
    ids, refused, count = {tiny.bundle_id}, set(), 0
    for place, value in leaves(document):
        if place[-1] == "sha256":
            other: Any = value[::-1]
        elif isinstance(value, int | float):
            other = value + 1
        else:
            continue
        count += 1
        try:
            ids.add(read(changed(document, place, other)).bundle_id)
        except ManifestError:
            refused.add(place[-1])
            count -= 1
    assert len(ids) == 1 + count
    assert count > 55
    # 2 is where the shape of a graph's context has its width.
    assert refused == {"format_version", "width", "height", "channels", "levels", 2}


def test_every_wrong_type_is_named(tiny: Manifest) -> None:
    """Whatever value is replaced by one of no fitting type, the error names its path."""
    document = to_json(tiny)
    for place, _ in leaves(document):
        if "provenance" in place:
            continue
        with pytest.raises(ManifestError) as caught:
            read(changed(document, place, [[]]))
        assert caught.value.field == path_of(place)


def test_every_missing_field_is_named(tiny: Manifest) -> None:
    """Every field is required except the few with documented defaults."""
    document = to_json(tiny)
    optional = {"low_weight", "first_steps", "convention", "percentile", "cap"}
    optional |= {"variance", "enlarge", "pad_token", "kind", "channels", "levels", "made_of"}
    optional |= {"tokens"}
    for place, _ in leaves(document):
        if isinstance(place[-1], int) or place[-1] in optional:
            continue
        if place[-2:] == ("augmentation", "schedule"):
            continue
        short = copy.deepcopy(document)
        inner = short
        for step in place[:-1]:
            inner = inner[step]
        del inner[place[-1]]
        with pytest.raises(ManifestError, match="missing") as caught:
            read(short)
        assert caught.value.field == path_of(place)


@pytest.mark.parametrize(
    "place",
    [
        (),
        ("components", 0),
        ("components", 0, "graphs", "net", "parity"),
        ("components", 2),
        ("components", 2, "augmentation"),
        ("components", 1, "graphs", "net", "inputs", 2),
        ("components", 2, "makes"),
        ("files", 0),
    ],
)
def test_every_unknown_field_is_named(tiny: Manifest, place: Place) -> None:
    """A field of a newer or a foreign format is refused, not skipped."""
    with pytest.raises(ManifestError, match="unknown field") as caught:
        read(changed(to_json(tiny), (*place, "more"), 1))
    assert caught.value.field == path_of((*place, "more"))


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff\xfe", b"[]", b"null", b"{}", b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}"],
)
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    """Broken, nested or foreign JSON is a ManifestError, never another exception."""
    with pytest.raises(ManifestError):
        read_manifest(text)


@QUICK
@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_raise_anything_else(text: bytes) -> None:
    """Whatever the bytes, the reader raises ManifestError."""
    with pytest.raises(ManifestError):
        read_manifest(text)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
def test_numbers_beyond_floats_are_refused(tiny: Manifest, number: str) -> None:
    """NaN and infinity, however written, are no numbers of a manifest."""
    text = json.dumps(changed(to_json(tiny), ("components", 1, "gamma"), "HERE"))
    with pytest.raises(ManifestError) as caught:
        read_manifest(text.replace('"HERE"', number).encode())
    assert caught.value.field == "manifest.components[1].gamma"


@pytest.mark.parametrize(
    ("position", "starts_from"),
    [
        (1, starts(8, WIDTH)),
        (1, starts(None, WIDTH + 1)),
        (2, starts(16, WIDTH)),
        (3, starts(8, WIDTH)),
        (3, starts(None, WIDTH)),
        (3, (square(16),)),
    ],
)
def test_a_broken_chain_is_refused(
    tiny: Manifest, position: int, starts_from: tuple[BoundaryValue, ...]
) -> None:
    """Every component must start from what the one before it makes, and only from what is there."""
    document = changed(to_json(tiny), ("components", position, "starts_from"), to_json(starts_from))
    with pytest.raises(ManifestError) as caught:
        read(document)
    assert caught.value.field == f"manifest.components[{position}].starts_from"


def test_stages_in_another_order_are_refused(tiny: Manifest) -> None:
    """The order of the stages is part of the chain."""
    with pytest.raises(ManifestError, match="starts_from"):
        with_stages(tiny, stages_of(tiny)[::-1])


def test_two_components_of_one_name_are_refused(tiny: Manifest) -> None:
    """Options and progress go by name: names are unique."""
    with pytest.raises(ManifestError, match="share a name"):
        with_encoder(tiny, replace(encoder_of(tiny), name="base"))


@pytest.mark.parametrize("name", ["tokenizer.json", "text_encoder.onnx", "sr16.onnx"])
def test_a_file_that_is_used_must_be_listed(tiny: Manifest, name: str) -> None:
    """Every graph and the tokenizer need an entry with a hash."""
    with pytest.raises(ManifestError, match=f"{name} is used but not listed"):
        replace(tiny, files=tuple(f for f in tiny.files if f.name != name))


def test_a_file_listed_twice_is_refused(tiny: Manifest) -> None:
    """One name has one hash."""
    with pytest.raises(ManifestError, match="twice"):
        replace(tiny, files=(*tiny.files, replace(tiny.files[0], sha256="0" * 64)))


@pytest.mark.parametrize("version", [0, 1, 4])
def test_another_format_version_is_refused(tiny: Manifest, version: int) -> None:
    """A bundle of another format says what to do."""
    with pytest.raises(ManifestError, match="update edge-cascade or export") as caught:
        read(changed(to_json(tiny), ("format_version",), version))
    assert caught.value.field == "manifest.format_version"


def test_the_format_before_is_refused_with_its_remedy(tiny: Manifest) -> None:
    """Its owner has the bundle converted."""
    with pytest.raises(ManifestError, match="run `cascade upgrade BUNDLE`") as caught:
        read(changed(to_json(tiny), ("format_version",), 2))
    assert caught.value.field == "manifest.format_version"


def test_a_component_of_an_unknown_family_is_named(tiny: Manifest) -> None:
    """And so are the families that there are."""
    with pytest.raises(ManifestError, match="expected one of text_encoder, diffusion") as caught:
        read(changed(to_json(tiny), ("components", 1, "family"), "autoregressive"))
    assert caught.value.field == "manifest.components[1].family"


def test_a_provenance_may_say_anything_but_not_endlessly(tiny: Manifest) -> None:
    """Nested values are kept; what is nested nine levels deep is no fact."""
    deep: Any = 1
    for _ in range(9):
        deep = [deep]
    kept = {"notes": [{"a": None}, True, 1.5]}
    document = changed(to_json(tiny), ("provenance",), kept)
    assert to_json(read(document).provenance) == kept
    with pytest.raises(ManifestError, match="at most 8 levels"):
        read(changed(to_json(tiny), ("provenance",), {"deep": deep}))


def test_positions_follow_the_cascade(tiny: Manifest) -> None:
    """The text encoder is 0, then the stages; an unknown name lists the known ones."""
    names = [component.name for component in tiny.components]
    assert names == ["text_encoder", "base", "sr16", "sr32"]
    assert [tiny.position(name) for name in names] == [0, 1, 2, 3]
    with pytest.raises(ManifestError, match="text_encoder, base, sr16, sr32"):
        tiny.position("sr64")


def test_the_file_of_a_bundle_is_the_form_for_people(tmp_path: Path) -> None:
    """What lies on disk is indented and read back to the same id."""
    bundle = write_tiny_bundle(tmp_path / "bundle")
    text = (bundle.folder / "manifest.json").read_text()
    assert text == write_manifest(bundle.manifest)
    assert text.count("\n") > 100


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Tensor(shape=(4, 8, 8), dtype="int64"), "tensors of float16 and float32 are carried"),
        (Tensor(shape=(4, 8), dtype="float32"), r"tensors of \[channels, height, width\]"),
        (Tensor(shape=(4, 0, 8), dtype="float32"), "each at least 1"),
        (Image(width=16, height=16, channels=1), "pictures of 3 channels are carried"),
        (Image(width=16, height=16, channels=4), "this one has 4"),
    ],
)
def test_values_that_nothing_carries_are_refused(
    tiny: Manifest, value: BoundaryValue, words: str
) -> None:
    """By the manifest itself, before a stage makes what no other can be given."""
    base, *others = stages_of(tiny)
    made, started = replace(base, makes=value), replace(base, starts_from=(value,))
    for stage, field in ((made, "makes"), (started, "starts_from")):
        with pytest.raises(ManifestError, match=words) as caught:
            with_stages(tiny, [stage, *others])
        assert caught.value.field == f"manifest.components[1].{field}"
