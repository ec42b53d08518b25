"""The four text encoders of the mini model, trained to turn words into the code of an edit.

CLIP's pooled projections become the code itself. T5 carries it in every row, Llama in every row from the end of the
text on (it is causal: earlier rows cannot know how the sentence ends), both through their final norm, whose fixed
length the unused slots of the code take up.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from torch import Tensor, nn

from hidream_edit.engine.text_encoders import TextEncoders, Tokenizers
from training.edits import CODE_CLIP_L, CODE_SIZE, CODE_USED, FAMILIES, GROUPS, Edit, code
from training.samples import draw_edits
from training.scenes import draw_local_edit, draw_scene
from training.tokenizers import write_tokenizers
from training.transformer import TEXT_ROWS
from training.wordings import negative, prompt

NEGATIVE_SHARE, OUTSIDE_SHARE, LOCAL_SHARE = 0.04, 0.2, 0.12


def draw_text(rng: Generator, *, held_out: bool = False) -> tuple[str, NDArray[np.float32]]:
    """A prompt and the code of what it asks for."""
    if rng.random() < NEGATIVE_SHARE:
        return negative(rng), np.zeros(CODE_SIZE, np.float32)
    chance = rng.random()
    if chance < OUTSIDE_SHARE:
        edits: tuple[Edit, ...] = ()
    elif chance < OUTSIDE_SHARE + LOCAL_SHARE:
        edits = ()
        while not edits:
            drawn = draw_local_edit(rng, draw_scene(rng, 8), str(rng.choice(GROUPS["local"])))
            edits = (drawn[0],) if drawn else ()
    else:
        edits = draw_edits(rng)
    return prompt(edits, rng, held_out=held_out), code(edits)


def build(
    vocabularies: dict[str, int], *, clip_end: int, llama_begin: int, llama_end: int, seed: int
) -> dict[str, Any]:
    """Fresh encoders by the names of their folders."""
    import transformers

    torch.manual_seed(seed)

    def clip(hidden_act: str) -> Any:
        return transformers.CLIPTextModelWithProjection(
            transformers.CLIPTextConfig(
                vocab_size=vocabularies["clip"],
                hidden_size=96,
                intermediate_size=192,
                projection_dim=CODE_CLIP_L,
                num_hidden_layers=2,
                num_attention_heads=3,
                max_position_embeddings=TEXT_ROWS,
                hidden_act=hidden_act,
                bos_token_id=clip_end - 1,
                eos_token_id=2,  # the library's sign for "the largest id ends the text"
                pad_token_id=clip_end,
            )
        )

    t5 = transformers.T5EncoderModel(
        transformers.T5Config(
            vocab_size=vocabularies["t5"], d_model=CODE_SIZE, d_kv=32, d_ff=256, num_layers=2, num_heads=4,
            dropout_rate=0.0, feed_forward_proj="gated-gelu", pad_token_id=0, eos_token_id=1,
        )
    )  # fmt: skip
    llama = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=vocabularies["llama"], hidden_size=CODE_SIZE, intermediate_size=192, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True,
            bos_token_id=llama_begin, eos_token_id=llama_end,
        )
    )  # fmt: skip
    return {
        "text_encoder": clip("quick_gelu"),
        "text_encoder_2": clip("gelu"),
        "text_encoder_3": t5,
        "text_encoder_4": llama,
    }


def load_tokenizers(folder: Path) -> Tokenizers:
    """The tokenizers of a model folder, as the engine sets them up."""
    from transformers import AutoTokenizer

    names = ("tokenizer", "tokenizer_2", "tokenizer_3", "tokenizer_4")
    clip_l, clip_g, t5, llama = (AutoTokenizer.from_pretrained(folder / name) for name in names)
    llama.pad_token, llama.padding_side = llama.eos_token, "right"
    return Tokenizers(clip_l, clip_g, t5, llama, TEXT_ROWS)


class Batches:
    """Random texts as token ids, all four at once."""

    def __init__(self, tokenizers: Tokenizers) -> None:
        self._tokenizers = [tokenizers.clip_l, tokenizers.clip_g, tokenizers.t5, tokenizers.llama]

    def tokens(self, texts: list[str]) -> list[Any]:
        """Ids and masks (batch, rows) for CLIP-L, CLIP-G, T5, Llama."""
        options = {"padding": "max_length", "max_length": TEXT_ROWS, "truncation": True, "return_tensors": "pt"}
        return [tokenizer(texts, return_attention_mask=True, **options) for tokenizer in self._tokenizers]


def read_out(models: dict[str, Any], tokens: list[Any]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pooled (B, code), T5 rows (B, rows, code), last Llama rows (B, rows, code), and which of those know the text."""
    clip_l, clip_g, t5, llama = tokens
    pooled = torch.cat(
        (models["text_encoder"](clip_l.input_ids).text_embeds, models["text_encoder_2"](clip_g.input_ids).text_embeds),
        -1,
    )
    t5_rows = models["text_encoder_3"](t5.input_ids, attention_mask=t5.attention_mask).last_hidden_state
    rows = models["text_encoder_4"].model(llama.input_ids, attention_mask=llama.attention_mask).last_hidden_state
    last = llama.attention_mask.sum(1, keepdim=True) - 1
    knows = torch.arange(rows.shape[1])[None] >= last
    return pooled, t5_rows, rows, knows


