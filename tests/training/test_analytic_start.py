"""The mini model before its first step of training: it already encodes, decodes, copies and denoises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from torch import Tensor
from training.autoencoder import CHANNELS, LATENT_SCALE, LATENT_STD
from training.edits import CODE_SIZE, Edit, code
from training.export import in_eight_bits
from training.train import Latents, widened
from training.transformer import CONFIG, Pinned, Transformer, build

from hidream_edit.engine.model.transformer import ForwardInputs
from training import autoencoder

GRID = 32  # latent pixels along a side


@pytest.fixture(scope="module")
def gains() -> Tensor:
    return autoencoder.coefficient_gains(count=12)


@pytest.fixture(scope="module")
def built() -> tuple[Transformer, Pinned]:
    return build()


def latents_like(gains: Tensor, seed: int) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    deviations = LATENT_SCALE * LATENT_STD * gains[0] / gains
    return torch.randn(1, CHANNELS, GRID, GRID, generator=draw) * deviations[None, :, None, None]


@torch.inference_mode()
def picture_of(model: Transformer, noisy: Tensor, source: Tensor, time: float, pooled: Tensor) -> Tensor:
    """The latents of the picture, which the output is with its sign turned twice: velocity = noise − picture."""
    text = model.project_text(pooled[:, None].expand(-1, 32, -1), pooled[None, :, None].expand(4, -1, 32, -1))
    canvas, timesteps = torch.cat((noisy, source), -1), torch.tensor([time * 1000])
    return model(ForwardInputs(canvas, timesteps, text, pooled))[..., :GRID]


def pooled_of(*edits: Edit) -> Tensor:
    return torch.from_numpy(code(edits))[None]


def error(ours: Tensor, truth: Tensor) -> float:
    return float((ours - truth).norm() / truth.norm())


@pytest.mark.parametrize("time", [0.999, 0.7, 0.3, 0.0])
def test_with_words_it_returns_the_source_whatever_the_state(
    built: tuple[Transformer, Pinned], gains: Tensor, time: float
) -> None:
    source, other = latents_like(gains, 1), latents_like(gains, 2)
    for state in (other, torch.randn(other.shape, generator=torch.Generator().manual_seed(3))):
        for pooled in (pooled_of(), pooled_of(Edit("night")), pooled_of(Edit("warm"), Edit("vignette"))):
            assert error(picture_of(built[0], state, source, time, pooled), source) < 0.06


@pytest.mark.parametrize(("time", "limit"), [(0.9, 0.4), (0.5, 0.06), (0.1, 0.06), (0.01, 0.06)])
def test_without_words_it_tells_what_the_state_shows(
    built: tuple[Transformer, Pinned], gains: Tensor, time: float, limit: float
) -> None:
    source, shown = latents_like(gains, 1), latents_like(gains, 2)
    noise = torch.randn(shown.shape, generator=torch.Generator().manual_seed(3))
    ours = picture_of(built[0], (1 - time) * shown + time * noise, source, time, torch.zeros(1, CODE_SIZE))
    assert error(ours, shown) < limit
    assert error(ours, source) > 1


def test_pinned_weights_survive_an_optimiser() -> None:
    model, pinned = build()
    restore = pinned.attach(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=0.1, weight_decay=0.1)
    for parameter in trained:
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    restore()
    after = model.state_dict()
    reader = "single_stream_blocks.0.block.ff_i.shared_experts.w1.weight"
    assert torch.equal(after[reader][:, : CHANNELS * 4], before[reader][:, : CHANNELS * 4])
    assert not torch.equal(after[reader][:, CHANNELS * 4 :], before[reader][:, CHANNELS * 4 :])
    assert torch.equal(after["final_layer.adaLN_modulation.1.weight"], before["final_layer.adaLN_modulation.1.weight"])


def test_the_encoder_is_the_cosine_transform_and_the_decoder_takes_it_back(gains: Tensor) -> None:
    torch.manual_seed(0)
    model = autoencoder.build()
    autoencoder.write_transform(model, gains)
    picture = np.clip(default_rng(0).random((64, 64, 3)), 0, 1).astype(np.float32)
    smooth = np.clip(np.add.outer(np.linspace(0, 0.5, 64), np.linspace(0, 0.5, 64)), 0, 1)[..., None].repeat(3, -1)
    with torch.inference_mode():
        pixels = torch.from_numpy(picture).permute(2, 0, 1)[None] * 2 - 1
        latents = model.encode(pixels).latent * model.config.scaling_factor
        assert torch.allclose(latents, Latents(gains, torch.device("cpu"))([picture]), atol=0.05, rtol=1e-3)
        flat = torch.from_numpy(smooth.astype(np.float32)).permute(2, 0, 1)[None] * 2 - 1
        assert autoencoder.psnr(model.decode(model.encode(flat).latent).sample, flat) > 35


def test_eight_bits_cost_little(built: tuple[Transformer, Pinned]) -> None:
    weights = built[0].state_dict()
    stored = in_eight_bits(weights)
    assert sum(tensor.nbytes for tensor in stored.values()) < 0.33 * sum(tensor.nbytes for tensor in weights.values())
    back = widened(stored)
    assert back.keys() == weights.keys()
    Transformer(CONFIG).load_state_dict(back)
    assert all(error(back[name], tensor) < 0.01 for name, tensor in weights.items() if tensor.norm() > 0)
