"""What is measured: models, edits on them, and over what cost is seen to grow."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from benchmarks.configurations import MID_CONFIG
from benchmarks.engine.device_model import DeviceModel
from benchmarks.engine.edits import Edit
from benchmarks.engine.models import BundledModel, FolderModel, Model
from benchmarks.engine.random_model import RandomModel

from hidream_edit.engine.memory.activations import TextSizes
from hidream_edit.engine.memory.sizes import REAL_CONFIG, REAL_TEXTS
from hidream_edit.engine.model.config import TransformerConfig


@dataclass(frozen=True, slots=True)
class Sweep:
    """Edits that differ in one thing, given as what stands on the axis → edit."""

    title: str
    axis: str
    points: tuple[tuple[float, Edit], ...]
    counts_steps: bool = True  # steps per second of single steps; otherwise seconds of whole edits


@dataclass(frozen=True, slots=True)
class Case:
    """One model on one device."""

    name: str
    title: str
    model: Model
    dtype: torch.dtype
    edits: tuple[Edit, ...]
    rounds: int
    instructions: tuple[str, ...]
    sweeps: tuple[Sweep, ...] = ()
    needs_gpu: bool = False
    # Contestants that do not fit the device together are loaded one after the other.
    one_at_a_time: bool = False
    # In bfloat16 both ways are compared with float32, over fewer steps.
    judged_edit: Edit | None = None
    judged_gigabytes: float = 0.0  # what the run in float32 needs of a GPU

    def shortened(self) -> Case:
        """The same in a third of the time: one round in place of three, and no sweeps."""
        return replace(self, rounds=max(1, self.rounds // 3), sweeps=())


BRANCHES = ((1, 1.0, 1.0), (2, 3.5, 1.0), (3, 3.5, 2.0))  # needed branches, text guidance, image guidance
# More than rounds, so that no text is known from the round before.
ANY_INSTRUCTIONS = (
    "make it night", "make it a pencil sketch", "turn it into snow", "a warmer light",
    "add a red scarf", "make it rain", "a beach at sunset", "in the style of a comic",
)  # fmt: skip


def _over_branches(side: int) -> Sweep:
    return Sweep(
        f"branches that the guidance needs, {side}×{side}",
        "branches",
        tuple((float(count), Edit(f"{count} branches", side, 1, text, image)) for count, text, image in BRANCHES),
    )


def _over_sizes(*sides: int) -> Sweep:
    points = tuple((float(side), Edit(f"{side}×{side}", side, 1, 1.0, 1.0)) for side in sides)
    return Sweep("side of the picture, 1 branch", "pixels", points)


def _over_steps(side: int, *counts: int) -> Sweep:
    points = tuple((float(count), Edit(f"{count} steps", side, count, 1.0, 1.0)) for count in counts)
    return Sweep(f"steps of an edit, {side}×{side}, 1 branch", "steps", points, counts_steps=False)


MINI = Case(
    "mini",
    "mini model, float32",
    BundledModel(),
    torch.float32,
    edits=(
        Edit("256×256, its defaults: 4 steps, 1 branch", 256, 4, 1.0, 1.0, normed_guidance=False),
        Edit("256×256, the hosted page's guidance, 8 steps", 256, 8, 3.5, 2.0),
    ),
    rounds=9,
    instructions=(
        "invert every color", "sepia please", "give me a brighter version", "give me a darker version",
        "up the contrast", "use sepia colouring", "up the brightness", "colour inversion of the photo",
        "bring the brightness down", "the image needs more contrast", "render this in sepia tones",
        "show it as a photographic negative", "strengthen the contrast", "weaken the contrast",
        "the image needs less contrast", "bring the contrast down", "the picture is too bright, make it darker",
    ),
    sweeps=(_over_branches(256), _over_sizes(64, 128, 192, 256), _over_steps(256, 1, 2, 4, 8, 16, 28, 50)),
)  # fmt: skip

MID = Case(
    "mid",
    "mid-size random model, float32",
    FolderModel(
        RandomModel(
            MID_CONFIG,
            text_width=256,
            autoencoder_widths=(16, 32, 64, 64),
            autoencoder_groups=16,
            weight_std=0.04,
        )
    ),
    torch.float32,
    edits=(Edit("768×768, 3 steps, 3 branches", 768, 3, 3.5, 2.0),),
    rounds=2,
    instructions=ANY_INSTRUCTIONS,
    sweeps=(_over_branches(768), _over_sizes(256, 512, 768)),
)

REAL = Case(
    "real",
    "real size, random weights, bfloat16",
    DeviceModel(REAL_CONFIG, REAL_TEXTS),
    torch.bfloat16,
    edits=(
        Edit("768×768, 28 steps, 3 branches", 768, 28, 3.5, 2.0),
        Edit("768×768, 50 steps, 3 branches", 768, 50, 3.5, 2.0),
    ),
    rounds=2,
    instructions=ANY_INSTRUCTIONS,
    sweeps=(_over_branches(768), _over_sizes(512, 768)),
    needs_gpu=True,
    one_at_a_time=True,
    judged_edit=Edit("768×768, 4 steps, 3 branches", 768, 4, 3.5, 2.0),
    judged_gigabytes=115,  # 68 of transformer, 27 of encoders, which stay in bfloat16, and room to work
)

# In seconds, on any machine: to try the command out, and for its tests.
_TINY = TransformerConfig(
    in_channels=16,
    out_channels=16,
    patch_size=2,
    num_layers=1,
    num_single_layers=2,
    num_attention_heads=2,
    attention_head_dim=32,
    caption_channels=(64, 64),
    text_emb_dim=128,
    num_routed_experts=4,
    num_activated_experts=2,
    axes_dims_rope=(16, 8, 8),
    max_resolution=(8, 16),
    llama_layers=(0, 1, 1),
)
_TINY_EDIT = Edit("64×64, 4 steps, 3 branches", 64, 4, 3.5, 2.0)
TINY = Case(
    "tiny",
    "tiny random model, float32",
    FolderModel(RandomModel(_TINY, 32, (8, 8, 16, 16), 4, weight_std=0.1)),
    torch.float32,
    edits=(_TINY_EDIT,),
    rounds=2,
    instructions=ANY_INSTRUCTIONS,
    sweeps=(_over_branches(64), _over_sizes(32, 64), _over_steps(64, 1, 4)),
)
TINY_ON_DEVICE = Case(
    "tiny-on-device",
    "tiny random model made on the device, bfloat16",
    DeviceModel(
        _TINY,
        {
            name: TextSizes(layers=2, width=64, hidden=128, heads=8)
            for name in ("text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4")
        },
    ),
    torch.bfloat16,
    edits=(_TINY_EDIT,),
    rounds=1,
    instructions=ANY_INSTRUCTIONS,
    one_at_a_time=True,
    judged_edit=_TINY_EDIT,
)

CASES = {case.name: case for case in (MINI, MID, REAL, TINY, TINY_ON_DEVICE)}
STANDARD = ("mini", "mid", "real")
