"""Peaks of the real size with random weights against the plan, and streamed against resident results.

    make benchmark-memory                         on a machine with a CUDA device: 24 GB and 16 GB, then packed
    python benchmarks/memory.py --tiny            the same script on a tiny model and any machine, to try it out

For each amount, and quantization where one is named: the plan; then three guided steps at 768x768 in a process that may
allocate no more than that amount (its share of the card is capped, so a plan that is wrong fails with "out of memory"
instead of passing); the peak of each phase beside the planned one; seconds. Where the card also takes the whole model,
the latents of the first amount must be equal bit by bit to those of a run in which nothing moves. The engine has the
measures that it has by default on the device. Weights are drawn by name, so every run has the same ones. Prints one
JSON object; whoever runs it puts the numbers into benchmarks/LOG.md.

Host memory: 62 GB and some. Nothing is written but the tokenizers of the tiny test model.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import torch
from tests.support.tiny_checkpoint import UNIPC, write_checkpoint
from torch import Tensor, nn

from hidream_edit.domain.edit import EditDefaults, EditInput
from hidream_edit.domain.picture import Picture
from hidream_edit.domain.quantization import Quantization
from hidream_edit.engine.cards import ModelCard
from hidream_edit.engine.checked_model import ModelSource, blueprint
from hidream_edit.engine.engine import Engine
from hidream_edit.engine.engine_parts import EngineParts
from hidream_edit.engine.folders import ModelFolder
from hidream_edit.engine.latents import Autoencoder
from hidream_edit.engine.library_parts import load_tokenizers
from hidream_edit.engine.loading import LoadedModel, load_model
from hidream_edit.engine.measures import measures_for, possible_measures
from hidream_edit.engine.memory.activations import TextSizes
from hidream_edit.engine.memory.placing import placed_encoder, stream_blocks, streamed_names
from hidream_edit.engine.memory.plan import Arrangement, MemoryPlan, Place, Room, choose, everything_resident
from hidream_edit.engine.memory.sizes import REAL_CONFIG, REAL_TEXTS, real_sizes
from hidream_edit.engine.model.transformer import Transformer
from hidream_edit.engine.quality.quantized import linear_weights, packed_under, quantize
from hidream_edit.engine.stage_transformers import assembled
from hidream_edit.engine.text_encoders import TextEncoders

GB = 10**9
STEPS = 3
CPU = torch.device("cpu")


def drawn(shape: torch.Size, name: str, device: torch.device) -> Tensor:
    """A weight that depends on its name alone. Drawn on the CPU, so that it is the same wherever it goes."""
    if "norm" in name and name.endswith("weight"):
        return torch.ones(shape, dtype=torch.bfloat16, device=device)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    # A short run, repeated: seventeen billion normal numbers would take the CPU an hour.
    run = torch.randn(1 << 16, generator=generator).mul_(0.02).bfloat16()
    count = shape.numel()
    return run.repeat(-(-count // len(run)))[:count].view(shape).to(device)


def filled(build: Callable[[], nn.Module], device: torch.device) -> nn.Module:
    """A module of a library with drawn weights, its buffers as the library computes them."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        module = build()
    finally:
        torch.set_default_dtype(before)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(drawn(parameter.shape, name, CPU))
    return module.to(device).eval().requires_grad_(False)


def encoder(name: str, sizes: TextSizes) -> Callable[[torch.device], nn.Module]:
    import transformers
    from transformers.initialization import no_init_weights

    heads, layers, hidden = sizes.heads, sizes.layers, sizes.hidden

    def build() -> nn.Module:
        with no_init_weights():
            if name in ("text_encoder", "text_encoder_2"):
                return transformers.CLIPTextModelWithProjection(
                    transformers.CLIPTextConfig(
                        hidden_size=sizes.width,
                        intermediate_size=hidden,
                        num_attention_heads=heads,
                        num_hidden_layers=layers,
                        projection_dim=sizes.width,
                        max_position_embeddings=248,
                        eos_token_id=2,
                    )
                )
            if name == "text_encoder_3":
                return transformers.T5EncoderModel(
                    transformers.T5Config(
                        d_model=sizes.width,
                        d_kv=64,
                        d_ff=hidden,
                        num_layers=layers,
                        num_heads=heads,
                        feed_forward_proj="gated-gelu",
                    )
                )
            return transformers.LlamaModel(
                transformers.LlamaConfig(
                    vocab_size=128256,
                    hidden_size=sizes.width,
                    intermediate_size=hidden,
                    num_hidden_layers=layers,
                    num_attention_heads=heads,
                    num_key_value_heads=8,
                )
            )

    return lambda device: filled(build, device)


