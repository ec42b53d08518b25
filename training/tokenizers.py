"""Four small tokenizers in the folders and forms of the public checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

VOCABULARY = 1024
START, END = "<|startoftext|>", "<|endoftext|>"


def write_tokenizers(folder: Path, texts: Iterable[str], *, rows: int) -> None:
    """Train on ``texts`` and write tokenizer/, tokenizer_2/, tokenizer_3/ and tokenizer_4/ under ``folder``."""
    corpus = list(texts)
    _write_clip(folder, corpus, rows)
    _write_t5(folder / "tokenizer_3", corpus, rows)
    _write_llama(folder / "tokenizer_4", corpus, rows)


def _write_clip(folder: Path, corpus: list[str], rows: int) -> None:
    tokenizer = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=alphabet, end_of_word_suffix="</w>", special_tokens=[START, END]
    )
    tokenizer.train_from_iterator(corpus, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    pieces = [piece for piece in model["vocab"] if piece not in (START, END)]
    # Every byte also ends a word: CLIP knows no other fallback.
    pieces += [letter + "</w>" for letter in alphabet if letter + "</w>" not in model["vocab"]]
    vocabulary = {piece: index for index, piece in enumerate([*pieces, START, END])}
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    for name, pad in (("tokenizer", END), ("tokenizer_2", "!")):
        place = folder / name
        _write_json(place / "vocab.json", vocabulary)
        (place / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
        facts = {"tokenizer_class": "CLIPTokenizer", "model_max_length": rows, "pad_token": pad}
        _write_json(place / "tokenizer_config.json", {**facts, "bos_token": START, "eos_token": END, "unk_token": END})


def _write_t5(place: Path, corpus: list[str], rows: int) -> None:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "</s>", "<unk>"],
        unk_token="<unk>",  # noqa: S106
        initial_alphabet=[chr(code) for code in range(33, 127)],
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    place.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(place / "tokenizer.json"), pretty=False)
    facts = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": rows, "pad_token": "<pad>"}
    _write_json(place / "tokenizer_config.json", {**facts, "eos_token": "</s>", "unk_token": "<unk>"})


def _write_llama(place: Path, corpus: list[str], rows: int) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    begin, end = "<|begin_of_text|>", "<|eot_id|>"
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=[begin, end]
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )
    place.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(place / "tokenizer.json"), pretty=False)
    facts = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": rows,
        "bos_token": begin,
        "eos_token": end,
    }
    _write_json(place / "tokenizer_config.json", facts)


def _write_json(file: Path, value: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, ensure_ascii=False))