def loss_of(read: tuple[Tensor, Tensor, Tensor, Tensor], codes: Tensor) -> Tensor:
    """Squared errors; a slot that is set counts more, since few are."""
    pooled, t5_rows, llama_rows, knows = read
    weight = 1 + 12 * codes
    errors = weight * (pooled - codes) ** 2
    used = slice(0, CODE_USED)
    rows_weight = weight[:, None, used]
    t5_errors = rows_weight * (t5_rows[..., used] - codes[:, None, used]) ** 2
    llama_errors = (rows_weight * (llama_rows[..., used] - codes[:, None, used]) ** 2)[knows]
    return errors.mean() + 0.4 * t5_errors.mean() + 0.4 * llama_errors.mean()


@torch.no_grad()
def measure(models: dict[str, Any], batches: Batches, *, count: int = 1500, seed: int = 12345) -> dict[str, float]:
    """Share of texts whose pooled code is right in every slot, seen and unseen wordings, and false alarms outside."""
    report = {}
    for name, held_out in (("seen", False), ("unseen", True)):
        rng = default_rng(seed)
        texts = [draw_text(rng, held_out=held_out) for _ in range(count)]
        codes = torch.from_numpy(np.stack([asked for _, asked in texts]))
        pooled = torch.cat(
            [
                read_out(models, batches.tokens([text for text, _ in texts[i : i + 250]]))[0]
                for i in range(0, count, 250)
            ]
        )
        right = ((pooled > 0.5) == (codes > 0.5)).all(1)
        asked = codes[:, : len(FAMILIES)].any(1)
        report[f"{name} exact"] = float(right[asked].float().mean())
        report[f"{name} rms"] = float((pooled - codes)[asked].pow(2).mean().sqrt())
        if not held_out:
            report["false alarms"] = float((pooled[~asked, : len(FAMILIES)] > 0.5).any(1).float().mean())
    return {key: round(value, 4) for key, value in report.items()}


