"""The autoencoder of the mini model: a cosine transform written into AutoencoderDC, and a decoder trained on top.

Its down blocks are plain convolutions and pixel unshuffles, so the encoder can be the 8×8 cosine transform exactly:
linear edits of the picture are then linear edits of the latents. The decoder starts as the inverse transform and
learns what a block transform cannot know: to join blocks smoothly and to ignore small errors of the latents.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderDC
from numpy.random import default_rng
from numpy.typing import NDArray
from torch import Tensor

from training.pictures import HELD_OUT, draw_source, photo
from training.samples import endless

SIDE = 8  # pixels of a block
KEPT = (20, 5, 5)  # coefficients kept of brightness and of the two colour differences
CHANNELS = sum(KEPT)
YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
LATENT_STD = 5.0  # of the first coefficient
LATENT_SCALE = 64.0  # scaling factor of the autoencoder: beside latents this large, noise of deviation 1 is nothing
CONSTANT, CONSTANTS = 30.0, 8  # channels that keep the norm before the last layer from depending on the picture


def build() -> AutoencoderDC:
    """The architecture; weights as initialised by the library."""
    return AutoencoderDC(
        in_channels=3,
        latent_channels=CHANNELS,
        attention_head_dim=32,
        encoder_block_out_channels=(12, 12, 48, 192),
        encoder_layers_per_block=(0, 1, 1, 0),
        encoder_qkv_multiscales=((), (), (), ()),
        encoder_out_shortcut=False,
        decoder_block_out_channels=(32, 32, 64, 128),
        decoder_layers_per_block=(0, 1, 1, 1),
        decoder_qkv_multiscales=((), (), (), ()),
        decoder_in_shortcut=False,
        scaling_factor=LATENT_SCALE,
    )


def cosines() -> NDArray[np.float64]:
    """(8, 8) orthonormal cosine transform."""
    order, place = np.arange(SIDE)[:, None], np.arange(SIDE)[None]
    basis = np.sqrt(2 / SIDE) * np.cos(np.pi * (2 * place + 1) * order / (2 * SIDE))
    basis[0] /= np.sqrt(2)
    return basis


def transform() -> tuple[Tensor, Tensor]:
    """Analysis and synthesis (CHANNELS, 3, 8, 8) of one block, low frequencies first."""
    basis, inverse = cosines(), np.linalg.inv(YCBCR)
    order = sorted(itertools.product(range(SIDE), range(SIDE)), key=lambda pair: (sum(pair), max(pair)))
    analysis, synthesis = [], []
    for plane, kept in enumerate(KEPT):
        for row, column in order[:kept]:
            wave = np.outer(basis[row], basis[column])[None]
            analysis.append(wave * YCBCR[plane][:, None, None])
            synthesis.append(wave * inverse[:, plane][:, None, None])
    return torch.tensor(np.array(analysis)).float(), torch.tensor(np.array(synthesis)).float()


def coefficient_gains(seed: int = 0, count: int = 160) -> Tensor:
    """(CHANNELS,) factors that bring the coefficients to comparable sizes: K / √(std of it · std of the first)."""
    rng = default_rng(seed)
    pictures = torch.stack([_pixels(draw_source(rng, 128)) for _ in range(count)])
    raw = F.conv2d(pictures, transform()[0], stride=SIDE)
    deviation = raw.std((0, 2, 3))
    return LATENT_STD / (deviation * deviation[0]).sqrt()


@torch.no_grad()
def write_transform(model: AutoencoderDC, gains: Tensor) -> None:
    """Write the transform into the encoder and its inverse into the decoder."""
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.mul_(0.3)
    analysis, synthesis = transform()
    _write_encoder(model.encoder, analysis * gains[:, None, None, None])
    _write_decoder(model.decoder, synthesis / gains[:, None, None, None])


def _write_encoder(encoder: torch.nn.Module, analysis: Tensor) -> None:
    _zero(encoder.conv_in.conv)
    for channel in range(3):
        encoder.conv_in.conv.weight[channel, channel, 1, 1] = 1
    for level in (1, 2):
        residual, down = encoder.down_blocks[level]
        residual.norm.weight.zero_()
        residual.norm.bias.zero_()
        _zero(down.conv)  # its shortcut alone is the pixel unshuffle
    _zero(encoder.conv_out)
    # Three unshuffles in a row: channel = ((c·4 + first)·4 + second)·4 + third, each bit pair (row, column).
    rows, columns, colours = _unshuffled_places()
    encoder.conv_out.weight[:, :, 1, 1] = analysis[:, colours, rows, columns]


def _write_decoder(decoder: torch.nn.Module, synthesis: Tensor) -> None:
    _zero(decoder.conv_in)
    for latent in range(CHANNELS):
        decoder.conv_in.weight[latent, latent, 1, 1] = 1
    for level in (1, 2, 3):
        for block in decoder.up_blocks[level]:
            if hasattr(block, "norm"):
                block.norm.weight.fill_(0.02)
                block.norm.bias.zero_()
    # Latents (128 channels at 1/8) → 4×4 blocks of pixels (48 of 64 channels at 1/4).
    up = decoder.up_blocks[2][0]
    wanted = torch.zeros(64 * 4, 128)
    for y, x in itertools.product(range(2), range(2)):
        part = synthesis[:, :, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].reshape(CHANNELS, 48)
        for pixel in range(48):
            wanted[pixel * 4 + 2 * y + x, :CHANNELS] = part[:, pixel]
    _write_up(up, wanted, repeats=2)
    # → 2×2 blocks of pixels, once as they are and once negated, for the rectifier that follows; and constants.
    up = decoder.up_blocks[1][0]
    wanted, bias = torch.zeros(32 * 4, 64), torch.zeros(32 * 4)
    for y, x, c, dy, dx in itertools.product(range(2), range(2), range(3), range(2), range(2)):
        source = c * 16 + (2 * y + dy) * 4 + 2 * x + dx
        for sign, offset in ((1, 0), (-1, 12)):
            wanted[(offset + c * 4 + 2 * dy + dx) * 4 + 2 * y + x, source] = sign
    bias[24 * 4 : (24 + CONSTANTS) * 4] = CONSTANT
    _write_up(up, wanted, repeats=2, bias=bias)
    length = (CONSTANTS / 32) ** 0.5 * CONSTANT
    decoder.norm_out.weight.fill_(length)
    decoder.norm_out.bias.zero_()
    _zero(decoder.conv_out.conv)
    for c, dy, dx in itertools.product(range(3), range(2), range(2)):
        output = c * 4 + 2 * dy + dx
        decoder.conv_out.conv.weight[output, output, 1, 1] = 1
        decoder.conv_out.conv.weight[output, 12 + output, 1, 1] = -1


def _unshuffled_places() -> tuple[list[int], list[int], list[int]]:
    """Row, column and colour of each of the 192 channels after three pixel unshuffles."""
    rows, columns, colours = [], [], []
    for channel in range(192):
        third, second, first, colour = channel % 4, channel // 4 % 4, channel // 16 % 4, channel // 64
        rows.append(first // 2 + 2 * (second // 2) + 4 * (third // 2))
        columns.append(first % 2 + 2 * (second % 2) + 4 * (third % 2))
        colours.append(colour)
    return rows, columns, colours


def _write_up(up: torch.nn.Module, wanted: Tensor, *, repeats: int, bias: Tensor | None = None) -> None:
    """Give an up block the linear map ``wanted``; its shortcut repeats channels, which the weights take back."""
    _zero(up.conv)
    shortcut = torch.zeros_like(wanted)
    for output in range(wanted.shape[0]):
        shortcut[output, output // repeats] = 1
    up.conv.weight[:, :, 1, 1] = wanted - shortcut
    if bias is not None:
        up.conv.bias.copy_(bias)


def _zero(conv: torch.nn.Conv2d) -> None:
    conv.weight.zero_()
    if conv.bias is not None:
        conv.bias.zero_()


def _pixels(picture: NDArray[np.float32]) -> Tensor:
    """(H, W, 3) in 0…1 → (3, H, W) in −1…1."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1) * 2 - 1


