"""Losses over all pairs of different items of one batch; gradients reach both items of a pair."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

from ...core.data.labels import relevance

NEAREST = 1e-4  # distance below which 1 / d is cut off, where the Cauchy loss of a dissimilar pair has a pole


def pair_mean(losses: Tensor, similar: Tensor, *, balance: bool = False) -> Tensor:
    """Return the mean of ``losses`` (B, B) over pairs of different items, whose similarity is bool (B, B).

    With ``balance``, similar and dissimilar pairs weigh one half each, wherever there are both.
    """
    others = ~torch.eye(len(losses), dtype=torch.bool, device=losses.device)
    if len(losses) < 2:
        return losses.sum() * 0
    groups = [losses[similar & others], losses[~similar & others]]
    if balance and all(len(group) for group in groups):
        return sum(group.mean() for group in groups) / 2  # type: ignore[return-value]  # a sum of tensors
    return torch.cat(groups).mean()


def similarity(labels: Tensor) -> Tensor:
    """Return bool (B, B): which items of a batch are relevant to each other."""
    return relevance(labels, labels)


def pair_entropy(codes: Tensor, labels: Tensor, *, scale: float = 0.5, balance: bool = False) -> Tensor:
    """Return the mean of log(1 + exp(theta)) - s theta with theta = ``scale`` times the inner product of ``codes`` (B, K).

    DHN (Zhu et al. 2016) takes scale 1/2, HashNet (arXiv:1702.00758) a scale that falls with the length of the code.
    """
    similar = similarity(labels)
    theta = scale * codes @ codes.T
    return pair_mean(softplus(torch.where(similar, -theta, theta)), similar, balance=balance)


def contrastive(codes: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Return the mean of ``d^2 / 2`` for similar and ``max(margin - d^2, 0) / 2`` for other pairs (DSH, Liu et al. 2016).

    ``d^2`` is the squared distance of two rows of ``codes`` (B, K).
    """
    similar, squares = similarity(labels), squared_distances(codes)
    return pair_mean(torch.where(similar, squares, (margin - squares).clamp(min=0)) / 2, similar)


def cauchy(codes: Tensor, labels: Tensor, gamma: float, *, balance: bool = True) -> Tensor:
    """Return the mean of ``s log(1 + d / gamma) + (1 - s) log(1 + gamma / d)`` (DCH, Cao et al. 2018).

    ``d = K / 2 (1 - cos)`` is the Hamming distance of ``codes`` (B, K) where their values are -1 and +1. In this form
    the loss is finite for similar items at distance 0.
    """
    similar, unit = similarity(labels), normalize(codes)
    distance = codes.shape[1] / 2 * (1 - unit @ unit.T).clamp(min=0)
    near, far = torch.log1p(distance / gamma), torch.log1p(gamma / distance.clamp(min=NEAREST))
    return pair_mean(torch.where(similar, near, far), similar, balance=balance)


def squared_distances(codes: Tensor) -> Tensor:
    """Return the squared Euclidean distances (B, B) of the rows of ``codes`` (B, K)."""
    norms = codes.square().sum(1)
    return (norms[:, None] + norms[None, :] - 2 * codes @ codes.T).clamp(min=0)
