"""What an edit does to colours, wherever they are in the picture: a table with one node for each of 13³ colours."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

TABLE_SIDE = 13  # nodes of the table along each channel
TABLE_CAUTION = 6.0  # pixels that a node must hold before it is believed
LEVELS = 256


class ColourMap(NamedTuple):
    """What becomes of each node's colour, (3, side, side, side), indexed blue, green, red; linear between nodes."""

    nodes: Tensor

    def __call__(self, colours: Tensor) -> Tensor:
        """(…, 3) in 0…1 → the same shape."""
        grid = (colours * 2 - 1).view(1, 1, 1, -1, 3)
        mapped = F.grid_sample(self.nodes[None], grid, mode="bilinear", padding_mode="border", align_corners=True)
        return mapped.view(3, -1).T.reshape(colours.shape)


class ColourMapOfBytes:
    """A `ColourMap` of many pixels in eight bits.

    Green and blue are interpolated ahead for each pair that there is, which leaves two rows of a table and one blend
    per pixel instead of eight and seven: a third of the time. Making the table takes as long as half a million pixels.
    """

    def __init__(self, colours: ColourMap) -> None:
        level = torch.arange(LEVELS) * ((TABLE_SIDE - 1) / (LEVELS - 1))
        shares = (1 - (level[:, None] - torch.arange(TABLE_SIDE)).abs()).clamp(min=0)  # of each node in each level
        by_blue = shares @ colours.nodes.permute(1, 2, 3, 0).reshape(TABLE_SIDE, -1)
        # One row more: a red of 255 reads behind its last node, with a weight of 0.
        self._rows = torch.zeros(LEVELS**2 * TABLE_SIDE + 1, 3)
        torch.matmul(
            shares, by_blue.view(LEVELS, TABLE_SIDE, -1), out=self._rows[:-1].view(LEVELS, LEVELS, 3 * TABLE_SIDE)
        )
        self._node = level.int()
        self._beyond_node = (level - self._node)[:, None].repeat(1, 3)

    def __call__(self, pixels: Tensor) -> Tensor:
        """(n, 3) uint8 → (n, 3) float32, what the map says of ``pixels / 255``."""
        red, green, blue = (pixels[:, channel].int() for channel in range(3))
        row = blue.mul_(LEVELS).add_(green).mul_(TABLE_SIDE).add_(self._node.index_select(0, red))
        mapped = self._rows.index_select(0, row)
        return mapped.lerp_(self._rows[1:].index_select(0, row), self._beyond_node.index_select(0, red))


def fit_colours(seen: Tensor, made: Tensor) -> ColourMap:
    """The colour map that best turns ``seen`` into ``made``, both (3, h, w) in 0…1: an affine map, and at each node
    what that misses nearby."""
    points, wanted = seen.flatten(1), made.flatten(1)
    inputs = torch.cat((points, torch.ones_like(points[:1])))
    gram = inputs @ inputs.T
    caution = 1e-3 * inputs.shape[1] * torch.eye(4)
    # Drawn towards the map that changes nothing, so that a picture of one colour has a map too.
    identity = torch.eye(3, 4)
    affine = torch.linalg.solve(gram + caution, inputs @ wanted.T + caution @ identity.T).T
    missed = wanted - affine @ inputs

    position = points.clamp(0, 1) * (TABLE_SIDE - 1)
    floor = position.floor().clamp(max=TABLE_SIDE - 2)
    fraction = position - floor
    weight = torch.zeros(TABLE_SIDE**3)
    total = torch.zeros(3, TABLE_SIDE**3)
    for corner in range(8):
        offset = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2 & 1])[:, None]
        share = torch.where(offset == 1, fraction, 1 - fraction).prod(0)
        red, green, blue = (floor + offset).long()
        node = (blue * TABLE_SIDE + green) * TABLE_SIDE + red
        weight += torch.bincount(node, share, TABLE_SIDE**3)
        total += torch.stack([torch.bincount(node, share * channel, TABLE_SIDE**3) for channel in missed])
    cube = torch.cat((total, weight[None])).view(4, 1, TABLE_SIDE, TABLE_SIDE, TABLE_SIDE)
    kernel = torch.tensor([0.2, 0.6, 0.2])
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = 3
        padding = [0, 0, 0]
        padding[axis] = 1
        cube = F.conv3d(cube, kernel.view(shape), padding=padding)
    corrections = cube[:3, 0] / (cube[3:, 0] + TABLE_CAUTION)
    side = torch.linspace(0, 1, TABLE_SIDE)
    blue, green, red = torch.meshgrid(side, side, side, indexing="ij")
    # Interpolation between nodes keeps an affine map as it is.
    straight = torch.einsum("oc,cijk->oijk", affine, torch.stack((red, green, blue, torch.ones_like(red))))
    return ColourMap(straight + corrections)
