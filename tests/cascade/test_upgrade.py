"""`cascade upgrade`: a bundle of format 2 as it was written, made one of the present format."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.format2 import upgraded
from cascade.bundle.manifest import UPGRADED_FROM, Manifest
from cascade.codecs.strict_json import canonical_json, to_json
from cascade.commands.cli import main
from cascade.commands.exit_codes import BAD_INPUT, DONE
from cascade.errors import ManifestError
from cascade.request import GenerateRequest
from runtime_client.client import Client
from tests.support.serving import running
from tests.support.tiny_bundle import write_tiny_bundle

ROOT = Path(__file__).parents[2]


def old_graph(graph: dict[str, Any]) -> dict[str, Any]:
    """A graph's entry as format 2 had it."""
    graph = {key: value for key, value in graph.items() if key != "padded_by"}
    for record in (graph, *graph["variants"], *graph["gpu_forms"]):
        record["parity"] = {**record["parity"], "samples": 1}
    for variant in graph["variants"]:
        variant["picture_db"] = variant.pop("quality")["value"]
    return {**graph, "fusions": {"swish": 2}}


def old_entry(entry: dict[str, Any]) -> dict[str, Any]:
    """A component's entry as format 2 had it."""
    starts, makes = entry.pop("starts_from"), entry.pop("makes")
    entry["graph"] = old_graph(entry.pop("graphs")["net"])
    if entry["family"] == "text_encoder":
        return {**entry, "context_width": makes["width"], "provenance": "numbers"}
    del entry["provenance"]
    low = [value["width"] for value in starts if value["kind"] == "image"]
    sizes = {"input_resolution": low[0] if low else None, "output_resolution": makes["width"]}
    return {**entry, **sizes, "skip_scale": "long_skips", "training": {"steps": 7.0}}


def in_format_2(manifest: Manifest) -> dict[str, Any]:
    """A manifest as an exporter wrote it before."""
    value = to_json(manifest)
    encoder, *stages = map(old_entry, value.pop("components"))
    return {
        **value,
        "format_version": 2,
        "provenance": "made by the tests",
        "text_encoder": encoder,
        "stages": stages,
    }


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """The tiny bundle with 8-bit files, as it is now."""
    return write_tiny_bundle(tmp_path / "bundle", int8=True)


@pytest.fixture
def old(bundle: Bundle) -> Path:
    """The same, its manifest in format 2."""
    text = json.dumps(in_format_2(bundle.manifest))
    (bundle.folder / "manifest.json").write_text(text)
    return bundle.folder


def test_every_field_is_carried_over(bundle: Bundle) -> None:
    """What runs is the same record; what nobody reads lies in the provenance, and the id before."""
    value = in_format_2(bundle.manifest)
    found = upgraded(value)
    before = hashlib.sha256(canonical_json(value)).hexdigest()
    assert found.provenance == {"made_of": "made by the tests", UPGRADED_FROM: before}
    assert found.ids == (found.bundle_id, before)
    assert found.files == bundle.manifest.files
    for was, now in zip(bundle.manifest.components, found.components, strict=True):
        assert {**to_json(now), "provenance": None} == {**to_json(was), "provenance": None}
    stage = found.components[1].provenance
    assert stage["training"] == {"steps": 7.0}
    assert (stage["skip_scale"], stage["fusions"]) == ("long_skips", {"swish": 2})


def test_the_command_rewrites_the_manifest_alone(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every other byte stays; the bundle opens, and a second time there is nothing to do."""
    files = {file.name: file.read_bytes() for file in old.iterdir() if file.suffix != ".json"}
    with pytest.raises(ManifestError, match="cascade upgrade"):
        open_bundle(old)
    assert main(["upgrade", str(old)]) == DONE
    printed = capsys.readouterr().out
    manifest = open_bundle(old).manifest
    assert " -> ".join(manifest.ids[::-1]) in printed
    assert {f.name: f.read_bytes() for f in old.iterdir() if f.suffix != ".json"} == files
    assert main(["upgrade", str(old)]) == BAD_INPUT
    assert "has format 3 already" in capsys.readouterr().err


def test_a_signature_over_the_old_manifest_is_removed(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would fit nothing; the command says so."""
    (old / "manifest.sig").write_bytes(b"s" * 64)
    assert main(["upgrade", str(old)]) == DONE
    assert "sign the bundle again" in capsys.readouterr().out
    assert not (old / "manifest.sig").exists()


@pytest.mark.parametrize(
    ("spoil", "field"),
    [
        (lambda v: v["stages"][0].update(steps="3"), "manifest.stages[0].steps"),
        (lambda v: v.update(more=1), "manifest.more"),
        (lambda v: v["stages"][1].update(input_resolution=9), "manifest.components[2].makes"),
        (lambda v: v["text_encoder"].update(context_width=9), "manifest.components[1].starts_from"),
    ],
)
def test_what_is_wrong_is_still_refused(
    bundle: Bundle, spoil: Callable[[dict[str, Any]], None], field: str
) -> None:
    """As strictly as before, and what format 3 compares besides."""
    value = in_format_2(bundle.manifest)
    spoil(value)
    with pytest.raises(ManifestError) as caught:
        upgraded(value)
    assert caught.value.field == field


def test_a_damaged_file_stops_the_upgrade(old: Path) -> None:
    """Nothing is written over a bundle that is not whole."""
    text = (old / "manifest.json").read_text()
    (old / "sr16.onnx").write_bytes(b"x" * (old / "sr16.onnx").stat().st_size)
    assert main(["upgrade", str(old)]) == BAD_INPUT
    assert (old / "manifest.json").read_text() == text


def test_both_ids_are_answered(bundle: Bundle, tmp_path: Path) -> None:
    """A client whose bundle has the id from before and one with the new id get the same picture."""
    value = in_format_2(bundle.manifest)
    after = upgraded(value)
    (bundle.folder / "manifest.json").write_text(json.dumps(to_json(after)))
    served = open_bundle(bundle.folder)
    request = GenerateRequest(prompt="a red apple", seed=3)
    with running(served, listen=f"unix:{tmp_path / 's'}") as server:
        info = server.core.info()
        assert (info.bundle_id, info.bundle_ids) == (after.ids[1], after.ids)
        with Client(served, server=server.address, cut=1, threads=1) as client:
            new = client.run(request)
        before = Bundle(served.folder, AsBefore(served.manifest))  # type: ignore[arg-type]
        with Client(before, server=server.address, cut=1, threads=1) as client:
            old = client.run(request)
    np.testing.assert_array_equal(old.image, new.image)


class AsBefore:
    """A manifest that knows only the id from before, as a client that was not updated."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self.bundle_id = manifest.ids[1]
        self.ids = (self.bundle_id,)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manifest, name)


def test_other_graphs_answer_to_their_own_id_alone() -> None:
    """The reference bundle was exported anew: its pictures are others, so no older id is its."""
    manifest = open_bundle(ROOT / "bundles" / "emoji-1").manifest
    assert manifest.ids == (manifest.bundle_id,)
    assert "upgraded_from" not in manifest.provenance