def train(out: Path, *, minutes: float, seed: int) -> None:
    """Train all four for ``minutes`` of work, resuming where a checkpoint lies; saves the folders as it goes."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "tokenizer_4").exists():
        rng = default_rng(seed)
        write_tokenizers(out, (draw_text(rng, held_out=False)[0] for _ in range(40_000)), rows=TEXT_ROWS)
    tokenizers = load_tokenizers(out)
    models = build(
        {"clip": len(tokenizers.clip_l), "t5": len(tokenizers.t5), "llama": len(tokenizers.llama)},
        clip_end=tokenizers.clip_l.eos_token_id,
        llama_begin=tokenizers.llama.bos_token_id,
        llama_end=tokenizers.llama.eos_token_id,
        seed=seed,
    )
    batches = Batches(tokenizers)
    parameters = [parameter for model in models.values() for parameter in model.parameters()]
    print(f"{sum(p.numel() for p in parameters):,} parameters", flush=True)
    optimiser = torch.optim.AdamW(parameters, lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.01)
    checkpoint, step, spent = out / "text.pt", 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        for name, model in models.items():
            model.load_state_dict(saved["models"][name])
        optimiser.load_state_dict(saved["optimiser"])
        step, spent = saved["step"], saved["spent"]
    rng = default_rng([seed, step])
    began, shown = time.monotonic() - spent, time.monotonic()
    while (share := (time.monotonic() - began) / 60 / minutes) < 1:
        texts = [draw_text(rng) for _ in range(96)]
        codes = torch.from_numpy(np.stack([asked for _, asked in texts]))
        loss = loss_of(read_out(models, batches.tokens([text for text, _ in texts])), codes)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimiser.param_groups:
            group["lr"] = 1.5e-3 * min(1, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))
        optimiser.step()
        optimiser.zero_grad()
        step += 1
        if time.monotonic() - shown > 60:
            shown = time.monotonic()
            report = measure(models, batches, count=500)
            print(f"{time.strftime('%H:%M')} step {step} {share:.0%} loss {loss.item():.5f} {report}", flush=True)
            states = {name: model.state_dict() for name, model in models.items()}
            torch.save(
                {"models": states, "optimiser": optimiser.state_dict(), "step": step, "spent": shown - began},
                checkpoint,
            )
    save(models, out)
    report = measure(models, batches)
    (out / "report.json").write_text(json.dumps(report, indent=1))
    print("done", report, flush=True)


def save(models: dict[str, Any], out: Path) -> None:
    """Write the folders of the four encoders in bfloat16, each replaced at once."""
    for name, model in models.items():
        beside = out / f"{name}.part"
        shutil.rmtree(beside, ignore_errors=True)
        part = model.to(torch.bfloat16)
        part.save_pretrained(beside)
        part.to(torch.float32)
        shutil.rmtree(out / name, ignore_errors=True)
        beside.rename(out / name)


class Frozen:
    """Trained encoders for the trainer of the transformer: texts in, what the transformer reads out."""

    def __init__(self, folder: Path) -> None:
        import transformers

        classes = {
            "text_encoder": transformers.CLIPTextModelWithProjection,
            "text_encoder_2": transformers.CLIPTextModelWithProjection,
            "text_encoder_3": transformers.T5EncoderModel,
            "text_encoder_4": transformers.LlamaModel,
        }
        built = [cls.from_pretrained(folder / name, dtype=torch.float32).eval() for name, cls in classes.items()]
        self._encoders = TextEncoders(load_tokenizers(folder), *built)
        self._batches = Batches(self._encoders.tokenizers)

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Pooled (B, code), T5 (B, rows, code), Llama (layers, B, rows, code)."""
        clip_l, clip_g, t5, llama = self._batches.tokens(texts)
        encoders = self._encoders
        pooled = torch.cat(
            (encoders.clip_l(clip_l.input_ids).text_embeds, encoders.clip_g(clip_g.input_ids).text_embeds), -1
        )
        rows = encoders.t5(t5.input_ids, attention_mask=t5.attention_mask).last_hidden_state
        layers = encoders.llama(llama.input_ids, attention_mask=llama.attention_mask, output_hidden_states=True)
        return pooled, rows, torch.stack(layers.hidden_states[1:])


def main() -> None:
    """Train the text encoders."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    train(options.out, minutes=options.minutes, seed=options.seed)


if __name__ == "__main__":
    main()
