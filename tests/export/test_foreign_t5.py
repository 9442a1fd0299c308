"""T5 encoders of transformers as text encoders beside a user's own stages."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from cascade.engines.ort import OrtEngine
from cascade.errors import UnsupportedModel
from cascade.text.tokenizer import PromptTokenizer
from export.adapters.command import T5_TOKENS, ForeignSource, describe
from export.adapters.t5_encoder import t5_text_encoder
from export.adapters.t5_tokenizer import read_tokenizer
from export.components.component import ExportJob, ExportOptions
from export.components.text_encoder import export_text_encoder

pytest.importorskip("transformers", reason="THE FOREIGN EXTRA IS MISSING: T5 was not compared")
pytest.importorskip("diffusers", reason="THE FOREIGN EXTRA IS MISSING: T5 was not compared")
pytest.importorskip("sentencepiece", reason="THE FOREIGN EXTRA IS MISSING: no tiny tokenizer")

from tests.support import tiny_if

PROMPTS = ("a red apple", "two  cats sit on a GREEN chair, zebra!", "")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The slow way to tokens: transformers itself, from the sentencepiece model."""
    return tiny_if.write_tokenizer(tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def folder(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoder and tokenizer in one folder, as a model's own folder has them."""
    folder = tmp_path_factory.mktemp("t5")
    tiny_if.text_encoder().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_any_t5_encodes_as_transformers_does(folder: Path, tokenizer: Any) -> None:
    """The exported graph, on prompts of different lengths, against the model on the same tokens."""
    encoder = t5_text_encoder(folder, folder, max_tokens=32, pad=False, lower=False)
    job = ExportJob(
        encoder=encoder,
        prompts=PROMPTS[:2],
        options=ExportOptions(),
        requires_gpu_forms=False,
        report=lambda _line: None,
    )
    component = export_text_encoder(job)
    spec = component.spec
    assert spec.graph.inputs[0].shape == ("batch", "tokens")
    assert spec.graph.parity.max_abs_error < 1e-4
    engine = OrtEngine(component.files["text_encoder.onnx"], threads=1)
    model = tiny_if.text_encoder()
    for prompt in PROMPTS:
        ids = PromptTokenizer(encoder.tokenizer, 32)(prompt)
        assert ids.tolist() == tokenizer(prompt).input_ids
        mask = np.ones((1, len(ids)), np.float32)
        found = engine.run({"token_ids": ids[None], "token_mask": mask})["context"]
        with torch.no_grad():
            expected = model(torch.from_numpy(ids)[None]).last_hidden_state.numpy()
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_padding_is_seen_by_no_real_token(folder: Path) -> None:
    """Rows of real tokens are the same with and without padding behind them."""
    network = t5_text_encoder(folder, folder, max_tokens=8, pad=True, lower=True).network
    ids = torch.tensor([[5, 6, 1, 0, 0]])
    mask = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0]])
    padded, alone = network(ids, mask), network(ids[:, :3], mask[:, :3])
    np.testing.assert_allclose(padded[:, :3], alone, atol=1e-5)


def test_cleaning_is_part_of_the_tokenizer(folder: Path) -> None:
    """Lower case and stripped ends, only where they were asked for."""
    plain, cleaned = (
        Tokenizer.from_buffer(read_tokenizer(folder, lower=lower).definition)
        for lower in (False, True)
    )
    assert cleaned.encode("  A Red APPLE ").ids == plain.encode("a red apple").ids
    assert plain.encode("A Red APPLE").ids != plain.encode("a red apple").ids


def change(path: Path, **fields: object) -> dict[str, Any]:
    """Change fields of a JSON file; the whole object is returned."""
    value: dict[str, Any] = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps(value))
    return value


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of the folder, to change."""
    shutil.copytree(folder, tmp_path / "t5")
    return tmp_path / "t5"


def test_a_folder_s_own_tokenizer_is_taken_byte_for_byte(copy: Path) -> None:
    """Its Lowercase normalizer too, which transformers does not take over."""
    path = copy / "tokenizer.json"
    own = json.loads(path.read_text())["normalizer"]
    change(path, normalizer={"type": "Sequence", "normalizers": [{"type": "Lowercase"}, own]})
    encoder = t5_text_encoder(copy, copy, max_tokens=32, pad=False, lower=False)
    assert encoder.tokenizer == path.read_bytes()
    words = PromptTokenizer(encoder.tokenizer, 32)
    np.testing.assert_array_equal(words("A Red APPLE"), words("a red apple"))
    assert words("a red apple").max() > 2


def test_a_pre_tokenizer_and_no_end_token_of_one_s_own_are_kept(copy: Path) -> None:
    """Nothing is added that the file does not say: no `</s>` where there is no post-processor."""
    path = copy / "tokenizer.json"
    change(path, post_processor=None, pre_tokenizer={"type": "WhitespaceSplit"})
    words = PromptTokenizer(read_tokenizer(copy, lower=False).definition, 32)
    ids = Tokenizer.from_file(str(path)).encode("a red apple").ids
    assert words("a red apple").tolist() == ids
    assert ids[-1] != 1


def test_padding_and_truncation_of_a_file_are_the_encoder_s_to_decide(copy: Path) -> None:
    """Switched off in the bundle, whoever reads it; everything else stays."""
    padding = {"strategy": {"Fixed": 20}, "direction": "Right", "pad_to_multiple_of": None}
    padding |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"}
    truncation = {"max_length": 3, "stride": 0, "strategy": "LongestFirst", "direction": "Right"}
    given = change(copy / "tokenizer.json", padding=padding, truncation=truncation)
    found = json.loads(read_tokenizer(copy, lower=False).definition)
    assert found == {**given, "padding": None, "truncation": None}


def test_cleaning_comes_before_a_normalizer_of_the_file(copy: Path) -> None:
    """Stages that were trained on lower case get it whatever the file does then."""
    change(copy / "tokenizer.json", normalizer={"type": "Prepend", "prepend": "Z"})
    found = json.loads(read_tokenizer(copy, lower=True).definition)["normalizer"]
    assert [step["type"] for step in found["normalizers"]] == ["Lowercase", "Strip", "Prepend"]


def added(copy: Path, number: int) -> None:
    """Give the folder's tokenizer one token more."""
    tokens = json.loads((copy / "tokenizer.json").read_text())["added_tokens"]
    more = {**tokens[-1], "id": number, "content": "<extra_id_0>"}
    change(copy / "tokenizer.json", added_tokens=[*tokens, more])