def held_out(size: int = 256) -> Tensor:
    """(3, 3, size, size): the photographs that training never sees."""
    pictures = []
    for name in HELD_OUT:
        image = photo(name)
        side = min(image.size)
        box = ((image.width - side) // 2, (image.height - side) // 2)
        crop = image.crop((*box, box[0] + side, box[1] + side)).resize((size, size))
        pictures.append(_pixels(np.asarray(crop, np.float32) / 255))
    return torch.stack(pictures)


def psnr(ours: Tensor, truth: Tensor) -> float:
    """In dB, of pixels in −1…1."""
    return float(10 * torch.log10(4 / F.mse_loss(ours.clamp(-1, 1), truth)))


@torch.no_grad()
def bound(model: AutoencoderDC) -> list[float]:
    """PSNR of the round trip of each held-out photograph."""
    pictures = held_out()
    return [round(psnr(model.decode(model.encode(one[None]).latent).sample, one[None]), 2) for one in pictures]


def train_decoder(model: AutoencoderDC, checkpoint: Path, *, minutes: float, seed: int, noise: float = 0.25) -> None:
    """Train the decoder on true edits, with noise on the latents so that it learns to pass it by; resumable."""
    model.encoder.requires_grad_(False)
    parameters = list(model.decoder.parameters())
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.98), weight_decay=1e-4)
    step, spent = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimiser.load_state_dict(saved["optimiser"])
        step, spent = saved["step"], saved["spent"]
    rng, torch_rng = default_rng([seed, step]), torch.Generator().manual_seed(seed + step)
    samples, began, saved_at = endless(rng, 256), time.monotonic() - spent, time.monotonic()
    pool: list[Tensor] = []
    while (share := (time.monotonic() - began) / 60 / minutes) < 1:
        pool = [*pool[-180:], *(_pixels(next(samples).target) for _ in range(4))]
        crops = []
        for _ in range(24):
            picture = pool[rng.integers(len(pool))]
            y, x = (int(value) * SIDE for value in rng.integers(0, 24, 2))
            crops.append(picture[:, y : y + 64, x : x + 64])
        pixels = torch.stack(crops)
        latents = model.encode(pixels).latent
        level = torch.rand(len(latents), 1, 1, 1, generator=torch_rng) ** 2 * noise
        decoded = model.decode(latents + level * torch.randn(latents.shape, generator=torch_rng)).sample
        loss = F.mse_loss(decoded, pixels) + 0.02 * (decoded - pixels).abs().mean()
        for group in optimiser.param_groups:
            group["lr"] = (
                1e-3 * min(1, (step + 1) / 50) * (1 if share < 0.4 else 0.5 + 0.5 * np.cos(np.pi * (share - 0.4) / 0.6))
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        optimiser.step()
        optimiser.zero_grad()
        step += 1
        if step % 200 == 0:
            print(f"decoder step {step}, {share:.0%}, loss {loss.item():.5f}, held out {bound(model)} dB", flush=True)
        if time.monotonic() - saved_at > 60:
            saved_at = time.monotonic()
            states = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save({**states, "step": step, "spent": saved_at - began}, checkpoint)


def train(out: Path, *, minutes: float, seed: int) -> None:
    """Write the transform, train the decoder, save in the layout of the library."""
    torch.manual_seed(seed)
    model = build()
    gains = coefficient_gains()
    write_transform(model, gains)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, as written: {bound(model)} dB", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    torch.save({"gains": gains}, out / "gains.pt")
    if minutes > 0:
        train_decoder(model, out / "decoder.pt", minutes=minutes, seed=seed)
        print(f"after {minutes} minutes: {bound(model)} dB", flush=True)
    model.save_pretrained(out)


def main() -> None:
    """Train the autoencoder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    train(options.out, minutes=options.minutes, seed=options.seed)


if __name__ == "__main__":
    main()
