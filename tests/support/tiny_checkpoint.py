"""A random model in the public layout, small enough to build in a second: same structure, no sense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

WORDS = [
    "low",
    "resolution",
    "blur",
    "Editing",
    "Instruction",
    "Target",
    "Image",
    "Description",
    "make",
    "it",
    "a",
    "pencil",
    "sketch",
    "night",
]
UNIPC: dict[str, Any] = {
    "_class_name": "UniPCMultistepScheduler",
    "num_train_timesteps": 1000,
    "prediction_type": "flow_prediction",
    "use_flow_sigmas": True,
    "flow_shift": 3.0,
    "solver_order": 2,
    "solver_type": "bh2",
    "predict_x0": True,
    "lower_order_final": True,
    "final_sigmas_type": "zero",
    "disable_corrector": [],
}
EULER: dict[str, Any] = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
TRANSFORMER: dict[str, Any] = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 2,
    "num_single_layers": 3,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "caption_channels": [24, 32],
    "text_emb_dim": 48,
    "num_routed_experts": 4,
    "num_activated_experts": 2,
    "axes_dims_rope": [8, 4, 4],
    "max_resolution": [8, 16],  # 64x64 pixels: canvas of 32 tokens
    "llama_layers": [0, 1, 2, 3, 3],
}


def write_checkpoint(folder: Path, *, seed: int = 0, scheduler: dict[str, Any] = UNIPC) -> Path:
    """Write a whole model folder; the same ``seed`` writes the same weights."""
    torch.manual_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": "HiDreamImageEditingPipeline", "_random": True})
    )
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    write_transformer(folder / "transformer")
    _write_autoencoder(folder / "vae")
    _write_text_encoders(folder)
    _write_tokenizers(folder)
    return folder


def write_json(file: Path, value: object) -> None:
    """Write ``value``, making the folder where needed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))


def write_transformer(folder: Path, *, seed: int | None = None, shards: int = 1) -> Path:
    """Random weights that are large enough for every path to matter."""
    from hidream_edit.engine.model.config import TransformerConfig
    from hidream_edit.engine.model.transformer import Transformer

    if seed is not None:
        torch.manual_seed(seed)
    model = Transformer(TransformerConfig.from_json(TRANSFORMER))
    weights = {name: torch.randn(tensor.shape) * 0.15 for name, tensor in model.state_dict().items()}
    weights |= {name: 1 + tensor for name, tensor in weights.items() if "rms_norm" in name}
    weights = {name: tensor.bfloat16().contiguous() for name, tensor in weights.items()}
    write_json(folder / "config.json", {"_class_name": "HiDreamImageTransformer2DModel", **TRANSFORMER})
    stem = "diffusion_pytorch_model"
    if shards == 1:
        save_file(weights, folder / f"{stem}.safetensors")
        return folder
    weight_map = {}
    for shard in range(shards):
        name = f"{stem}-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(list(weights.items())[shard::shards])
        save_file(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    write_json(folder / f"{stem}.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})
    return folder


def write_adapter(file: Path, *, seed: int = 7, rank: int = 4) -> Path:
    """An adapter on every linear that the published one adapts."""
    from hidream_edit.engine.model.config import TransformerConfig
    from hidream_edit.engine.model.transformer import Transformer

    torch.manual_seed(seed)
    model = Transformer(TransformerConfig.from_json(TRANSFORMER))
    pieces = {}
    for name, tensor in model.state_dict().items():
        adapted = any(part in name for part in (".attn1.to_", ".w1.", ".w2.", ".w3.", "final_layer.linear"))
        if adapted and name.endswith(".weight"):
            stem = name.removesuffix(".weight")
            pieces[f"{stem}.lora_A.default.weight"] = torch.randn(rank, tensor.shape[1]) * 0.1
            pieces[f"{stem}.lora_B.default.weight"] = torch.randn(tensor.shape[0], rank) * 0.1
        elif name.startswith("x_embedder"):
            pieces[name] = torch.randn(tensor.shape) * 0.2
    save_file({name: tensor.bfloat16().contiguous() for name, tensor in pieces.items()}, file)
    return file


def _write_autoencoder(folder: Path) -> None:
    from diffusers import AutoencoderKL

    autoencoder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=4,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    autoencoder.to(torch.bfloat16).save_pretrained(folder)


def _write_text_encoders(folder: Path) -> None:
    import transformers

    clip = {"vocab_size": 600, "num_hidden_layers": 2, "max_position_embeddings": 248, "eos_token_id": 2}
    models = {
        "text_encoder": transformers.CLIPTextModelWithProjection(
            transformers.CLIPTextConfig(
                **clip, hidden_size=24, intermediate_size=64, num_attention_heads=3, projection_dim=16
            )
        ),
        "text_encoder_2": transformers.CLIPTextModelWithProjection(
            transformers.CLIPTextConfig(
                **clip,
                hidden_size=32,
                intermediate_size=96,
                num_attention_heads=2,
                projection_dim=32,
                hidden_act="gelu",
            )
        ),
        "text_encoder_3": transformers.T5EncoderModel(
            transformers.T5Config(
                vocab_size=200, d_model=24, d_kv=8, d_ff=64, num_layers=2, num_heads=3, feed_forward_proj="gated-gelu"
            )
        ),
        "text_encoder_4": transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=300,
                hidden_size=32,
                intermediate_size=80,
                num_hidden_layers=4,
                num_attention_heads=4,
                num_key_value_heads=2,
                bos_token_id=256,
                eos_token_id=257,
            )
        ),
    }
    for name, model in models.items():
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(4)  # the libraries start so small that every text would look the same
        model.to(torch.bfloat16).save_pretrained(folder / name)


def _write_tokenizers(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    for name, pad in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        write_json(folder / name / "vocab.json", {piece: index for index, piece in enumerate(pieces)})
        (folder / name / "merges.txt").write_text("#version: 0.2\n")
        special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
        facts = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 248, "pad_token": pad, **special}
        write_json(folder / name / "tokenizer_config.json", facts)

    t5 = Tokenizer(
        models.Unigram(
            [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
            + [(chr(code), -3.0) for code in range(33, 127)]
            + [(word, -4.0) for word in WORDS if len(word) > 1],
            unk_id=2,
        )
    )
    t5.pre_tokenizer = pre_tokenizers.Metaspace()
    t5.decoder = decoders.Metaspace()
    t5.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    (folder / "tokenizer_3").mkdir()
    t5.save(str(folder / "tokenizer_3" / "tokenizer.json"))
    facts = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 512,
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    write_json(folder / "tokenizer_3" / "tokenizer_config.json", facts)

    llama = Tokenizer(models.BPE({letter: index for index, letter in enumerate(letters)}, []))
    llama.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    llama.decoder = decoders.ByteLevel()
    llama.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>"])
    begin = llama.token_to_id("<|begin_of_text|>")
    llama.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", begin)]
    )
    (folder / "tokenizer_4").mkdir()
    llama.save(str(folder / "tokenizer_4" / "tokenizer.json"))
    facts = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 131072,
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
    }
    write_json(folder / "tokenizer_4" / "tokenizer_config.json", facts)
