"""Train the transformer of the mini model on codes or on real text; resumable, CPU or CUDA."""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator, default_rng
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from hidream_edit.engine.model.attention import Pad
from hidream_edit.engine.model.transformer import ForwardInputs, Transformer
from training import autoencoder
from training.autoencoder import LATENT_SCALE, SIDE
from training.edits import CODE_SIZE, Edit, code
from training.samples import Sample, endless
from training.transformer import CONFIG, TEXT_ROWS, WORKING_SIZE, build

STRIP_ROWS = 64  # pixels; families that are local in space learn from strips, four times as many for the same work
WHOLE_ONLY = frozenset({
    "vignette", "frame", "sunset", "neon", "mirror", "upside_down", "recolour", "remove", "add", "background",
})  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run."""

    minutes: float
    seed: int = 0
    strips: int = 28
    wholes: int = 10
    whole_share: float = 0.45
    muon_rate: float = 0.02
    adam_rate: float = 1.2e-3
    hold: float = 0.5  # share of the run at full rate, then a cosine down
    floor_db: float = 33.0  # errors below this are as good as none


class TextSource:
    """What the transformer reads for an instruction: codes at first, real encoders as soon as they are there."""

    def __init__(self, folder: Path | None) -> None:
        self.encode: Callable[[list[tuple[Edit, ...]], Generator], tuple[Tensor, Tensor, Tensor]] = self._codes
        if folder is not None:
            from training.text_encoders import Frozen
            from training.wordings import prompt

            encoders = Frozen(folder)

            def words(edits: list[tuple[Edit, ...]], rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
                return encoders([prompt(one, rng) for one in edits])

            self.encode = words

    @staticmethod
    def _codes(edits: list[tuple[Edit, ...]], rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Pooled (B, code), T5 (B, rows, code), Llama (layers, B, rows, code) made from the codes themselves."""
        pooled = torch.from_numpy(np.stack([code(one) for one in edits]))
        pooled = pooled + 0.03 * torch.from_numpy(rng.standard_normal(pooled.shape).astype(np.float32))
        rows = TEXT_ROWS // 2
        noise = torch.from_numpy(rng.standard_normal((5, len(edits), rows, CODE_SIZE)).astype(np.float32))
        return pooled, pooled[:, None] + 0.05 * noise[0], pooled[None, :, None] * 0.5 + 0.5 * noise[1:]


def batches(rng: Generator, recipe: Recipe, size: int = WORKING_SIZE) -> Iterator[tuple[list[Sample], bool]]:
    """Whole pictures and strips by turns."""
    samples, strips, wholes = endless(rng, size), [], []  # type: ignore[var-annotated]
    while True:
        wants_whole = rng.random() < recipe.whole_share
        queue, count = (wholes, recipe.wholes) if wants_whole else (strips, recipe.strips)
        while len(queue) < count:
            sample = next(samples)
            if any(edit.family in WHOLE_ONLY for edit in sample.edits):
                wholes.append(sample)
            elif len(strips) < 3 * recipe.strips:
                strips.append(_strip(sample, rng))
                if rng.random() < 0.35:
                    wholes.append(sample)
            else:
                wholes.append(sample)
        batch, rest = queue[:count], queue[count:]
        queue[:] = rest[-4 * count :]
        yield batch, wants_whole