def autoencoder(device: torch.device, plan: MemoryPlan) -> Autoencoder:
    from diffusers import AutoencoderKL

    model = filled(
        lambda: AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=16,
            scaling_factor=0.3611,
            shift_factor=0.1159,
            use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        device,
    )
    return Autoencoder.of(model, tile=48 if plan.arrangement.tiled else None)


def transformer(device: torch.device, plan: MemoryPlan) -> Transformer:
    empty, kept = blueprint(Transformer, REAL_CONFIG), plan.sizes.quantization
    shapes = {name: tensor.shape for name, tensor in empty.state_dict().items()}
    streamed, is_packed = streamed_names([*shapes], plan), kept is not Quantization.NONE
    packed_names = linear_weights(empty) if is_packed else frozenset()
    weights: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        weight = drawn(shape, name, CPU if name in streamed else device)
        weights |= packed_under(name, weight, kept, on=device) if name in packed_names else {name: weight}
    measures = possible_measures(
        measures_for(device, torch.bfloat16), device, torch.bfloat16, float8=False, quantization=kept
    )
    made = assembled(REAL_CONFIG, measures, weights, kept)
    stream_blocks([made], plan, device)
    return made


def packed_encoder(build: Callable[[torch.device], nn.Module], kept: Quantization, device: torch.device) -> Any:
    """Builds an encoder where it is asked for, in fewer bits where ``kept`` says so."""

    def read(where: torch.device) -> nn.Module:
        if kept is Quantization.NONE:
            return build(where)
        module = build(CPU)
        quantize(module, linear_weights(module), kept, on=device)
        return module.to(where)

    return read


def real_engine(plan: MemoryPlan, device: torch.device, tokenizers: Any) -> Engine:
    """An engine of the real size that follows ``plan``."""
    encoders = [
        placed_encoder(
            packed_encoder(encoder(one.part.name, REAL_TEXTS[one.part.name]), plan.sizes.quantization, device),
            place,
            device,
        )
        for one, place in zip(plan.sizes.encoders, plan.arrangement.encoders, strict=True)
    ]
    loaded = LoadedModel(
        card=ModelCard("random, of the real size", "", 768, EditDefaults(), "random", is_random=True),
        text_encoders=TextEncoders(tokenizers, *encoders, device=device),
        autoencoder=autoencoder(device, plan),
        edit_transformer=transformer(device, plan),
        refine_transformer=None,
        scheduler_config=UNIPC,
        plan=plan,
    )
    return Engine(EngineParts.of(loaded, device, torch.bfloat16))


def tiny_engine(plan: Arrangement, kept: Quantization, device: torch.device, folder: Path) -> Engine:
    loaded = load_model(ModelSource(folder), device=device, dtype=torch.float32, memory=plan, quantization=kept)
    return Engine(EngineParts.of(loaded, device, torch.float32))


class Peaks:
    """Peak bytes of the device in each phase, as its allocator counts them."""

    def __init__(self, device: torch.device) -> None:
        self._device, self.bytes, self.seconds = device, {}, {}  # type: ignore[var-annotated]

    def of(self, phase: str, work: Callable[[], Any]) -> Any:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        began = time.perf_counter()
        result = work()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            self.bytes[phase] = torch.cuda.max_memory_allocated(self._device)
        self.seconds[phase] = round(time.perf_counter() - began, 3)
        return result


