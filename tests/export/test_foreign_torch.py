"""A user's own modules: the example of the documentation, from its factory to a picture."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cascade.bundle.bundle import Bundle, open_bundle
from cascade.commands.cli import main
from cascade.diffusion.continuous import FlowSpec
from cascade.diffusion.schedule import TableSpec
from cascade.diffusion.spec import ORTHOGONAL, GuidanceSpec, ThresholdSpec
from cascade.errors import ParityError, UnsupportedModel
from cascade.precision import Precision
from examples import my_cascade
from export.adapters.command import ForeignSource, describe
from export.adapters.torch_module import describe_torch
from export.bundle_writer import write_cascade
from export.components.component import ExportJob, ExportOptions, check_size
from export.components.synthetic_cases import stage_inputs, synthetic_case, synthetic_cases
from export.components.text_encoder import export_text_encoder
from export.description import CascadeDescription, TextEncoderDescription
from runtime_client.client import Client
from tests.support.manifests import stages_of

EXAMPLE = "examples.my_cascade:describe"


@pytest.fixture(scope="module")
def circles(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The example's bundle, written by the command."""
    out = tmp_path_factory.mktemp("own") / "circles"
    assert main(["export", "--from", "torch", EXAMPLE, "--out", str(out)]) == 0
    return open_bundle(out)


@pytest.mark.parametrize(
    ("prompt", "colour"), [("a red circle", (1, 0, 0)), ("A BLUE circle", (0, 0, 1))]
)
def test_the_example_paints_through_the_real_split(
    circles: Bundle, prompt: str, colour: tuple[int, int, int]
) -> None:
    """Base here, super-resolution on a private server: a circle of the colour that was asked."""
    with Client(circles, cut=2, threads=1) as client:
        result = client.generate(prompt, seed=3)
    assert result.image.shape == (64, 64, 3)
    middle = result.image[28:36, 28:36].mean(axis=(0, 1)) / 255
    np.testing.assert_allclose(middle, colour, atol=0.25)
    assert result.image[:4, :4].mean() < 64


def test_the_example_looks_the_same_at_every_cut(circles: Bundle) -> None:
    """The first law holds for brought cascades too: all here, or all but the text there."""
    images = []
    for cut in (1, 3):
        with Client(circles, cut=cut, threads=1) as client:
            images.append(client.generate("a green circle", seed=5).image)
    np.testing.assert_array_equal(images[0], images[1])


def test_the_example_verifies(circles: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """`cascade verify` finds hashes, signatures and one step of every component right."""
    assert main(["verify", str(circles.folder)]) == 0
    assert circles.bundle_id in capsys.readouterr().out


def test_the_manifest_says_what_the_factory_said(circles: Bundle) -> None:
    """Choices arrive as they were made, and parity was measured at five times."""
    base, upscaler = stages_of(circles.manifest)
    assert base.threshold == ThresholdSpec(kind="dynamic", percentile=0.995, cap=1.5)
    assert (base.sampler, base.steps, base.guidance.weight) == ("ddpm", 8, 1.5)
    assert base.provenance["parity_samples"] == 5
    assert base.graph.parity.max_abs_error < 1e-5
    assert upscaler.graph.inputs[0].shape == ("batch", 3, "height", "width")
    assert circles.manifest.licence == "CC0-1.0"


class Liar(nn.Module):
    """Answers one thing when asked, and another while it is exported."""

    def forward(self, x_t: Tensor, t: Tensor, context: Tensor, context_mask: Tensor) -> Tensor:
        """Something that depends on all inputs."""
        text = (context * context_mask[:, :, None]).mean((1, 2)) + t
        lie = 1.0 if torch.compiler.is_exporting() else 0.0
        return x_t * 0.5 + text[:, None, None, None] + lie


def describe_liar() -> CascadeDescription:
    """The example with a network that is not its graph."""
    described = my_cascade.describe()
    return replace(described, stages=(replace(described.stages[0], network=Liar()),))


def test_a_graph_that_is_not_its_network_is_not_written(tmp_path: Path) -> None:
    """Made-up inputs at several times are enough to catch it, and no folder is left."""
    with pytest.raises(ParityError, match="prediction"):
        write_cascade(describe_liar(), tmp_path / "out", report=lambda _line: None)
    assert list(tmp_path.iterdir()) == []


def test_samples_of_one_s_own_take_the_place_of_made_up_ones() -> None:
    """Parity is measured on the batches that the description brings."""
    base = my_cascade.describe().stages[0]
    cases = synthetic_cases(base, np.ones((3, my_cascade.WIDTH), np.float16))
    assert [case["t"].tolist() for case in cases[:2]] == [
        [np.float32(0.02), 1.0],
        [0.25, 0.75],
    ]
    assert {value.dtype for case in cases for value in case.values()} == {np.dtype(np.float32)}
    described = replace(base, samples=(cases[0],))
    assert len(described.samples) == 1


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("examples.my_cascade", "expected MODULE:FACTORY"),
        (":describe", "expected MODULE:FACTORY"),
        ("no_such_module:describe", "No module named"),
        ("examples.my_cascade:nothing", "has no function nothing"),
        ("examples.my_cascade:tokenizer", "expected a CascadeDescription, got bytes"),
    ],
)
def test_a_wrong_factory_is_a_typed_error(where: str, words: str) -> None:
    """The message says what was expected."""
    with pytest.raises(UnsupportedModel, match=words) as caught:
        describe_torch(where)
    assert caught.value.field == "from"


