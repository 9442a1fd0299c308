"""T5 encoders of transformers as text encoders beside a user's own stages."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from cascade.engines.ort import OrtEngine
from cascade.errors import UnsupportedModel
from cascade.tokenizer import PromptTokenizer
from export.foreign.command import T5_TOKENS, ForeignSource, describe
from export.foreign.t5_encoder import t5_text_encoder, tokenizer_json
from export.foreign.writer import ForeignBundle

pytest.importorskip("transformers", reason="THE FOREIGN EXTRA IS MISSING: T5 was not compared")
pytest.importorskip("diffusers", reason="THE FOREIGN EXTRA IS MISSING: T5 was not compared")
pytest.importorskip("sentencepiece", reason="THE FOREIGN EXTRA IS MISSING: no tiny tokenizer")

from tests import tiny_if

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
    bundle = ForeignBundle(encoder, report=lambda _line: None)
    spec = bundle.add_text_encoder(PROMPTS[:2])
    assert spec.graph.inputs[0].shape == ("batch", "tokens")
    assert spec.graph.parity.max_abs_error < 1e-4
    engine = OrtEngine(bundle.parts.files["text_encoder.onnx"], threads=1)
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
        Tokenizer.from_buffer(tokenizer_json(folder, lower=lower)[0]) for lower in (False, True)
    )
    assert cleaned.encode("  A Red APPLE ").ids == plain.encode("a red apple").ids
    assert plain.encode("A Red APPLE").ids != plain.encode("a red apple").ids


def test_it_stands_beside_a_user_s_own_stages(folder: Path) -> None:
    """`--text-encoder FOLDER` with `--from torch` replaces the described encoder; no padding."""
    where = "examples.my_cascade:describe"
    found = describe(ForeignSource(kind="torch", where=where, text_encoder=folder)).text_encoder
    assert found is not None
    assert (found.context_width, found.max_tokens) == (tiny_if.WIDTH, T5_TOKENS)
    assert found.pad_token is None


def test_a_folder_without_a_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    """The error names the folder and the files that were looked for."""
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.json nor spiece\.model") as caught:
        t5_text_encoder(folder, tmp_path, max_tokens=8, pad=False, lower=False)
    assert caught.value.field == str(tmp_path)
