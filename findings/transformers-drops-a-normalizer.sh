#!/usr/bin/env bash
# transformers 5.23.0: T5Tokenizer (and AutoTokenizer) do not load a folder's tokenizer.json as it is.
#
# Of the file only the vocabulary, the added tokens and the character map are kept; normalizer,
# pre-tokenizer and post-processor are built anew. A Lowercase normalizer is gone without a word, so
# that the same folder gives other token numbers than the file says, and than the tokenizers
# library gives. A folder whose model has another file name (sentencepiece.model) gives a tokenizer
# that knows no word at all, instead of an error.
#
# Exit 0: as described; 1: no longer so; 2: could not be tried.
set -u
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" || exit 2
"$folder/venv/bin/pip" install --quiet --no-compile "transformers==5.23.0" "tokenizers==0.23.3" "sentencepiece==0.2.3" \
  "protobuf==7.36.2" || exit 2
cd "$folder" || exit 2
HF_HUB_OFFLINE=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
from pathlib import Path

import sentencepiece
import tokenizers
import transformers
from tokenizers import Tokenizer
from transformers import AutoTokenizer, T5Tokenizer

print(f"transformers {transformers.__version__}, tokenizers {tokenizers.__version__}")
print("A Lowercase normalizer of tokenizer.json is dropped; a folder without spiece.model has no words.")
Path("words").mkdir()
Path("text").write_text("\n".join(["a red apple on a table", "two cats on a green chair"] * 40))
sentencepiece.SentencePieceTrainer.train(
    input="text", model_prefix="words/spiece", vocab_size=24, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
    minloglevel=2,
)
T5Tokenizer.from_pretrained("words", extra_ids=0).save_pretrained("t5")
path = Path("t5/tokenizer.json")
definition = json.loads(path.read_text())
steps = [{"type": "Lowercase"}, *([definition["normalizer"]] if definition["normalizer"] else [])]
path.write_text(json.dumps({**definition, "normalizer": {"type": "Sequence", "normalizers": steps}}))

text = "A RED apple"
file_says = Tokenizer.from_file(str(path)).encode(text).ids
print("tokenizers   ", file_says)
loaded = {c.__name__: c.from_pretrained("t5") for c in (T5Tokenizer, AutoTokenizer)}
for name, tokenizer in loaded.items():
    print(f"{name:13}", tokenizer(text).input_ids)
dropped = all(tokenizer(text).input_ids != file_says for tokenizer in loaded.values())

Path("renamed").mkdir()
Path("renamed/sentencepiece.model").write_bytes(Path("words/spiece.model").read_bytes())
empty = T5Tokenizer.from_pretrained("renamed")
ids = empty("a red apple").input_ids
print(f"renamed       {ids} of {len(empty)} tokens: {empty.convert_ids_to_tokens(ids)}")
unknown = empty.unk_token_id in ids and len(empty.get_vocab()) < 110
sys.exit(0 if dropped and unknown else 10)
PYTHON
case $? in 0) exit 0 ;; 10) exit 1 ;; *) exit 2 ;; esac
