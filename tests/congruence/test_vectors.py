"""Vectors beside the words: the same pixels at every cut, or refused by their name."""

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade.bundle.bundle import Bundle
from cascade.codecs.strict_json import to_json
from cascade.codecs.tensor import PackedTensor, pack_tensor
from cascade.commands.cli import main
from cascade.diffusion.request_options import DiffusionOptions
from cascade.errors import InvalidRequest, ManifestError, VersionMismatch
from cascade.request import GenerateRequest
from cascade.vectors import VectorSpec
from runtime_client.client import Client
from runtime_client.deadline import Deadline
from runtime_client.placement import THERE
from runtime_client.remote.remote_run import check_knows_vectors
from runtime_server.admission.vectors import given_vectors, read_vector
from tests.support.http_calls import ask
from tests.support.manifests import stages_of
from tests.support.serving import running
from tests.support.vector_bundle import POOLED, SIZES, write_vector_bundle
from wire.generate_call import GenerateCall, decode_generate, encode_generate
from wire.starts import PromptStart

FACE = (0.5, -1.0, 0.25, 2.0)
REQUEST = GenerateRequest(prompt="a red apple", seed=4, vectors={"portrait": FACE})


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Pooled text, sizes with a default, and an embedding that a request brings."""
    return write_vector_bundle(tmp_path_factory.mktemp("vectors") / "bundle")


@pytest.fixture(scope="module")
def server(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of every component."""
    place = tmp_path_factory.mktemp("socket") / "s"
    with running(bundle, listen=f"unix:{place}", cut=0) as started:
        yield started.address


def test_every_cut_makes_the_same_pixels(bundle: Bundle, server: str) -> None:
    """Guided or not; other numbers, other words and other sizes make other pictures."""
    guided = replace(REQUEST, options={"sr16": DiffusionOptions(guidance=2.0)})
    sizes = replace(REQUEST, vectors={"portrait": FACE, "sizes": [1, 1]})
    other = replace(REQUEST, vectors={"portrait": [0.5, -1.0, 0.25, 2.1]})
    words = replace(REQUEST, prompt="a green apple")
    asked = (REQUEST, guided, sizes, other, words)
    pictures = []
    for cut in range(5):
        where = {} if cut == 4 else {"server": server}
        with Client(bundle, cut=cut, threads=1, **where) as client:
            pictures.append([client.run(request).image for request in asked])
    for found in pictures[1:]:
        np.testing.assert_array_equal(found, pictures[0])
    assert len({image.tobytes() for image in pictures[0]}) == len(asked)


def test_a_bundle_without_vectors_keeps_its_id(bundle: Bundle) -> None:
    """Neither family writes the field where it says nothing."""
    written = [set(to_json(spec)) for spec in bundle.manifest.components]
    assert ["vectors" in fields for fields in written] == [True, True, True, False]
    encoder = replace(bundle.manifest.components[0], vectors={})
    assert "vectors" not in to_json(encoder)


def test_any_placement_makes_the_same_pixels(bundle: Bundle, server: str) -> None:
    """The encoder on a server and the stages here: pooled text comes down, and is kept."""
    with Client(bundle, cut=4, threads=1) as client:
        expected = client.run(REQUEST).image
    for here in ("base", "sr16"):
        placed = {"*": "there", here: "here"}
        with Client(bundle, server=server, placement=placed, threads=1) as client:
            for _ in range(2):
                np.testing.assert_array_equal(client.run(REQUEST).image, expected)


def test_the_http_door_takes_them(bundle: Bundle) -> None:
    """The same pixels as the client's; without one that is needed, refused by its name."""
    with Client(bundle, cut=4, threads=1) as client:
        expected = client.run(replace(REQUEST, vectors={"portrait": FACE, "sizes": [1, 1]})).image
    body = {"prompt": REQUEST.prompt, "seed": REQUEST.seed}
    with running(bundle, http="127.0.0.1:0") as server:
        made = ask(server.http, {**body, "vectors": {"portrait": FACE, "sizes": [1, 1]}})
        refused = ask(server.http, {**body, "vectors": {"sizes": [1, 1]}})
    (data,) = made.pictures
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")), expected)
    assert (refused.status, refused.error["param"]) == (400, "vectors.portrait")


def test_the_unconditional_half_has_zeros(bundle: Bundle) -> None:
    """Where the manifest says so: with zeros given, both halves differ in the words alone."""
    zero = replace(REQUEST, vectors={"portrait": [0.0] * 4})
    options = {"sr16": DiffusionOptions(guidance=2.0)}
    with Client(bundle, cut=4, threads=1) as client:
        plain = client.run(replace(REQUEST, last_stage="sr16")).image
        guided = client.run(replace(REQUEST, last_stage="sr16", options=options)).image
        without = client.run(replace(zero, last_stage="sr16", options=options)).image
    assert (plain != guided).any()
    assert (without != guided).any()


