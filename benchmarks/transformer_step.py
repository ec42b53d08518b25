"""One denoising step of the real configuration with random weights, ours beside the library's class.

    make benchmark-gpu                                       on a machine with a large GPU: 768x768, bf16, 3 steps
    python benchmarks/transformer_step.py --size mid         the same on any CPU, in float32 on one thread

Both classes hold the very same tensors, so memory is counted once and results can be compared. Both are compared with
ours in float32, where that fits, by the rule of model.md 15: in bf16 our error may be 1.5 times the library's at most.
Then each measure is switched off, those that are not yet defaults are switched on, and each kernel of attention is
tried, all in the same run; what pays is then made the default in hidream_edit/engine/measures.py.
Prints one JSON object; whoever runs it puts the numbers into benchmarks/LOG.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import asdict, replace
from typing import Any

import torch
import torch.nn.functional as F
from benchmarks.configurations import MID_CONFIG
from diffusers import HiDreamImageTransformer2DModel
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from hidream_edit.domain.errors import DeviceUnavailable
from hidream_edit.engine.guidance import Velocities, guide
from hidream_edit.engine.measures import check_recorded, measures_for
from hidream_edit.engine.memory.sizes import REAL_CONFIG
from hidream_edit.engine.model.attention import Pad, attend
from hidream_edit.engine.model.config import TransformerConfig
from hidream_edit.engine.model.denoiser import Denoiser
from hidream_edit.engine.model.measures import PLAIN, Measures
from hidream_edit.engine.model.rebuilding import rebuild
from hidream_edit.engine.model.recorded import CudaRecorder, RecordedTransformer, Recordings
from hidream_edit.engine.model.transformer import ForwardInputs, TextTokens, Transformer

TINY = TransformerConfig(
    in_channels=16,
    out_channels=16,
    patch_size=2,
    num_layers=2,
    num_single_layers=2,
    num_attention_heads=4,
    attention_head_dim=32,
    caption_channels=(64, 64),
    text_emb_dim=48,
    num_routed_experts=4,
    num_activated_experts=2,
    axes_dims_rope=(16, 8, 8),
    max_resolution=(16, 32),
    llama_layers=(0, 1, 1, 1),
)
CONFIGURATIONS = {"real": REAL_CONFIG, "mid": MID_CONFIG, "tiny": TINY}
BRANCHES, TEXT_ROWS, STEPS = 3, 128, 3
PAD = Pad(place=4, copies=2208)  # of a picture of 640×480 that keeps its size
ERROR_RATIO_MAX = 1.5
WEIGHT_STD = 0.02


class Inputs:
    """One step's inputs for both classes, random but always the same."""

    def __init__(self, config: TransformerConfig, device: torch.device, dtype: torch.dtype) -> None:
        draw = torch.Generator().manual_seed(0)

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=draw).to(device, dtype)

        rows, columns = config.max_resolution
        self.canvas = random(1, config.in_channels, rows, columns).expand(BRANCHES, -1, -1, -1).contiguous()
        self.t5 = random(BRANCHES, TEXT_ROWS, config.caption_channels[0])
        self.llama = random(max(config.llama_layers) + 1, BRANCHES, TEXT_ROWS, config.caption_channels[1])
        self.pooled = random(BRANCHES, config.text_emb_dim)
        self.timesteps = torch.full((BRANCHES,), 700.0, device=device)


