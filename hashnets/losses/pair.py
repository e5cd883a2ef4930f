"""Pair losses: similar items should have similar outputs."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


def pair_likelihood(theta: Tensor, similar: Tensor) -> Tensor:
    """Return the mean of log(1 + exp(theta)) - s theta, the negative log-likelihood of s ~ sigmoid(theta).

    ``theta`` (B, N) is half the inner product of two outputs; ``similar`` (B, N) is 0 or 1 (DPSH, arXiv:1511.03855).
    """
    return (softplus(theta) - theta * similar).mean()
