"""Regularisers of real outputs: how far they are from the corners -1 and +1, how even and how independent the bits are."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus


def signs(outputs: Tensor) -> Tensor:
    """Return -1 or +1, where zero counts as +1 as in every code of ours."""
    return torch.where(outputs.detach() >= 0, 1.0, -1.0)


def quantisation_l2(outputs: Tensor) -> Tensor:
    """Return the mean square distance from the nearest corner, per bit (DPSH's regulariser)."""
    return (outputs - signs(outputs)).square().mean()


def quantisation_l1(outputs: Tensor) -> Tensor:
    """Return the mean of ||u| - 1| (DSH, Liu et al. 2016)."""
    return (outputs.abs() - 1).abs().mean()


def quantisation_cubic(outputs: Tensor) -> Tensor:
    """Return the mean of ||u| - 1|^3 (GreedyHash, Su et al. 2018)."""
    return (outputs.abs() - 1).abs().pow(3).mean()


def quantisation_log_cosh(outputs: Tensor) -> Tensor:
    """Return the mean of log cosh(|u| - 1) (DHN, Zhu et al. 2016), in a form that does not overflow."""
    distance = (outputs.abs() - 1).abs()
    return (distance + softplus(-2 * distance) - math.log(2)).mean()


def quantisation_cauchy(outputs: Tensor, gamma: float) -> Tensor:
    """Return the mean of log(1 + d(|u|, 1) / gamma) over items, with d = K / 2 (1 - cos) (DCH, Cao et al. 2018)."""
    size = outputs.abs()
    cosine = size.sum(1) / (size.norm(dim=1) * math.sqrt(outputs.shape[1])).clamp(min=1e-12)
    return torch.log1p(outputs.shape[1] / 2 * (1 - cosine).clamp(min=0) / gamma).mean()


def decorrelation(outputs: Tensor) -> Tensor:
    """Return the mean square of the entries of ``u'u / B - I`` (bits, bits): bits that are independent and of size one."""
    identity = torch.eye(outputs.shape[1], dtype=outputs.dtype, device=outputs.device)
    return (outputs.T @ outputs / len(outputs) - identity).square().mean()
