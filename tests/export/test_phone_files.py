"""Files for phones: converted, run, compared with what they came from, and refused where wrong."""

import json
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.bundle.default_bundle import REFERENCE
from cascade.commands.cli import main as cascade
from cascade.engines.ort import OrtEngine
from cascade.errors import InvalidRequest, MissingExtra, ParityError, UnsupportedModel
from cascade.graph_spec import TensorSpec
from cascade.text.family import text_encoder_of
from cascade.types import Array
from export.phone import command
from export.phone.cases import diffusion_case, diffusion_cases
from export.phone.command import PhoneExport, export_phone, open_target
from export.phone.comparison import agreement_of
from export.phone.record import digest_of
from export.phone.spelling import LayerNormGroups, phone_spelling
from export.phone.subject import PhoneGraph, fixed, subjects_of
from export.weights.released_encoder import released_encoder
from stages.evaluation.sampling import graph_inputs, graph_outputs
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.tiny_pixels import TINY_FIRST, body_case, stirred_pixels
from tests.support.tiny_training import TINY_SR, stirred

FRAMEWORKS = {
    "executorch": "executorch",
    "litert": "litert_torch",
    "coreml": "coremltools",
}
"""The package that each target needs."""
AXES = {"batch": 1, "tokens": 5, "height": 32, "width": 32}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose networks nothing can read back into torch."""
    return write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="module")
def upscaler() -> PhoneGraph:
    """A super-resolution network in miniature: its first layer reads two pictures joined."""
    network = stirred(TINY_SR.unet)
    inputs, outputs = graph_inputs(TINY_SR), graph_outputs(TINY_SR)
    return subject_of(network, inputs, outputs, diffusion_cases(inputs, AXES))


@pytest.fixture(scope="module")
def pixels() -> PhoneGraph:
    """The body of a stage of pixels by groups in miniature: every bit counts."""
    network = stirred_pixels(TINY_FIRST).body
    cases = [body_case(TINY_FIRST, rows=1, seed=seed) for seed in range(2)]
    with torch.no_grad():
        made = network(**{name: torch.from_numpy(v) for name, v in cases[0].items()}).numpy()
    inputs = [tensor(name, value) for name, value in cases[0].items()]
    return subject_of(network, inputs, [tensor("features", made)], cases, exact=True)


def tensor(name: str, value: Array) -> Any:
    """An array's entry among inputs or outputs."""
    return TensorSpec(name=name, dtype=str(value.dtype), shape=value.shape)  # type: ignore[arg-type]


def subject_of(
    network: Any, inputs: Sequence[Any], outputs: Sequence[Any], cases: Any, *, exact: bool = False
) -> PhoneGraph:
    """A subject of a network that no bundle holds."""
    return PhoneGraph(
        component="tiny", role="net", graph=b"", network=network, axes=AXES,
        inputs=fixed(inputs, AXES), outputs=fixed(outputs, AXES), cases=cases, exact=exact,
    )  # fmt: skip


class ShiftedFile:
    """A runtime that adds something to every answer."""

    def __init__(self, subject: PhoneGraph, shift: float) -> None:
        self._subject, self._shift = subject, np.float32(shift)

    def run(self, inputs: Mapping[str, Array]) -> Sequence[Array]:
        """The true answers, moved."""
        found = self._subject.original.run(inputs)
        return [found[tensor.name] + self._shift for tensor in self._subject.outputs]


class ShiftedTarget:
    """A converter that loses something on the way and reports no error."""

    suffix, version, reads_graphs = ".shifted", "1.0", True

    def convert(self, subject: PhoneGraph, path: Path) -> None:
        """A file that holds nothing."""
        path.write_bytes(b"x")

    def check(self, subject: PhoneGraph, path: Path) -> None:
        """Nothing."""

    def input_dtypes(self, subject: PhoneGraph, path: Path) -> Mapping[str, str]:
        """Integers of 32 bits, as some runtimes have them alone."""
        return {t.name: t.dtype.replace("int64", "int32") for t in subject.inputs}

    def open(self, subject: PhoneGraph, path: Path) -> ShiftedFile:
        """One whose answers are far off at the second component."""
        return ShiftedFile(subject, 0.0 if subject.component == "text_encoder" else 0.5)


