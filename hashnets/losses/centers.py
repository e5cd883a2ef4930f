"""Hash centres: a code for every class that lies far from those of the others, and losses that draw outputs to it."""

from __future__ import annotations

import numpy as np
import torch
from scipy.linalg import hadamard
from torch import Tensor

DRAWS = 200


def hash_centers(classes: int, bits: int, seed: int) -> Tensor:
    """Return centres (classes, bits) of -1 and +1, half of the bits apart where a Hadamard matrix has enough rows.

    CSQ (Yuan et al. 2020, arXiv:1908.00347): rows of a Hadamard matrix and their negatives; beyond that, and for lengths
    that are no power of two, balanced random rows, each the farthest from those before among ``DRAWS``.
    """
    if bits & (bits - 1) == 0 and classes <= 2 * bits:
        rows = hadamard(bits)
        return torch.from_numpy(np.concatenate([rows, -rows])[:classes]).float()
    generator = np.random.default_rng(seed)
    rows = _balanced(generator, 1, bits)
    while len(rows) < classes:
        drawn = _balanced(generator, DRAWS, bits)
        nearest = (drawn @ rows.T).max(axis=1)  # the larger the inner product, the nearer
        rows = np.concatenate([rows, drawn[[int(nearest.argmin())]]])
    return torch.from_numpy(rows).float()


def _balanced(generator: np.random.Generator, count: int, bits: int) -> np.ndarray:
    row = np.where(np.arange(bits) < bits // 2, 1, -1)
    return generator.permuted(np.tile(row, (count, 1)), axis=1)


def targets(centers: Tensor, labels: Tensor, ties: Tensor) -> Tensor:
    """Return the centre (B, bits) of each item's class, or the sign of the sum of the centres of its classes.

    Where the sum is zero, also for items without any class, the bits are those of ``ties`` (bits,).
    """
    if labels.ndim == 1:
        return centers[labels]
    total = labels.to(centers) @ centers
    return torch.where(total == 0, ties, total.sign())
