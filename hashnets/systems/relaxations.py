"""Relaxations: smooth stand-ins for the sign while training. All keep the sign of the output or move it to one half."""

from __future__ import annotations

import math
from typing import Any

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


class StraightThrough(Identity):
    """The sign itself, -1 or +1; gradients pass as if it were the identity (GreedyHash, Su et al. 2018)."""

    def forward(self, outputs: Tensor) -> Tensor:
        """Return values of -1 and +1."""
        return outputs + (torch.where(outputs >= 0, 1.0, -1.0) - outputs).detach()


class BiHalf(Identity):
    """For each bit the upper half of the batch is +1 and the lower half -1 (Li & van Gemert 2021, arXiv:2012.12334).

    Gradients pass to the outputs, and ``gamma (u - b) / numel`` is added to them, which draws the outputs to the codes.
    """

    def __init__(self, gamma: float = 6.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, outputs: Tensor) -> Tensor:
        """Return values of -1 and +1, half of each per column; of an odd number the middle one is +1."""
        return _Halves.apply(outputs, self.gamma)


class _Halves(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, outputs: Tensor, gamma: float) -> Tensor:
        order = outputs.argsort(dim=0, stable=True)
        halves = torch.where(torch.arange(len(outputs), device=outputs.device) < len(outputs) // 2, -1.0, 1.0)
        codes = torch.empty_like(outputs).scatter_(0, order, halves[:, None].expand_as(outputs).to(outputs))
        ctx.save_for_backward(outputs, codes)
        ctx.gamma = gamma
        return codes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        outputs, codes = ctx.saved_tensors
        return gradients[0] + ctx.gamma * (outputs - codes) / outputs.numel(), None
