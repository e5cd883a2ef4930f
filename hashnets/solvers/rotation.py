"""Projections and rotations of features: principal axes, random rotations, and ITQ."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 50


def principal_axes(features: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the ``count`` principal axes (D, count), the largest first, and the mean (D,) of features (N, D).

    Raises:
        ValueError: fewer features than axes.
    """
    if features.shape[1] < count:
        raise ValueError(f"{features.shape[1]} features have no {count} principal axes")
    mean = features.mean(0)
    centred = (features - mean).double()
    axes = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :count]
    return axes.to(features), mean


def random_rotation(size: int, seed: int) -> Tensor:
    """Return an orthogonal matrix (size, size), uniformly distributed."""
    generator = torch.Generator().manual_seed(seed)
    square, upper = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    return (square * torch.where(upper.diagonal() < 0, -1.0, 1.0)).float()


def iterative_quantization(values: Tensor, seed: int, *, rounds: int = ROUNDS) -> Tensor:
    """Return the rotation R (K, K) that brings ``values R`` nearest to its signs, from centred values (N, K).

    ITQ (Gong, Lazebnik, Gordo & Perronnin 2013, TPAMI): codes by sign, then the rotation by Procrustes; no round raises
    ``|B - V R|``.
    """
    rotation = random_rotation(values.shape[1], seed).to(values)
    for _ in range(rounds):
        codes = torch.where(values @ rotation >= 0, 1.0, -1.0)
        left, _, right = torch.linalg.svd(values.T @ codes)
        rotation = left @ right
    return rotation
