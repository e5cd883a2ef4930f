"""DeepBit: compact binary descriptors without labels (Lin, Lu, Chen & Zhou, CVPR 2016)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample

from ....core.data.images import Images
from ....core.data.items import Items
from ....core.errors import InputError
from ....core.model import Arch
from ...losses.quantisation import quantisation_l2
from ..base import Batch, System

ANGLES = (-10.0, -5.0, 5.0, 10.0)  # degrees; the paper rotates by the first four multiples of five


class DeepBit(System):
    """DeepBit: outputs near their signs, every bit on for half the batch, and codes that a small rotation does not change.

    ``even`` and ``rotation`` weigh the second and third term. Evenness is measured on the outputs themselves: on
    thresholded ones, as in the paper, it has no gradient. Near rotations count more.
    """

    def __init__(
        self,
        arch: Arch,
        classes: int,  # noqa: ARG002  # every system takes the same four
        items: int,  # noqa: ARG002  # every system takes the same four
        seed: int,  # noqa: ARG002  # every system takes the same four
        *,
        even: float = 1.0,
        rotation: float = 0.1,
    ) -> None:
        super().__init__(even=float(even), rotation=float(rotation))
        if len(arch.input.shape) != 3:
            raise InputError(f"deepbit rotates images, and the network takes {arch.input.kind} inputs")
        self.networks: list[nn.Module] = []  # a list, so that it is no part of the system's own state

    def prepare(self, net: nn.Module, items: Items) -> None:
        """Keep the network, which sees every batch a second time.

        Raises:
            InputError: items that are not images.
        """
        if not isinstance(items, Images):
            raise InputError(f"deepbit rotates images, and the data are {items.noun}")
        self.networks = [net]

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        loss = quantisation_l2(outputs) + self.settings["even"] * torch.tanh(outputs).mean(0).square().mean()
        if not self.networks or not self.settings["rotation"]:
            return loss
        angles = outputs.new_tensor(ANGLES)[batch.index % len(ANGLES)]
        rotated = self.networks[0](rotate(batch.inputs, angles))
        near = torch.exp(-(angles / ANGLES[-1]).square())
        return loss + self.settings["rotation"] * (near[:, None] * (rotated - outputs).square()).mean()


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Return images (N, C, H, W), each rotated by its angle (N,) about its middle; what comes in from outside is 0."""
    count, channels, height, width = images.shape
    angle = degrees * (math.pi / 180)
    cos, sin, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
    rows = torch.stack([cos, -sin * height / width, zero, sin * width / height, cos, zero], 1).view(-1, 2, 3)
    grid = affine_grid(rows, [count, channels, height, width], align_corners=False)
    return grid_sample(images, grid, align_corners=False)