def _strip(sample: Sample, rng: Generator) -> Sample:
    top = int(rng.integers(0, (sample.source.shape[0] - STRIP_ROWS) // 16 + 1)) * 16
    part = slice(top, top + STRIP_ROWS)
    return Sample(sample.source[part].copy(), sample.target[part].copy(), sample.edits)


class Feed(IterableDataset):
    """Batches without end, by worker processes where there are many cores; each worker draws its own."""

    def __init__(self, recipe: Recipe, step: int) -> None:
        self._recipe, self._step = recipe, step

    def __iter__(self) -> Iterator[tuple[list[Sample], bool]]:
        worker = get_worker_info()
        number = 0 if worker is None else worker.id
        return batches(default_rng([self._recipe.seed, self._step, 1 + number]), self._recipe)


class Latents:
    """The fixed encoder, and how much an error of each latent channel counts."""

    def __init__(self, gains: Tensor, device: torch.device) -> None:
        self.device, gains = device, gains.to(device)
        self.analysis = autoencoder.transform()[0].to(device) * gains[:, None, None, None] * LATENT_SCALE
        # Squared error of pixels in −1…1, per squared error of a latent.
        in_pixels = (gains * LATENT_SCALE) ** -2 / SIDE**2
        self.weight = (in_pixels.mean() * (in_pixels / in_pixels.mean()) ** 0.75)[None, :, None, None]

    def __call__(self, pictures: list[np.ndarray]) -> Tensor:  # type: ignore[type-arg]
        pixels = torch.from_numpy(np.stack(pictures)).to(self.device).permute(0, 3, 1, 2) * 2 - 1
        return nn.functional.conv2d(pixels, self.analysis, stride=SIDE)


@dataclass
class Task:
    """One batch as the network meets it."""

    noisy: Tensor
    source: Tensor
    truth: Tensor
    times: Tensor
    edits: list[tuple[Edit, ...]]


def make_task(batch: list[Sample], latents: Latents, rng: Generator) -> Task:
    """Draw times and states. The blocks are blind to both, but for what the size of a state does to their norms; so
    states are those of other samples, and tell nothing about the truth of their own."""
    source, truth = latents([s.source for s in batch]), latents([s.target for s in batch])
    drawn = rng.uniform(0, 1, len(batch)), rng.standard_normal(truth.shape)
    times, noise = (torch.from_numpy(values.astype(np.float32)).to(truth.device) for values in drawn)
    times = times.view(-1, 1, 1, 1)
    return Task((1 - times) * truth.roll(1, 0) + times * noise, source, truth, times, [s.edits for s in batch])


def loss_of(
    model: Transformer, task: Task, text: tuple[Tensor, Tensor, Tensor], weight: Tensor, floor_db: float
) -> tuple[Tensor, float]:
    """Minus the mean PSNR of the estimates, in nepers and levelling off at ``floor_db``; and the plain mean in dB."""
    pooled, t5, llama = text
    canvas = torch.cat((task.noisy, task.source), dim=-1)
    rows, columns = canvas.shape[-2:]
    model.config = replace(CONFIG, max_resolution=(rows, columns))  # no pads on strips either
    with torch.autocast(canvas.device.type, torch.bfloat16):
        text_tokens = model.project_text(t5, llama)
        output = model(ForwardInputs(canvas, task.times.flatten() * 1000, text_tokens, pooled))
    output = output[..., : task.noisy.shape[-1]].float()
    errors = ((output - task.truth) ** 2 * weight).sum(1).mean((1, 2))
    floor = 4 * 10 ** (-floor_db / 10)
    return (errors + floor).log().mean(), float(-10 * (errors.detach() / 4).log10().mean())


def attend_by_products(query: Tensor, key: Tensor, value: Tensor, pad: Pad | None = None) -> Tensor:
    """Attention as plain products: on a CPU and for few tokens faster, both ways, than the fused kernel."""
    if pad is not None:
        raise ValueError("the pictures of the training have no pads")
    batch, heads, tokens, channels = query.shape
    scores = torch.bmm(
        (query * channels**-0.5).reshape(-1, tokens, channels), key.reshape(-1, tokens, channels).transpose(1, 2)
    )
    return torch.bmm(scores.softmax(-1), value.reshape(-1, tokens, channels)).view(batch, heads, tokens, channels)


def make_optimisers(model: Transformer, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for the rest; the analytic start changes slowly."""
    first = "double_stream_blocks.0.block.attn1."
    slow = {f"{first}{layer}.{kind}" for layer in ("to_q", "to_k") for kind in ("weight", "bias")}
    matrices, modulations, careful, rest = [], [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if name in slow:
            careful.append(parameter)
        elif "adaLN" in name:
            modulations.append(parameter)
        elif parameter.ndim == 2 and "_blocks" in name and "gate" not in name:
            matrices.append(parameter)
        else:
            rest.append(parameter)
    adam = torch.optim.AdamW(
        [{"params": rest}, {"params": modulations, "lr": 1e-3}, {"params": careful, "lr": 1e-4}],
        lr=recipe.adam_rate,
        betas=(0.9, 0.97),
        weight_decay=0.003,
    )
    muon = torch.optim.Muon(matrices, lr=recipe.muon_rate, momentum=0.95, weight_decay=0.005, ns_steps=4)
    for optimiser in (adam, muon):
        for group in optimiser.param_groups:
            group["full_rate"] = group["lr"]
    return [adam, muon]


def rate_at(share: float, step: int, hold: float) -> float:
    """Warm-up, hold, cosine."""
    warm = min(1.0, (step + 1) / 80)
    if share < hold:
        return warm
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (share - hold) / (1 - hold))))


def train(recipe: Recipe, out: Path, *, gains: Tensor, text_folder: Path | None, start: Path | None) -> None:
    """Run for ``recipe.minutes`` of work, over as many sessions as that takes; saves every two minutes.

    ``start``: a checkpoint of another run, or the folder of an exported model, whose weights to begin with.
    """
    checkpoint = out / "transformer.pt"
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model, pinned = build(recipe.seed)
    if device.type == "cpu":
        model.attend = attend_by_products
    if start is not None:
        model.load_state_dict(starting_weights(start))
    model.to(device)
    restore = pinned.attach(model)
    average = copy.deepcopy(model.state_dict())
    optimisers = make_optimisers(model, recipe)
    step, spent = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True, map_location=device)
        model.load_state_dict(saved["model"])
        average, step, spent = saved["average"], saved["step"], saved["spent"]
        for optimiser, state in zip(optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
    rng = default_rng([recipe.seed, step])
    latents, text = Latents(gains, device), TextSource(text_folder)
    feed = iter(DataLoader(Feed(recipe, step), batch_size=None, num_workers=_workers(device), collate_fn=_as_it_is))
    log: dict[str, list[float]] = {"whole": [], "strip": []}
    began, saved_at = time.monotonic() - spent, time.monotonic()
    while (share := (time.monotonic() - began) / 60 / recipe.minutes) < 1:
        batch, is_whole = next(feed)
        task = make_task(batch, latents, rng)
        with torch.no_grad():
            words = tuple(part.to(device) for part in text.encode(task.edits, rng))
        loss, decibels = loss_of(model, task, words, latents.weight, recipe.floor_db)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = group["full_rate"] * rate_at(share, step, recipe.hold)
            optimiser.step()
            optimiser.zero_grad()
        restore()
        step += 1
        decay = min(0.998, 1 - 1 / (step / 8 + 2))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1 - decay)
        log["whole" if is_whole else "strip"].append(decibels)
        if step in (1, 10, 30) or step % 50 == 0:
            means = " ".join(f"{kind} {np.mean(values[-60:]):.2f} dB" for kind, values in log.items() if values)
            minutes = (time.monotonic() - began) / 60
            print(f"{time.strftime('%H:%M')} {minutes:.1f} min step {step} norm {norm:.2f} {means}", flush=True)
        if time.monotonic() - saved_at > 120 or share > 0.999:
            saved_at = time.monotonic()
            _save(checkpoint, model, average, optimisers, step, time.monotonic() - began)
    _save(checkpoint, model, average, optimisers, step, time.monotonic() - began)


def starting_weights(start: Path) -> dict[str, Tensor]:
    """Averaged weights of a checkpoint, or the weights of an exported model, widened."""
    if start.is_dir():
        return widened(load_file(start / "transformer" / "diffusion_pytorch_model.safetensors"))
    averaged: dict[str, Tensor] = torch.load(start, weights_only=True)["average"]
    return averaged


def widened(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Float32 weights from a file whose matrices lie in eight bits."""
    scales = {name: tensor for name, tensor in stored.items() if name.endswith(".scale")}
    return {
        name: tensor.float() * scales.get(f"{name}.scale", 1) for name, tensor in stored.items() if name not in scales
    }


def _workers(device: torch.device) -> int:
    """Processes that draw samples; on a CPU the training itself needs the cores."""
    return min(12, (os.cpu_count() or 1) - 1) if device.type == "cuda" else 0


def _as_it_is(batch: Any) -> Any:
    return batch


def _save(
    file: Path,
    model: Transformer,
    average: dict[str, Tensor],
    optimisers: list[torch.optim.Optimizer],
    step: int,
    spent: float,
) -> None:
    """Write beside, then rename: a run that is killed leaves the last whole file."""
    beside = file.with_suffix(".part")
    states = [optimiser.state_dict() for optimiser in optimisers]
    torch.save(
        {"model": model.state_dict(), "average": average, "optimisers": states, "step": step, "spent": spent}, beside
    )
    beside.replace(file)


def main() -> None:
    """Train the transformer."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--gains", type=Path, required=True, help="gains.pt of the autoencoder")
    parser.add_argument("--text", type=Path, help="folder of trained text encoders; codes without it")
    parser.add_argument("--start", type=Path, help="checkpoint or exported model whose weights to start from")
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1.0, help="factor on all learning rates")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(options.minutes, options.seed, muon_rate=0.02 * options.rate, adam_rate=1.2e-3 * options.rate)
    (options.out / "recipe.json").write_text(json.dumps({**asdict(recipe), "config": asdict(CONFIG)}, indent=1))
    gains = torch.load(options.gains, weights_only=True)["gains"]
    train(recipe, options.out, gains=gains, text_folder=options.text, start=options.start)


if __name__ == "__main__":
    main()