def test_numbers_beyond_the_embedding_are_refused(copy: Path) -> None:
    """The error names the file and the field that lead to them."""
    added(copy, 40)
    with pytest.raises(
        UnsupportedModel, match="token number 40, and the encoder embeds 40"
    ) as caught:
        t5_text_encoder(copy, copy, max_tokens=8, pad=False, lower=False)
    assert caught.value.field == f"{copy / 'tokenizer.json'}:added_tokens"


def test_a_vocabulary_beyond_the_embedding_is_refused(copy: Path) -> None:
    """Another model's tokenizer in the folder: the field is its model."""
    path = copy / "tokenizer.json"
    model = json.loads(path.read_text())["model"]
    change(path, model={**model, "vocab": [*model["vocab"], ["zz", -9.0]]})
    with pytest.raises(UnsupportedModel, match="token number 40") as caught:
        t5_text_encoder(copy, copy, max_tokens=8, pad=False, lower=False)
    assert caught.value.field == f"{path}:model"


def sentencepiece_only(folder: Path, **notes: object) -> Path:
    """A folder with no tokenizer but a sentencepiece model."""
    tiny_if.write_tokenizer(folder)
    if notes:
        (folder / "tokenizer_config.json").write_text(json.dumps(notes))
    return folder


def test_a_sentencepiece_model_gets_a_hundred_more_tokens(folder: Path, tmp_path: Path) -> None:
    """As transformers adds them; refused where the encoder has no rows for them."""
    words = sentencepiece_only(tmp_path / "words")
    with pytest.raises(UnsupportedModel, match="token number 139") as caught:
        t5_text_encoder(folder, words, max_tokens=8, pad=False, lower=False)
    assert caught.value.field == f"{words / 'tokenizer_config.json'}:extra_ids"
    bare = sentencepiece_only(tmp_path / "bare", extra_ids=0)
    encoder = t5_text_encoder(folder, bare, max_tokens=32, pad=False, lower=False)
    expected = PromptTokenizer((folder / "tokenizer.json").read_bytes(), 32)(PROMPTS[0])
    np.testing.assert_array_equal(PromptTokenizer(encoder.tokenizer, 32)(PROMPTS[0]), expected)


@pytest.mark.parametrize(
    ("name", "content"),
    [("tokenizer.json", b'{"version": "1.0"}'), ("spiece.model", b"no protobuf at all")],
)
def test_a_tokenizer_that_cannot_be_read_is_refused(
    folder: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    """Named by its path."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnsupportedModel) as caught:
        t5_text_encoder(folder, tmp_path, max_tokens=8, pad=False, lower=False)
    assert caught.value.field == str(tmp_path / name)


def test_a_padding_token_that_is_not_there_is_refused(copy: Path) -> None:
    """The error names the file that names the token."""
    change(copy / "tokenizer_config.json", pad_token="<nothing>")  # noqa: S106
    with pytest.raises(UnsupportedModel, match="<nothing>") as caught:
        t5_text_encoder(copy, copy, max_tokens=8, pad=True, lower=False)
    assert caught.value.field == f"{copy / 'tokenizer_config.json'}:pad_token"


def test_it_stands_beside_a_user_s_own_stages(folder: Path) -> None:
    """`--text-encoder FOLDER` with `--from torch` replaces the described encoder; no padding."""
    where = "examples.my_cascade:describe"
    found = describe(ForeignSource(kind="torch", where=where, text_encoder=folder)).text_encoder
    assert found is not None
    assert (found.context_width, found.max_tokens) == (tiny_if.WIDTH, T5_TOKENS)
    assert found.pad_token is None


def test_a_folder_without_a_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    """The error names the folder and the files that were looked for, however others are called.

    Of a `sentencepiece.model` transformers would make a tokenizer without words.
    """
    shutil.copy(
        sentencepiece_only(tmp_path / "words") / "spiece.model", tmp_path / "sentencepiece.model"
    )
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.json nor spiece\.model") as caught:
        t5_text_encoder(folder, tmp_path, max_tokens=8, pad=False, lower=False)
    assert caught.value.field == str(tmp_path)
