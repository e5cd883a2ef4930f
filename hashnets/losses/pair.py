"""Pair losses: similar items should have similar outputs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus


def pair_likelihood(theta: Tensor, similar: Tensor, *, balance: bool = False) -> Tensor:
    """Return the mean of log(1 + exp(theta)) - s theta, the negative log-likelihood of s ~ sigmoid(theta).

    ``theta`` (B, N) is half the inner product of two outputs, ``similar`` (B, N) is s as a bool (DPSH,
    arXiv:1511.03855). With ``balance`` similar and dissimilar pairs as two groups have equal weight (HashNet,
    arXiv:1702.00758): where one pair in ten is similar, random codes would otherwise first shrink to nothing.
    """
    losses = softplus(theta) - torch.where(similar, theta, 0.0)
    if not balance:
        return losses.mean()
    alike = similar.count_nonzero()
    if alike == 0 or alike == similar.numel():
        return losses.mean()
    weights = torch.where(similar, 0.5 / alike, 0.5 / (similar.numel() - alike))
    return (losses * weights).sum()
