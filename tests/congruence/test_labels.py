"""A class-conditional cascade: the number or the name of a class, the same pixels at every cut."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cascade.boundary import Label, Prompt
from cascade.bundle.bundle import Bundle
from cascade.bundle.manifest import Manifest, read_manifest, write_manifest
from cascade.commands.cli import main
from cascade.errors import InvalidRequest, ManifestError
from cascade.events import StageFinished
from cascade.labels.family import label_named
from cascade.labels.spec import class_number
from cascade.request import GenerateRequest
from cascade.stage_factory import open_stage
from cascade.tuning.plan import EnginePlan
from runtime_client.client import Client
from tests.support.label_bundle import CLASSES, TABLE, label_spec, write_label_bundle
from tests.support.serving import running


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Three classes, three stages."""
    return write_label_bundle(tmp_path_factory.mktemp("labels") / "bundle")


@pytest.fixture(scope="module")
def server(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of every component."""
    place = tmp_path_factory.mktemp("socket") / "s"
    with running(bundle, listen=f"unix:{place}", cut=0) as started:
        yield started.address


def test_every_cut_makes_the_same_pixels(bundle: Bundle, server: str) -> None:
    """Guided away from no class (a mask of zeros); another class is another picture."""
    found = []
    for cut in range(5):
        with Client(bundle, server=server, cut=cut, threads=1) as client:
            found.append([client.run(GenerateRequest(label=n, seed=3)).image for n in range(3)])
    for pictures in found[1:]:
        for one, other in zip(found[0], pictures, strict=True):
            np.testing.assert_array_equal(one, other)
    assert (found[0][0] != found[0][1]).any()
    assert (found[0][1] != found[0][2]).any()


def test_the_command_line_takes_a_number_or_a_name(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same picture; an unknown class is refused with those that there are."""
    given = ["generate", "--bundle", str(bundle.folder), "--cut", "4", "--seed", "3", "-q"]
    for word in ("1", "cat"):
        assert main([*given, "--label", word, "-o", str(tmp_path / f"{word}.png")]) == 0
    one, other = (np.asarray(Image.open(tmp_path / f"{w}.png")) for w in ("1", "cat"))
    np.testing.assert_array_equal(one, other)
    for word in ("dog", "3"):
        assert main([*given, "--label", word, "-o", str(tmp_path / "x.png")]) == 2
        assert "label: label has" in capsys.readouterr().err


def test_the_context_is_the_row_of_the_class(bundle: Bundle) -> None:
    """In half precision, as it crosses the wire."""
    stage = open_stage(bundle, 0, EnginePlan(threads=1))
    request = GenerateRequest(label=2)
    (last,) = stage.run(request, request.start)
    stage.close()
    assert isinstance(last, StageFinished)
    np.testing.assert_array_equal(last.handoff.context, TABLE[2:3].astype(np.float16))


@pytest.mark.parametrize("label", [None, 3, 2**31])
def test_a_class_that_there_is_not_is_refused(
    bundle: Bundle, server: str, label: int | None
) -> None:
    """By the client and by the server, naming the field."""
    for cut in (0, 4):
        with (
            Client(bundle, server=server, cut=cut, threads=1) as client,
            pytest.raises(InvalidRequest) as caught,
        ):
            client.run(GenerateRequest(label=label))
        assert caught.value.field in ("label", "first_stage")


def test_names_are_looked_up() -> None:
    """By name, by digits, and refused where there is neither."""
    spec = label_spec()
    assert [class_number(spec, word) for word in (*CLASSES, "2")] == [0, 1, 2, 2]
    with pytest.raises(InvalidRequest, match="apple, cat, tree"):
        class_number(spec, "dog")
    with pytest.raises(InvalidRequest, match="numbers from 0 to 2"):
        class_number(replace(spec, class_names=()), "dog")
    with pytest.raises(InvalidRequest, match="no names of classes"):
        label_named((), "dog")


def changed(manifest: Manifest, **changes: object) -> Manifest:
    """The manifest with another entry of its encoder."""
    return replace(manifest, components=(label_spec(**changes), *manifest.components[1:]))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"class_names": ("apple", "cat")}, "class_names"),
        ({"class_names": ("cat", "cat", "tree")}, "class_names"),
        ({"class_names": ("", "cat", "tree")}, "class_names"),
        ({"starts_from": (Prompt(),)}, "starts_from"),
        ({"starts_from": (Label(classes=0),)}, "starts_from"),
        ({"tokens": 0}, "tokens"),
        ({"graphs": {}}, "graphs"),
    ],
)
def test_a_wrong_entry_is_refused(bundle: Bundle, changes: dict[str, object], field: str) -> None:
    """The error names the field; the right one is read back as it was."""
    with pytest.raises(ManifestError) as caught:
        changed(bundle.manifest, **changes)
    assert caught.value.field == f"manifest.components[0].{field}"
    assert read_manifest(write_manifest(bundle.manifest).encode()) == bundle.manifest