def test_ort_files_of_a_bundle_answer_as_its_graphs(tiny: Bundle, tmp_path: Path) -> None:
    """The command writes a file per graph and a record of each; run here, they give the numbers."""
    out = tmp_path / "phone"
    line = ["export-phone", str(tiny.folder), "--target", "ort", "--out", str(out)]
    assert cascade([*line, "--tokens", "6"]) == 0
    record = json.loads((out / "phone.json").read_text())
    assert record["bundle_id"] == tiny.bundle_id
    assert [entry["file"] for entry in record["files"]] == ["text_encoder.ort", "base.ort"]
    for entry, subject in zip(record["files"], subjects(tiny), strict=True):
        path = out / entry["file"]
        assert entry["sha256"] == digest_of(path)
        assert entry["size_bytes"] == path.stat().st_size
        assert entry["was_run"]
        assert entry["inputs"][0]["shape"] == list(subject.inputs[0].shape)
        case, engine = subject.cases[0], OrtEngine(path.read_bytes())
        name = subject.outputs[0].name
        wanted = OrtEngine(subject.graph).run(case)[name]
        np.testing.assert_allclose(engine.run(case)[name], wanted, atol=1e-5)
    # Again into the same folder; nothing else is ever deleted.
    assert cascade([*line, "--components", "text_encoder"]) == 0
    assert sorted(file.name for file in out.iterdir()) == ["phone.json", "text_encoder.ort"]


def subjects(tiny: Bundle) -> list[PhoneGraph]:
    """What a device runs of the tiny bundle, for texts of six tokens."""
    return subjects_of(tiny, (), 6, needs_networks=False)


@pytest.fixture
def shifted(monkeypatch: pytest.MonkeyPatch) -> str:
    """A target by name whose files are wrong."""
    monkeypatch.setitem(command.TARGETS, "shifted", (__name__, "ShiftedTarget"))
    monkeypatch.setattr(command, "import_module", lambda _: sys.modules[__name__])
    return "shifted"


def test_a_file_that_is_not_its_network_is_not_written(
    tiny: Bundle, tmp_path: Path, shifted: str
) -> None:
    """The error names component and figure, and the folder of before stays as it was."""
    out = tmp_path / "phone"
    with pytest.raises(ParityError, match=r"base: \d+\.\d dB from the bundle's graph") as raised:
        export_phone(tiny, PhoneExport(target=shifted, out=out), print)
    assert raised.value.field == "base"
    assert list(tmp_path.iterdir()) == []


def test_stages_beyond_the_first_are_exported_where_they_are_named(
    tiny: Bundle, tmp_path: Path
) -> None:
    """Each is run here and compared as the others are."""
    wanted = PhoneExport(target="ort", out=tmp_path / "ort", components=("sr16", "sr32"), tokens=6)
    found = export_phone(tiny, wanted, print)
    assert [file.subject.name for file in found] == ["sr16", "sr32"]
    assert [file.subject.sides for file in found] == [
        {"height": 16, "width": 16},
        {"height": 32, "width": 32},
    ]
    assert all(file.agreement is not None for file in found)


