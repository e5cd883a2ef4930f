"""Quantisation losses: how far outputs are from the corners -1 and +1."""

from __future__ import annotations

import torch
from torch import Tensor


def signs(outputs: Tensor) -> Tensor:
    """Return -1 or +1, where zero counts as +1 as in every code of ours."""
    return torch.where(outputs.detach() >= 0, 1.0, -1.0)


def quantisation_l2(outputs: Tensor) -> Tensor:
    """Return the mean square distance from the nearest corner, per bit (DPSH's regulariser)."""
    return (outputs - signs(outputs)).square().mean()


def quantisation_l1(outputs: Tensor) -> Tensor:
    """Return the mean of ||u| - 1| (DSH, Liu et al. 2016)."""
    return (outputs.abs() - 1).abs().mean()
