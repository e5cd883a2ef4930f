"""Relaxations: smooth stand-ins for the sign while training. All keep the sign of the output or move it to one half."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Identity(nn.Module):
    """Outputs as they are; the loss itself pulls them towards -1 and +1."""

    def forward(self, outputs: Tensor) -> Tensor:
        """Return ``outputs``."""
        return outputs

    def end_epoch(self) -> None:
        """Nothing changes over time."""


class Sigmoid(Identity):
    """1 / (1 + exp(-x)): the code's bit is the value above one half."""

    def forward(self, outputs: Tensor) -> Tensor:
        """Return values in (0, 1)."""
        return torch.sigmoid(outputs)


class Tanh(Identity):
    """tanh(beta x) with beta = start * sqrt(1 + growth * epoch), towards the sign (HashNet, Cao et al. 2017)."""

    epoch: Tensor

    def __init__(self, start: float = 1.0, growth: float = 0.0) -> None:
        super().__init__()
        self.start, self.growth = start, growth
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))

    @property
    def beta(self) -> float:
        """The present steepness."""
        return self.start * math.sqrt(1 + self.growth * int(self.epoch))

    def forward(self, outputs: Tensor) -> Tensor:
        """Return values in (-1, 1)."""
        return torch.tanh(self.beta * outputs)

    def end_epoch(self) -> None:
        """Become steeper."""
        self.epoch += 1
