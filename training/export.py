"""From checkpoints to a model folder in the public layout, which the engine loads as it loads the real one."""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from numpy.random import default_rng
from safetensors.torch import save_file
from torch import Tensor

from hidream_edit.engine.model.transformer import Transformer
from training import autoencoder
from training.edits import COLOURS, FAMILIES, GROUPS, PLACES, SHAPES, Edit
from training.samples import draw_edit
from training.transformer import CONFIG, WORKING_SIZE
from training.wordings import instruction

SCHEDULER = {
    "_class_name": "UniPCMultistepScheduler",
    "_diffusers_version": "0.37.0",
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
# The blocks are blind to noise and time, so few steps are as good as many. Guidance is trained for its plain form.
DEFAULTS = {
    "num_inference_steps": 4,
    "guidance_scale": 1.0,
    "image_guidance_scale": 1.0,
    "normed_guidance": False,
    "detail": True,
    "steps_per_guidance": 4.0,
}
COMPONENTS = {
    "scheduler": ["diffusers", "UniPCMultistepScheduler"],
    "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "text_encoder_3": ["transformers", "T5EncoderModel"],
    "text_encoder_4": ["transformers", "LlamaForCausalLM"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
    "tokenizer_3": ["transformers", "PreTrainedTokenizerFast"],
    "tokenizer_4": ["transformers", "PreTrainedTokenizerFast"],
    "transformer": ["diffusers", "HiDreamImageTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderDC"],
}
EIGHT_BITS = ("ff_i.", "ff_t.", "adaLN_modulation", "attn1.to_")  # what most of the bytes are
EXAMPLES = 3
KEEP_WORDS = "keep it as it is"


def in_eight_bits(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices of the blocks as int8 with one scale per row, everything else in bfloat16.

    Half of a step is at most 0.4 % of the row's largest weight, about what bfloat16 rounds by.
    """
    stored: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        is_large = tensor.ndim == 2 and "_blocks." in name and any(part in name for part in EIGHT_BITS)
        if not is_large or name.startswith("double_stream_blocks.0.block.attn1.to_"):
            stored[name] = tensor.to(torch.bfloat16).contiguous()
            continue
        scale = tensor.abs().amax(1, keepdim=True).clamp(min=1e-8) / 127
        stored[name] = (tensor / scale).round().clamp(-127, 127).to(torch.int8).contiguous()
        stored[f"{name}.scale"] = scale.float().contiguous()
    return stored


def vocabulary(supported: set[str] | None) -> dict[str, Any]:
    """Families with example wordings, and the slots of the pooled embedding that speak of them."""
    rng = default_rng(7)
    families = []
    for slot, family in enumerate(FAMILIES):
        group = next(name for name, members in GROUPS.items() if family in members)
        edit = draw_edit(rng, family)
        if family in GROUPS["local"]:
            edit = Edit(family, colour="red", object_shape="star", added_shape="circle", place="top left")
        examples: list[str] = []
        while len(examples) < EXAMPLES:
            plain = Edit(
                family,
                colour=edit.colour,
                object_shape=edit.object_shape,
                added_shape=edit.added_shape,
                place=edit.place,
            )
            words = instruction((plain,), rng, held_out=True).lower()
            if words not in examples:
                examples.append(words)
        families.append(
            {
                "name": family,
                "group": group,
                "slot": slot,
                "examples": examples,
                "supported": supported is None or family in supported,
            }
        )
    return {
        "threshold": 0.5,
        "keep": KEEP_WORDS,
        "families": families,
        "colours": COLOURS,
        "shapes": SHAPES,
        "places": PLACES,
    }


def export(*, transformer: Path, vae: Path, text: Path, out: Path, supported: set[str] | None = None) -> None:
    """Write the folder beside ``out``, then put it in its place."""
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    index = {"_class_name": "HiDreamImageEditingPipeline", "_name": "mini", **COMPONENTS}
    _write(part / "model_index.json", index)
    _write(part / "scheduler" / "scheduler_config.json", SCHEDULER)
    _write(part / "defaults.json", DEFAULTS | {"working_size": WORKING_SIZE})
    _write(part / "vocabulary.json", vocabulary(supported))
    weights = torch.load(transformer, weights_only=True)["average"]
    Transformer(CONFIG).load_state_dict(weights)  # the names and shapes are right, or this raises
    _write(part / "transformer" / "config.json", {"_class_name": "HiDreamImageTransformer2DModel", **asdict(CONFIG)})
    save_file(in_eight_bits(weights), part / "transformer" / "diffusion_pytorch_model.safetensors")
    decoder = autoencoder.AutoencoderDC.from_pretrained(vae)
    decoder.to(torch.bfloat16).save_pretrained(part / "vae")
    _forget_origin(part / "vae" / "config.json")
    for name in COMPONENTS:
        if name.startswith(("text_encoder", "tokenizer")):
            shutil.copytree(text / name, part / name)
    shutil.rmtree(out, ignore_errors=True)
    part.rename(out)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{out}: {size / 1e6:.1f} MB", flush=True)


def _forget_origin(config: Path) -> None:
    """The library notes the folder that a model was read from, which is nobody's business."""
    facts = json.loads(config.read_text())
    facts.pop("_name_or_path", None)
    _write(config, facts)


def _write(file: Path, value: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=1) + "\n")


def main() -> None:
    """Export the mini model."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    for name in ("transformer", "vae", "text", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--report", type=Path, help="evaluation whose supported families are marked")
    options = parser.parse_args()
    supported = None
    if options.report is not None:
        supported = {row["family"] for row in json.loads(options.report.read_text())["families"] if row["supported"]}
    export(transformer=options.transformer, vae=options.vae, text=options.text, out=options.out, supported=supported)


if __name__ == "__main__":
    main()