def test_the_reference_encoder_stands_in_where_none_is_described(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without `--text-encoder`, stages of a user's own read the reference cascade's embeddings."""
    bare = replace(my_cascade.describe(), text_encoder=None)
    monkeypatch.setattr(my_cascade, "bare", lambda: bare, raising=False)
    found = describe(ForeignSource(kind="torch", where="examples.my_cascade:bare")).text_encoder
    assert found is not None
    assert (found.context_width, found.pad_token) == (384, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"upscalers": (Path("x"),)},
        {"timesteps": {"base": "smart27"}},
        {"kind": "onnx"},
    ],
)
def test_options_of_another_kind_are_refused(changes: dict[str, object]) -> None:
    """What goes with folders does not go with a factory, and other kinds there are none."""
    source = replace(ForeignSource(kind="torch", where=EXAMPLE), **changes)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedModel) as caught:
        describe(source)
    assert caught.value.field == "from"


GUIDED = GuidanceSpec(kind="constant", weight=2.0)
PROJECTED_STUDENT = GuidanceSpec(
    kind="constant", weight=2.0, convention=ORTHOGONAL, taught=(1.0, 4.0)
)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"augmentation": None}, "augmentation"),
        ({"input_resolution": None}, "augmentation"),
        ({"output_resolution": 80}, "output_resolution"),
        ({"uses_mask": False, "guidance": GUIDED}, "null_text"),
        ({"enlarge": "none", "any_size": True}, "any_size"),
        ({"schedule": TableSpec(alpha_bar=(0.5, 0.9))}, "schedule.alpha_bar"),
        ({"schedule": FlowSpec(kind="flow"), "prediction": "epsilon"}, "prediction"),
        ({"guidance": PROJECTED_STUDENT}, "guidance.convention"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(
    changes: dict[str, object], field: str
) -> None:
    """Before anything is exported, naming stage and field."""
    with pytest.raises(UnsupportedModel) as caught:
        replace(my_cascade.describe().stages[1], **changes)  # type: ignore[arg-type]
    assert caught.value.field == f"sr64.{field}"


def test_a_network_may_be_shown_the_small_picture() -> None:
    """With `none` its signature and the made-up inputs have that picture's size, fixed."""
    encoder = my_cascade.describe().text_encoder
    assert encoder is not None
    stage = replace(my_cascade.describe().stages[1], any_size=False, enlarge="none")
    shapes = {spec.name: spec.shape for spec in stage_inputs(stage, encoder)}
    assert shapes["low_res"] == ("batch", 3, stage.input_resolution, stage.input_resolution)
    assert shapes["x_t"] == ("batch", 3, stage.output_resolution, stage.output_resolution)
    case = synthetic_case(stage, np.ones((3, my_cascade.WIDTH), np.float16), 0)
    assert case["low_res"].shape[2:] == (stage.input_resolution, stage.input_resolution)


def test_a_network_beyond_one_file_is_refused_before_it_is_exported() -> None:
    """A graph holds 2 GiB of weights; the error says how many parameters that is."""
    huge = nn.Linear(1 << 15, 1 << 15, device="meta")
    with pytest.raises(UnsupportedModel, match="1074 million parameters"):
        check_size("base", huge)


def job_of(encoder: TextEncoderDescription, *prompts: str) -> ExportJob:
    """An export of a text encoder alone."""
    return ExportJob(
        encoder=encoder,
        prompts=prompts,
        options=ExportOptions(),
        requires_gpu_forms=False,
        report=lambda _line: None,
    )


class Positions(nn.Module):
    """Rows of two tables, of words and of places, as many encoders have them."""

    def __init__(self, words: int, places: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, my_cascade.WIDTH)
        self.places = nn.Embedding(places, my_cascade.WIDTH)

    def forward(self, token_ids: Tensor, token_mask: Tensor) -> Tensor:
        """`[B, L]` to `[B, L, WIDTH]`."""
        where = torch.arange(token_ids.shape[1])
        return (self.words(token_ids) + self.places(where)) * token_mask[:, :, None]


@pytest.mark.parametrize(
    ("words", "places", "field"),
    [(len(my_cascade.WORDS) - 1, 16, "tokenizer"), (len(my_cascade.WORDS), 15, "max_tokens")],
)
def test_a_text_encoder_without_a_row_for_a_prompt_is_refused(
    words: int, places: int, field: str
) -> None:
    """A token beyond the table of words or of places would fail at the first such prompt."""
    described = my_cascade.describe().text_encoder
    assert described is not None
    short = replace(described, network=Positions(words, places), max_tokens=16)
    with pytest.raises(UnsupportedModel, match=field) as caught:
        export_text_encoder(job_of(short, "a red circle"))
    assert caught.value.field == f"text_encoder.{field}"


def test_a_text_encoder_is_compared_on_its_longest_prompt() -> None:
    """Tables that are just large enough pass: the two prompts and the longest one are compared."""
    described = my_cascade.describe().text_encoder
    assert described is not None
    enough = replace(described, network=Positions(len(my_cascade.WORDS), 16), max_tokens=16)
    component = export_text_encoder(job_of(enough, "a red circle", "a"))
    assert component.spec.provenance["parity_samples"] == 3


def test_options_go_with_their_source(capsys: pytest.CaptureFixture[str]) -> None:
    """`--upscaler` without `--from`, and `--from` without `--out`, end with one line."""
    assert main(["export", "--upscaler", "x"]) != 0
    assert main(["export", "--from", "torch", EXAMPLE]) != 0
    assert "--from" in capsys.readouterr().err


def test_forms_and_precisions_are_written_where_they_are_asked_for(
    circles: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """int8 variants and forms for GPUs, proven; by default neither is written."""
    out = tmp_path / "all"
    flags = ["--precisions", "fp32", "int8", "--gpu-forms", "fp16", "fp32", "--web-forms"]
    assert main(["export", "--from", "torch", EXAMPLE, "--out", str(out), *flags]) == 0
    bundle = open_bundle(out)
    bundle.verify_files()
    for component in bundle.manifest.components:
        forms = {form.precision: form for form in component.graph.gpu_forms}
        # A table of embeddings has no layer that is worth halving.
        halved = {Precision.FP16} if component.family == "diffusion" else set()
        assert set(forms) == {Precision.FP32} | halved
        assert forms[Precision.FP32].parity.max_abs_error < 1e-4
    said = capsys.readouterr().out
    assert "text_encoder  without a form for GPUs in fp16" in said
    # Neither graph has anything that a browser would compute wrongly.
    assert said.count("for browsers: the graph as it is") == len(bundle.manifest.components)
    for stage in stages_of(bundle.manifest):
        (variant,) = stage.graph.variants
        assert variant.precision is Precision.INT8
        assert variant.quality.value >= 30
    assert main(["verify", str(out)]) == 0
    for component in circles.manifest.components:
        assert component.graph.variants == component.graph.gpu_forms == ()


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        (["--storage", "int8"], "storage"),
        (["--checkpoints", "c"], "checkpoints"),
        (["--data", "d.npz"], "data"),
        (["--networks", "base=b"], "networks"),
        (["--timesteps", "smart100"], "timesteps"),
    ],
)
def test_flags_of_our_own_stages_are_refused_by_name(
    flags: list[str], field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any work: they were taken and ignored."""
    command = ["export", "--from", "torch", EXAMPLE, "--out", str(tmp_path / "no"), *flags]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {field}: ")
    assert not (tmp_path / "no").exists()


def test_int8_wants_a_prompt_to_prove_on(tmp_path: Path) -> None:
    """One to calibrate on and another; with one alone nothing would be proven."""
    description = replace(my_cascade.describe(), prompts=("a red circle",))
    options = ExportOptions(precisions=frozenset({Precision.INT8}), gpu_forms=frozenset())
    with pytest.raises(UnsupportedModel, match="describe two"):
        write_cascade(description, tmp_path / "no", report=print, options=options)