def random_weights(config: TransformerConfig, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights drawn on the device, by the names of the public checkpoint."""
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Transformer(config).state_dict().items()}
    weights = {}
    for name, shape in shapes.items():
        tensor = torch.empty(shape, device=device, dtype=dtype)
        weights[name] = tensor.fill_(1) if "norm" in name else tensor.normal_(std=WEIGHT_STD)
    return weights


def ours(config: TransformerConfig, weights: dict[str, Tensor], measures: Measures = PLAIN) -> Transformer:
    """Our class over the given tensors; only fused layers copy them."""
    with torch.device("meta"):
        model = Transformer(config, measures)
    model.load_state_dict(weights, assign=True)
    return rebuild(model.eval().requires_grad_(False))


def theirs(config: TransformerConfig, weights: dict[str, Tensor]) -> Any:
    """The library's class over the same tensors."""
    with torch.device("meta"):
        model = HiDreamImageTransformer2DModel(
            **{name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}
        )
    model.load_state_dict(weights, assign=True, strict=False)
    for name, buffer in list(model.named_buffers()):
        if buffer.device.type == "meta":
            raise RuntimeError(f"the library's class has a buffer {name} that the checkpoint lacks")
    return model.eval()


def step_of_ours(model: Denoiser, inputs: Inputs, text: TextTokens) -> Tensor:
    """Velocity of one guided step."""
    noise_columns = inputs.canvas.shape[-1] // 2
    rows = [[index] for index in range(BRANCHES)] if model.measures.one_by_one else [list(range(BRANCHES))]
    velocities = []
    for some in rows:
        tokens = text.rows(some)
        given = ForwardInputs(inputs.canvas[some], inputs.timesteps[some], tokens, inputs.pooled[some], noise_columns)
        velocities.append(-model(given))
    return guided(torch.cat(velocities))


def step_of_theirs(model: Any, inputs: Inputs) -> Tensor:
    output = model(
        hidden_states=inputs.canvas,
        timesteps=inputs.timesteps,
        encoder_hidden_states_t5=inputs.t5,
        encoder_hidden_states_llama3=inputs.llama,
        pooled_embeds=inputs.pooled,
        return_dict=False,
    )[0]
    return guided(-output[..., : inputs.canvas.shape[-1] // 2])


def guided(velocities: Tensor) -> Tensor:
    return guide(Velocities(*velocities.split(1)), guidance_scale=3.5, image_guidance_scale=2.0, normed=True)


def timed(step: Any, device: torch.device) -> tuple[Tensor, list[float]]:
    """The last result, and seconds of each of the steps after one to warm up."""
    result, seconds = step(), []
    for _ in range(STEPS):
        _wait(device)
        began = _clock(device)
        result = step()
        _wait(device)
        seconds.append(round(_clock(device) - began, 4))
    return result, seconds


def each_measure(
    config: TransformerConfig, weights: dict[str, Tensor], inputs: Inputs, truth: Tensor
) -> dict[str, Any]:
    """Seconds per step with the defaults of this device, with each of them off, and with what is not yet a default."""
    device, dtype = inputs.canvas.device, inputs.canvas.dtype
    default = measures_for(device, dtype)
    tried = {"defaults": default, "plain": PLAIN}
    tried |= {f"without {name}": default.without(name) for name in Measures.names() if getattr(default, name)}
    if device.type == "cuda":
        tried |= {
            "compiled": replace(default, compiled=True),
            "recorded": replace(default, recorded=True),
            "compiled and recorded": replace(default, compiled=True, recorded=True),
        }
    report: dict[str, Any] = {}
    for name, measures in tried.items():
        try:
            model = called(ours(config, weights, measures), device, dtype)
        except DeviceUnavailable as refused:
            report[name] = str(refused)
            continue
        text = model.project_text(inputs.t5, inputs.llama)
        _peak(device)
        result, seconds = timed(lambda model=model, text=text: step_of_ours(model, inputs, text), device)
        report[name] = {"seconds": seconds, "peak GiB": _peak(device)}
        report[name]["relative error"] = relative_error(result, truth)
        del model, text  # before the next one: layers that are fused, and recordings, are memory of their own
    return report


def called(model: Transformer, device: torch.device, dtype: torch.dtype) -> Denoiser:
    """What the engine would call, which records where that is among the measures.

    Raises:
        DeviceUnavailable: nothing can be recorded here.
    """
    if not model.measures.recorded:
        return model
    check_recorded(model.measures, device, dtype)
    return RecordedTransformer(model, Recordings(CudaRecorder(device)))


def each_attention(config: TransformerConfig, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Seconds of one block's attention by every kernel that PyTorch has for it, and with a pad that stands for many."""
    tokens = config.max_tokens + 3 * TEXT_ROWS
    shape = (BRANCHES, config.num_attention_heads, tokens, config.attention_head_dim)
    query, key, value = (torch.randn(shape, device=device, dtype=dtype) for _ in range(3))
    report: dict[str, Any] = {}
    for name, backend in SDPBackend.__members__.items():
        if name in ("ERROR", "OVERRIDEABLE", "MATH"):
            continue
        try:
            with sdpa_kernel(backend):
                report[name] = timed(lambda: F.scaled_dot_product_attention(query, key, value), device)[1]
        except RuntimeError as unavailable:
            report[name] = str(unavailable).splitlines()[0]
    bias = torch.zeros(1, 1, 1, tokens, device=device, dtype=dtype)
    bias[..., PAD.place] = PAD.logit
    report["a pad by a bias"] = timed(lambda: F.scaled_dot_product_attention(query, key, value, bias), device)[1]
    report["a pad afterwards"] = timed(lambda: attend(query, key, value, PAD), device)[1]
    return report


def _clock(device: torch.device) -> float:
    """Seconds; on a CPU those that it worked for this process, since other work may share it."""
    return time.perf_counter() if device.type == "cuda" else time.process_time()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(device: torch.device) -> float | None:
    """GiB since the last call."""
    if device.type != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated(device) / 2**30
    torch.cuda.reset_peak_memory_stats(device)
    return round(peak, 2)


def relative_error(result: Tensor, truth: Tensor) -> float:
    return float((result.float() - truth.float()).norm() / truth.float().norm())


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--size", choices=CONFIGURATIONS, default="real", help="tiny and mid fit any machine")
    parser.add_argument("--without-float32", action="store_true", help="skip the comparison that needs 70 GB")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and options.size == "real":
        parser.error("the real configuration needs a CUDA device with 80 GB; --size tiny or mid run anywhere")
    config = CONFIGURATIONS[options.size]
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    if device.type == "cpu":
        torch.set_num_threads(1)
    report: dict[str, Any] = {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU",
        "configuration": options.size,
        "dtype": str(dtype),
        "tokens": config.max_tokens,
        "branches": BRANCHES,
    }
    began = time.perf_counter()
    weights = random_weights(config, device, dtype)
    _wait(device)
    report["parameters"] = sum(tensor.numel() for tensor in weights.values())
    report["seconds to build the weights"] = round(time.perf_counter() - began, 2)
    report["GiB of weights"] = round(sum(tensor.nbytes for tensor in weights.values()) / 2**30, 2)

    inputs = Inputs(config, device, dtype)
    model = ours(config, weights)
    text = model.project_text(inputs.t5, inputs.llama)
    _peak(device)
    our_result, report["seconds per step, ours"] = timed(lambda: step_of_ours(model, inputs, text), device)
    report["peak GiB, ours"] = _peak(device)
    library = theirs(config, weights)
    their_result, report["seconds per step, library"] = timed(lambda: step_of_theirs(library, inputs), device)
    report["peak GiB, library"] = _peak(device)
    report["ours against library"] = relative_error(our_result, their_result)
    truth = their_result
    if dtype is torch.bfloat16 and not options.without_float32:
        wide = {name: tensor.float() for name, tensor in weights.items()}
        exact = ours(config, wide)
        inputs = Inputs(config, device, torch.float32)
        # The same inputs as the bf16 runs saw, to the bit.
        for name in ("canvas", "t5", "llama", "pooled"):
            setattr(inputs, name, getattr(inputs, name).bfloat16().float())
        truth = step_of_ours(exact, inputs, exact.project_text(inputs.t5, inputs.llama))
        report["bf16 error, ours"] = relative_error(our_result, truth)
        report["bf16 error, library"] = relative_error(their_result, truth)
        report["within the rule"] = report["bf16 error, ours"] <= ERROR_RATIO_MAX * report["bf16 error, library"]
        del wide, exact  # as large as all else together, which the measures want
    inputs = Inputs(config, device, dtype)
    report["each measure"] = each_measure(config, weights, inputs, truth)
    report["each attention"] = each_attention(config, device, dtype)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