@pytest.mark.parametrize(
    ("vectors", "field"),
    [
        ({}, "vectors.portrait"),
        ({"portrait": FACE[:3]}, "vectors.portrait"),
        ({"portrait": FACE, "voice": [1.0]}, "vectors.voice"),
        ({"portrait": FACE, "pooled_text": [0.0] * 8}, "vectors.pooled_text"),
        ({"portrait": FACE, "sizes": [1.0, 2.0, 3.0]}, "vectors.sizes"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    bundle: Bundle, vectors: dict[str, object], field: str
) -> None:
    """By the client before any work, and by the server of a client that does not check."""
    request = replace(REQUEST, vectors=vectors)
    packed = {name: pack_tensor(vector) for name, vector in request.vectors.items()}
    call = GenerateCall(request_id="a", bundle_id="b", start=PromptStart("a cat"), vectors=packed)
    with pytest.raises(InvalidRequest, match=f"^{field}: "):
        given_vectors(call, bundle.manifest.components)
    with (
        Client(bundle, cut=4, threads=1) as client,
        pytest.raises(InvalidRequest, match=f"^{field}: ") as caught,
    ):
        client.run(request)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "vectors",
    [
        {"portrait": [1.0, float("nan"), 0, 0]},
        {"portrait": [1e300, 0, 0, 0]},
        {"portrait": [[1.0, 2.0]]},
        {"portrait": []},
        {"portrait": [0.0] * 16385},
        {"portrait": ["a"]},
        {"Portrait": FACE},
        {"x" * 41: FACE},
        {f"v{number}": [0.0] for number in range(17)},
    ],
)
def test_numbers_that_are_none_are_refused(vectors: dict[str, object]) -> None:
    """When the request is made, naming the field."""
    with pytest.raises(InvalidRequest, match=r"^vectors") as caught:
        GenerateRequest(prompt="a cat", vectors=vectors)
    assert caught.value.field.startswith("vectors")


def test_the_wire_carries_them_bit_for_bit() -> None:
    """Of float32, and of one axis alone."""
    numbers = np.array([0.1, -3e38, 1e-40], np.float32)
    call = GenerateCall(
        request_id="a",
        bundle_id="b",
        start=PromptStart("a cat"),
        vectors={"v": pack_tensor(numbers)},
    )
    (read,) = [read_vector(n, v) for n, v in decode_generate(encode_generate(call)).vectors.items()]
    assert read.tobytes() == numbers.tobytes()
    for wrong in (
        PackedTensor((3,), "float16", b"\0" * 6),
        PackedTensor((1, 3), "float32", b"\0" * 12),
        PackedTensor((4,), "float32", b"\0" * 12),
        PackedTensor((1,), "float32", np.float32(np.inf).tobytes()),
    ):
        with pytest.raises(InvalidRequest, match=r"^vectors\.v"):
            read_vector("v", wrong)


def test_an_older_server_is_not_sent_any(bundle: Bundle, server: str) -> None:
    """It would ignore them and make another picture."""
    with Client(bundle, server=server, cut=0, threads=1) as client:
        peer = client._resources.connection(THERE).link.peer(Deadline.after(60.0))
    old = replace(peer, info=replace(peer.info, limits=replace(peer.info.limits, max_vectors=0)))
    with pytest.raises(VersionMismatch, match=r"^vectors\.portrait: "):
        check_knows_vectors(old, REQUEST.vectors)
    check_knows_vectors(old, {})


def test_the_command_line_takes_numbers_or_a_file(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same picture, also made again of its own text; what is wrong is refused by its name."""
    given = ["generate", "--bundle", str(bundle.folder), "--cut", "4", "-q"]
    asked = [*given, "a red apple", "--seed", "4"]
    np.save(tmp_path / "face.npy", np.array(FACE))
    numbers = ",".join(map(str, FACE))
    for name, vector in (("numbers", numbers), ("file", f"@{tmp_path / 'face.npy'}")):
        out = tmp_path / f"{name}.png"
        assert main([*asked, "--vector", f"portrait={vector}", "-o", str(out)]) == 0
    again = tmp_path / "again.png"
    assert main([*given, "--from", str(tmp_path / "file.png"), "-o", str(again)]) == 0
    one, *others = (
        np.asarray(Image.open(tmp_path / f"{n}.png")) for n in ("numbers", "file", "again")
    )
    for other in others:
        np.testing.assert_array_equal(one, other)
    with Client(bundle, cut=4, threads=1) as client:
        np.testing.assert_array_equal(client.run(REQUEST).image, one)
    capsys.readouterr()
    for wrong in ("portrait=a,b", f"portrait=@{tmp_path / 'none.npy'}", "portrait=1"):
        assert main([*asked, "--vector", wrong, "-o", str(tmp_path / "x.png")]) == 2
        assert "vectors.portrait: " in capsys.readouterr().err
    assert main(["inspect", str(bundle.folder)]) == 0
    printed = capsys.readouterr().out
    assert "portrait, 4 numbers of the request, zeros without the words" in printed
    assert "pooled_text, 8 numbers of the words" in printed


def test_a_negative_prompt_is_refused_where_pooled_text_is_read(bundle: Bundle) -> None:
    """Its pooled text would be missing: the picture would be one that no library makes."""
    with (
        Client(bundle, cut=4, threads=1) as client,
        pytest.raises(InvalidRequest, match="pooled_text"),
    ):
        client.run(replace(REQUEST, negative="a cat", last_stage="base", vectors={}))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ((replace(SIZES, width=3, default=()),), r"vectors\[0\].width"),
        ((replace(SIZES, name="x_t"),), r"vectors\[0\].name"),
        ((replace(SIZES, name="Sizes"),), r"vectors\[0\].name"),
        ((replace(SIZES, default=(1.0,)),), r"vectors\[0\].default"),
        ((SIZES, SIZES), r"vectors\[1\].name"),
        ((replace(SIZES, source="words", default=()),), r"vectors\[0\].source"),
        ((replace(POOLED, source="request"),), r"vectors\[0\].source"),
        ((VectorSpec(name="voice", width=2),), r"vectors\[0\].width"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    bundle: Bundle, changes: tuple[VectorSpec, ...], field: str
) -> None:
    """Naming the field of the component."""
    base = stages_of(bundle.manifest)[0]
    at = bundle.manifest.position(base.name)
    components = list(bundle.manifest.components)
    components[at] = replace(base, vectors=changes)
    with pytest.raises(ManifestError, match=rf"components\[{at}\].{field}"):
        replace(bundle.manifest, components=tuple(components))
