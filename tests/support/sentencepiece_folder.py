"""A T5 tokenizer folder that holds its SentencePiece model alone, and no file that `tokenizers` reads by itself."""

from __future__ import annotations

import io
import json
from pathlib import Path

import sentencepiece

SENTENCES = ("make it a snowy winter day", "make it night", "turn the car red")
# What an installed environment is asked to do with the folder.
READ = "from transformers import AutoTokenizer as A; t = A.from_pretrained('t5', local_files_only=True); "
READ += "print(type(t).__name__, t.decode(t('make it night')['input_ids'], skip_special_tokens=True))"
SAID = "T5Tokenizer make it night\n"


def write(folder: Path) -> None:
    """A model of a few words, as T5 numbers its special tokens."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_writer=model,
        vocab_size=40,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    folder.mkdir()
    (folder / "spiece.model").write_bytes(model.getvalue())
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 0}))
