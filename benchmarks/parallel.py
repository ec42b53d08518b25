"""One denoising step on several devices together, beside the same step on the first of them alone.

    make bench-parallel                                        HiDream-E1-Full on 2, 3… of the visible CUDA devices
    make bench-parallel BENCH="--model FOLDER --ranks 3"       another model, one size of group
    make bench-parallel BENCH="--small"                        a small random transformer on 2 to 4 processes of a CPU

Rank 0 holds a whole transformer anyway, so both sides are timed in one process, in turns, and medians are compared. For
each number of branches it prints how they were shared out, seconds of both, their ratio, and how far the outputs are
apart. One JSON object; whoever runs it puts the numbers into benchmarks/LOG.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from hidream_edit.engine.checked_model import ModelSource
from hidream_edit.engine.devices import choose_device, choose_dtype
from hidream_edit.engine.loading import load_transformers
from hidream_edit.engine.measures import measures_for
from hidream_edit.engine.model.config import TransformerConfig
from hidream_edit.engine.model.transformer import ForwardInputs, Transformer
from hidream_edit.engine.parallel.group import Group
from hidream_edit.engine.parallel.mesh import choose_teams

REAL = "HiDream-ai/HiDream-E1-Full"
SMALL: dict[str, Any] = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 2,
    "num_single_layers": 4,
    "attention_head_dim": 32,
    "num_attention_heads": 4,
    "caption_channels": [64, 64],
    "text_emb_dim": 64,
    "num_routed_experts": 4,
    "num_activated_experts": 2,
    "axes_dims_rope": [16, 8, 8],
    "max_resolution": [32, 64],
    "llama_layers": [0, 1, 1, 1, 1, 1],
}
TEXT_ROWS = 128
TURNS = 7


def write_small(folder: Path) -> Path:
    """A random transformer in the public layout; ranks need nothing else of a model."""
    torch.manual_seed(0)
    weights = {
        name: torch.ones_like(tensor) if "norm" in name else torch.randn_like(tensor) * 0.05
        for name, tensor in Transformer(TransformerConfig.from_json(SMALL)).state_dict().items()
    }
    (folder / "transformer").mkdir(parents=True)
    (folder / "transformer" / "config.json").write_text(json.dumps(SMALL))
    save_file(weights, folder / "transformer" / "diffusion_pytorch_model.safetensors")
    return folder


def timed(work: Callable[[], Tensor], device: torch.device) -> tuple[float, Tensor]:
    """Seconds of one call, until the device has finished it."""
    began = time.perf_counter()
    output = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began, output


@torch.inference_mode()
def measure(model: str, devices: list[str], dtype: str | None) -> dict[str, Any]:
    """Both sides, for each number of branches."""
    device = choose_device(devices[0])
    precision = choose_dtype(dtype, device)
    source = ModelSource(model)
    measures = measures_for(device, precision).without("one_by_one")
    group = Group(
        devices, source, dtype=str(precision).removeprefix("torch."), memory=None, measures=measures, progress=print
    )
    alone = load_transformers(source, device=device, dtype=precision, measures=measures)[0]
    together, _ = group.connected(alone, None)
    config, report = alone.config, {}
    rows, columns = config.max_resolution
    for branches in (3, 2, 1):
        is_edit = branches != 2  # two branches are the refine stage, whose canvas has no source
        torch.manual_seed(branches)

        def random(*shape: int) -> Tensor:
            return torch.randn(shape).to(device, precision)

        canvas = random(branches, config.in_channels, rows, columns if is_edit else columns // 2)
        t5 = random(branches, TEXT_ROWS, config.caption_channels[0])
        llama = random(max(config.llama_layers) + 1, branches, TEXT_ROWS, config.caption_channels[1])
        text, pooled = alone.project_text(t5, llama), random(branches, config.text_emb_dim)
        timesteps = torch.full((branches,), 700.0, device=device)
        inputs = ForwardInputs(canvas, timesteps, text, pooled, columns // 2)
        seconds: tuple[list[float], list[float]] = ([], [])
        outputs: list[Tensor] = []
        for _ in range(TURNS + 1):
            outputs = []
            for side, transformer in zip(seconds, (alone, together), strict=True):
                took, output = timed(lambda: transformer(inputs), device)  # noqa: B023
                side.append(took)
                outputs.append(output.float())
        one, several = (median(side[1:]) for side in seconds)  # the first turn warms up
        teams = choose_teams(branches, len(devices), heads=config.num_attention_heads)
        report[f"{branches} branches"] = {
            "teams (ranks, branches)": [(team.size, len(team.rows)) for team in teams],
            "seconds alone": round(one, 4),
            "seconds together": round(several, 4),
            "times as fast": round(one / several, 2),
            "relative difference": float((outputs[1] - outputs[0]).norm() / outputs[0].norm()),
        }
    group.close()
    return report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", default=REAL)
    parser.add_argument("--small", action="store_true", help="a small random transformer, on any machine")
    parser.add_argument("--ranks", type=int, nargs="+", help="sizes of groups; all that the devices allow by default")
    parser.add_argument("--dtype")
    options = parser.parse_args()
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if available < 2 and not options.small:
        parser.error("this needs two CUDA devices; --small runs anywhere")
    sizes = options.ranks or ([2, 3, 4] if options.small else [*range(2, available + 1)])
    with tempfile.TemporaryDirectory() as folder:
        model = str(write_small(Path(folder) / "model")) if options.small else options.model
        report: dict[str, Any] = {"torch": torch.__version__, "model": "small, random" if options.small else model}
        report["device"] = "CPU" if options.small else torch.cuda.get_device_name(0)
        for ranks in sizes:
            names = ["cpu"] * ranks if options.small else [f"cuda:{index}" for index in range(ranks)]
            report[f"{ranks} ranks"] = measure(model, names, options.dtype)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