def test_the_record_has_the_dtypes_that_a_file_takes(
    tiny: Bundle, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """And not those of the bundle; names are the same."""
    taken = {}
    for target in ("ort", "shifted"):
        if target == "shifted":
            request.getfixturevalue("shifted")
        wanted = PhoneExport(target=target, out=tmp_path / target, components=("text_encoder",))
        export_phone(tiny, wanted, print)
        (entry,) = json.loads((tmp_path / target / "phone.json").read_text())["files"]
        taken[target] = [(each["name"], each["dtype"]) for each in entry["inputs"]]
    assert taken["ort"] == [("token_ids", "int64"), ("token_mask", "float32")]
    assert taken["shifted"] == [("token_ids", "int32"), ("token_mask", "float32")]


def test_every_bit_of_a_stage_of_pixels_counts(pixels: PhoneGraph) -> None:
    """One that answers half a step off is refused, however many decibels that is."""
    assert agreement_of(pixels, ShiftedFile(pixels, 0.0)).differing == 0
    with pytest.raises(ParityError, match=r"tiny: \d+ of \d+ values differ"):
        agreement_of(pixels, ShiftedFile(pixels, 2**-9))


def test_answers_of_another_shape_or_none_are_refused(upscaler: PhoneGraph) -> None:
    """Half the values, a number that is none, and no answer at all are named."""

    class Half(ShiftedFile):
        def run(self, inputs: Mapping[str, Array]) -> Sequence[Array]:
            return [super().run(inputs)[0].astype(np.float16)]

    class Silent(ShiftedFile):
        def run(self, inputs: Mapping[str, Array]) -> Sequence[Array]:
            return []

    with pytest.raises(ParityError, match="float16"):
        agreement_of(upscaler, Half(upscaler, 0))
    with pytest.raises(ParityError, match="not finite"):
        agreement_of(upscaler, ShiftedFile(upscaler, np.nan))
    with pytest.raises(ParityError, match="0 answers, expected 1"):
        agreement_of(upscaler, Silent(upscaler, 0))


def test_wrong_inputs_are_named(tiny: Bundle, tmp_path: Path) -> None:
    """A component that there is not, a length out of range, a folder of others, no network."""
    for wanted, field in (
        (PhoneExport(target="ort", out=tmp_path / "a", components=("sr8",)), "components"),
        (PhoneExport(target="ort", out=tmp_path / "a", tokens=17), "tokens"),
        (PhoneExport(target="ort", out=tiny.folder), "out"),
    ):
        with pytest.raises(InvalidRequest) as raised:
            export_phone(tiny, wanted, print)
        assert raised.value.field == field
    with pytest.raises(UnsupportedModel, match="text_encoder: the bundle's network is not"):
        subjects_of(tiny, (), None)


@pytest.mark.parametrize("target", FRAMEWORKS)
def test_a_missing_framework_is_named_with_its_remedy(target: str) -> None:
    """The extra that installs it, in an environment of its own."""
    if find_spec(FRAMEWORKS[target]) is not None:
        pytest.skip(f"{FRAMEWORKS[target]} is installed")
    with pytest.raises(MissingExtra, match=rf"pip install 'edge-cascade\[phone-{target}\]'"):
        open_target(target)


def test_norms_are_spelt_as_every_converter_bears_them() -> None:
    """The same numbers at a mean of a hundred deviations too, and no group norm is left."""
    torch.manual_seed(0)
    norm = torch.nn.GroupNorm(2, 8)
    torch.nn.init.normal_(norm.weight)
    h = torch.randn(1, 8, 4, 4) + 100
    wanted = norm.double()(h.double())
    torch.testing.assert_close(LayerNormGroups(norm.float())(h).double(), wanted, atol=1e-4, rtol=0)
    network = phone_spelling(stirred(TINY_SR.unet))
    assert not [m for m in network.modules() if isinstance(m, torch.nn.GroupNorm)]


def test_the_reference_encoder_is_read_back_from_its_bundle() -> None:
    """Proven against the bundle's graph on the way; on a rounded grid, as it was released."""
    bundle = open_bundle(REFERENCE)
    network: Any = released_encoder(bundle, text_encoder_of(bundle.manifest.components))
    words = network.words.weight[:1000]
    steps = words / (words.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127)
    assert float((steps - steps.round()).abs().max()) < 1e-3


def test_cases_have_fixed_shapes_and_edges() -> None:
    """Nearly clean to nearly noise, one without text and one at a large mean; always the same."""
    inputs = graph_inputs(TINY_SR)
    cases = diffusion_cases(inputs, AXES)
    assert [float(case["t"][0]) for case in cases] == pytest.approx([0.02, 0.5, 0.98, 0.5, 0.5])
    assert cases[3]["context_mask"].max() == 0
    assert cases[4]["x_t"].mean() > 25
    again = diffusion_case(inputs, AXES, 0.5)
    assert all(np.array_equal(again[name], cases[1][name]) for name in again)


@pytest.mark.parametrize("kind", ["upscaler", "pixels"])
@pytest.mark.parametrize("target", FRAMEWORKS)
def test_a_framework_gives_the_networks_numbers(
    target: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Converted and run here (Core ML: read back), where the framework is installed."""
    if find_spec(FRAMEWORKS[target]) is None:
        pytest.skip(f"needs {FRAMEWORKS[target]}: pip install 'edge-cascade[phone-{target}]'")
    subject: PhoneGraph = request.getfixturevalue(kind)
    framework = open_target(target)
    written = command.export_one(subject, framework, tmp_path)
    assert written.size_bytes > 0
    assert (written.agreement is None) == (target == "coreml")
    whole = {t.name for t in subject.inputs if t.dtype == "int64"}
    assert bool(whole) == (kind == "pixels")
    wanted = "int64" if target == "executorch" else "int32"
    assert {written.input_dtypes[name] for name in whole} <= {wanted}
