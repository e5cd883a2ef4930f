"""Pair losses: similar items should have similar outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ...core.data.labels import relevance

BLOCK = 2048  # rows of the bank at once: what is between products stays in the cache


def pair_likelihood(
    outputs: Tensor, labels: Tensor, others: Tensor, other_labels: Tensor, *, balance: bool = False
) -> Tensor:
    """Return the mean over pairs of log(1 + exp(theta)) - s theta, the negative log-likelihood of s ~ sigmoid(theta).

    theta is half the inner product of ``outputs`` (B, K) and ``others`` (N, K), s tells relevant pairs, those with equal
    classes or with a label in common (DPSH, arXiv:1511.03855); the gradient flows through ``outputs`` only. With ``balance`` similar and dissimilar pairs as two
    groups have equal weight (HashNet, arXiv:1702.00758): where one pair in ten is similar, random codes would otherwise
    first shrink to nothing.
    """
    return _PairLikelihood.apply(outputs, labels, others, other_labels, balance)


class _PairLikelihood(torch.autograd.Function):
    """Loss and gradient in one walk over the bank, so that nothing of size B x N is ever kept."""

    @staticmethod
    def forward(
        ctx: Any, outputs: Tensor, labels: Tensor, others: Tensor, other_labels: Tensor, balance: bool
    ) -> Tensor:  # autograd takes no keywords
        alike, apart = _weights(labels, other_labels, balance=balance)
        loss, gradient = outputs.new_zeros(()), torch.zeros_like(outputs)
        for start in range(0, len(others), BLOCK):
            block = others[start : start + BLOCK]
            same = relevance(labels, other_labels[start : start + BLOCK])
            # softplus(theta) - theta = softplus(-theta), so similar pairs only turn the sign
            theta = 0.5 * outputs @ block.T * torch.where(same, -1.0, 1.0)
            loss += (softplus(theta) * torch.where(same, alike, apart)).sum()
            gradient.addmm_(torch.sigmoid(theta) * torch.where(same, -alike, apart), block, alpha=0.5)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradients[0], None, None, None, None


def _weights(labels: Tensor, others: Tensor, *, balance: bool) -> tuple[float, float]:
    """Return the weight of one similar and of one dissimilar pair; all weights add up to 1."""
    pairs, alike = len(labels) * len(others), _relevant_pairs(labels, others)
    if not balance or alike in (0, pairs):
        return 1 / pairs, 1 / pairs
    return 0.5 / alike, 0.5 / (pairs - alike)


def _relevant_pairs(labels: Tensor, others: Tensor) -> int:
    if labels.ndim == 1:
        classes = 1 + int(max(labels.max(), others.max()))
        return int((torch.bincount(labels, minlength=classes) * torch.bincount(others, minlength=classes)).sum())
    return sum(int(relevance(labels, block).sum()) for block in others.split(BLOCK))