def measured(engine: Engine, device: torch.device) -> tuple[dict[str, Any], Tensor]:
    """Peaks, seconds, and the latents after three steps."""
    side = engine.model.working_size
    source = Picture(side, side, bytes(range(256)) * (side * side * 3 // 256))
    edit = EditInput(
        edit_instruction="make it night", seed=3, num_inference_steps=STEPS, guidance_scale=3.5, detail=False
    )
    settings, peaks = engine.settle(edit), Peaks(device)
    peaks.of("encode the words", lambda: engine._reader.embeddings("make it night"))  # noqa: SLF001 - a measurement
    state = peaks.of("encode the source", lambda: engine.begin(source, settings))
    state = peaks.of("denoise", lambda: engine.advance(state))  # reads the negative prompt as well
    state = peaks.of("denoise", lambda: engine.advance(state))
    latents = state.solver.latents.cpu()
    peaks.of("decode", lambda: engine._loaded.autoencoder.decode(state.solver.latents))  # noqa: SLF001
    report: dict[str, Any] = {"seconds": peaks.seconds}
    if peaks.bytes:
        planned = engine.plan.phases
        report["peaks"] = {
            phase: {
                "GB measured": round(size / GB, 2),
                "GB planned": round(planned[phase] / GB, 2),
                "within": size <= planned[phase],
            }
            for phase, size in peaks.bytes.items()
        }
        report["GB reserved by torch"] = round(torch.cuda.memory_reserved(device) / GB, 2)
    return report, latents


def released(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a tiny model, for any machine")
    parser.add_argument(
        "--plans",
        nargs="+",
        default=["24", "16", "24:int8", "16:nf4"],
        metavar="GB[:QUANTIZATION]",
        help="amounts to stay within",
    )
    parser.add_argument("--without-resident", action="store_true", help="skip the run in which nothing moves")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not options.tiny:
        parser.error("the real size needs a CUDA device; --tiny runs anywhere")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    report: dict[str, Any] = {"torch": torch.__version__, "device": name}
    results: dict[str, Tensor] = {}
    with tempfile.TemporaryDirectory() as folder:
        tiny = write_checkpoint(Path(folder) / "tiny")
        if options.tiny:
            streamed, resident = Arrangement((Place.HOST,) * 4, 1), Arrangement((Place.DEVICE,) * 4, 5)
            for label, arrangement, kept in (
                ("streamed", streamed, Quantization.NONE),
                ("resident", resident, Quantization.NONE),
                ("streamed in nf4", streamed, Quantization.NF4),
                ("resident in nf4", resident, Quantization.NF4),
            ):
                report[label], results[label] = measured(tiny_engine(arrangement, kept, device, tiny), device)
        else:
            tokenizers = load_tokenizers(ModelFolder(tiny), None)
            sizes, total = real_sizes(), torch.cuda.get_device_properties(device).total_memory
            plans: dict[str, MemoryPlan] = {}
            for wanted in options.plans:
                amount, _, kept = wanted.partition(":")
                packed_sizes = real_sizes(quantization=Quantization(kept)) if kept else sizes
                label = f"{amount} GB in {kept}" if kept else f"{amount} GB"
                plans[label] = choose(packed_sizes, Room(int(float(amount) * GB)))
            whole = everything_resident(sizes)
            if not options.without_resident and whole.peak < total:
                plans["resident"] = whole
            for label, plan in plans.items():
                print(f"{label}\n{plan.table()}\n", flush=True)
                share = 1.0 if label == "resident" else min(1.0, (plan.peak - plan.reserve // 2) / total)
                torch.cuda.set_per_process_memory_fraction(share, device)
                began = time.perf_counter()
                engine = real_engine(plan, device, tokenizers)
                built = round(time.perf_counter() - began, 1)
                report[label], results[label] = measured(engine, device)
                report[label]["seconds to build"] = built
                del engine
                released(device)
    if "resident" in results:
        moving = next(label for label in results if label != "resident")
        report["streamed equals resident bit by bit"] = bool(torch.equal(results[moving], results["resident"]))
    if "resident in nf4" in results:
        same = torch.equal(results["streamed in nf4"], results["resident in nf4"])
        report["streamed equals resident in nf4"] = bool(same)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
