"""Model folders with random weights in the public layout, at sizes that a benchmark asks for."""

from __future__ import annotations

import json
import os
import tempfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tests.support.tiny_checkpoint import write_checkpoint, write_json
from torch import Tensor, nn

from hidream_edit.engine.model.config import TransformerConfig
from hidream_edit.engine.model.transformer import Transformer

ADAPTER_RANK = 16  # the published one's (model.md 12)
# With random weights, one token in a million lies so close to a tie that rounding alone decides its second expert, and
# that would drown every other difference between two ways of computing. The recorded runs avoid it by choice of seeds;
# here the chosen experts speak softly, so that a single such token stays within the tolerance of float32.
EXPERT_LOUDNESS = 1 / 64
ADAPTED = (".attn1.to_", ".w1.", ".w2.", ".w3.", "final_layer.linear")


@dataclass(frozen=True, slots=True)
class RandomModel:
    """What to build: the transformer's sizes, one width for all text encoders, and the autoencoder's widths."""

    transformer: TransformerConfig
    text_width: int
    autoencoder_widths: tuple[int, int, int, int]
    autoencoder_groups: int
    weight_std: float

    def folder(self, cache: Path) -> Path:
        """The folder in ``cache``, built at the first call; others that build it at the same time do no harm."""
        # Of this file too: a folder that an earlier version of it wrote is another one.
        facts = json.dumps(asdict(self), sort_keys=True).encode() + Path(__file__).read_bytes()
        target = cache / f"random-{zlib.crc32(facts):08x}"
        if not target.is_dir():
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                made = self._write(Path(scratch) / "model")
                if not target.is_dir():
                    os.rename(made, target)  # noqa: PTH104 - one atomic step, where Path.replace would merge
        return target

    @staticmethod
    def adapter_of(folder: Path) -> Path:
        """The adapter file beside the components."""
        return folder / "adapter.safetensors"

    def _write(self, folder: Path) -> Path:
        write_checkpoint(folder)  # tokenizers, sampler, layout; the tiny components are replaced
        torch.manual_seed(0)
        write_json(folder / "defaults.json", {"working_size": self.transformer.max_resolution[0] * 8})
        self._write_transformer(folder)
        self._write_libraries_parts(folder)
        return folder

    def _write_transformer(self, folder: Path) -> None:
        with torch.device("meta"):
            shapes = {name: tensor.shape for name, tensor in Transformer(self.transformer).state_dict().items()}
        weights = {name: torch.randn(shape) * self.weight_std for name, shape in shapes.items()}
        weights |= {name: tensor * EXPERT_LOUDNESS for name, tensor in weights.items() if _speaks_for_an_expert(name)}
        weights |= {name: 1 + tensor for name, tensor in weights.items() if "rms_norm" in name}
        pieces: dict[str, Tensor] = {}
        for name, shape in shapes.items():
            if name.startswith("x_embedder"):
                pieces[name] = torch.randn(shape) * self.weight_std
            elif name.endswith(".weight") and any(part in name for part in ADAPTED):
                stem = name.removesuffix(".weight")
                pieces[f"{stem}.lora_A.default.weight"] = torch.randn(ADAPTER_RANK, shape[1]) * self.weight_std
                loudness = EXPERT_LOUDNESS if _speaks_for_an_expert(name) else 1
                pieces[f"{stem}.lora_B.default.weight"] = (
                    torch.randn(shape[0], ADAPTER_RANK) * self.weight_std * loudness
                )
        config = {"_class_name": "HiDreamImageTransformer2DModel", **asdict(self.transformer)}
        write_json(folder / "transformer" / "config.json", config)
        _save(weights, folder / "transformer" / "diffusion_pytorch_model.safetensors")
        _save(pieces, self.adapter_of(folder))

    def _write_libraries_parts(self, folder: Path) -> None:
        import transformers
        from diffusers import AutoencoderKL

        width, pooled = self.text_width, self.transformer.text_emb_dim // 2
        t5_width, llama_width = self.transformer.caption_channels
        clip = transformers.CLIPTextConfig(
            vocab_size=600,
            hidden_size=width,
            intermediate_size=4 * width,
            num_attention_heads=4,
            num_hidden_layers=4,
            max_position_embeddings=248,
            projection_dim=pooled,
            eos_token_id=2,
        )
        t5 = transformers.T5Config(
            vocab_size=200,
            d_model=t5_width,
            d_kv=t5_width // 4,
            d_ff=2 * t5_width,
            num_layers=4,
            num_heads=4,
            feed_forward_proj="gated-gelu",
        )
        llama = transformers.LlamaConfig(
            vocab_size=300,
            hidden_size=llama_width,
            intermediate_size=2 * llama_width,
            num_hidden_layers=max(self.transformer.llama_layers) + 1,
            num_attention_heads=4,
            num_key_value_heads=2,
            bos_token_id=256,
            eos_token_id=257,
        )
        autoencoder = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=self.autoencoder_widths,
            layers_per_block=2,
            latent_channels=self.transformer.in_channels,
            norm_num_groups=self.autoencoder_groups,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
        parts: dict[str, Any] = {
            "text_encoder": transformers.CLIPTextModelWithProjection(clip),
            "text_encoder_2": transformers.CLIPTextModelWithProjection(clip),
            "text_encoder_3": transformers.T5EncoderModel(t5),
            "text_encoder_4": transformers.LlamaForCausalLM(llama),
            "vae": autoencoder,
        }
        for name, part in parts.items():
            if name != "vae":
                _enlarge(part)
            part.to(torch.bfloat16).save_pretrained(folder / name)


def _speaks_for_an_expert(name: str) -> bool:
    return ".experts." in name and name.endswith(".w2.weight")


def _enlarge(encoder: nn.Module) -> None:
    """Libraries start so small that every text would look the same."""
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2)


def _save(tensors: dict[str, Tensor], file: Path) -> None:
    save_file({name: tensor.bfloat16().contiguous() for name, tensor in tensors.items()}, file)
