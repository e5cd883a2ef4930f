"""Discrete cyclic coordinate descent: codes of -1 and +1 that a linear map can read, solved one bit after the other."""

from __future__ import annotations

import torch
from torch import Tensor

SWEEPS = 10


def ridge(codes: Tensor, targets: Tensor, strength: float) -> Tensor:
    """Return W (bits, C) that minimises ``|targets - codes W|^2 + strength |W|^2`` for codes (N, bits), targets (N, C)."""
    squares = codes.T @ codes + strength * torch.eye(codes.shape[1], dtype=codes.dtype, device=codes.device)
    return torch.linalg.solve(squares, codes.T @ targets)


def cyclic_descent(codes: Tensor, linear: Tensor, weights: Tensor, *, sweeps: int = SWEEPS) -> Tensor:
    """Return codes (N, bits) of -1 and +1 that lower ``|B W|^2 - 2 tr(B' linear)``, from ``codes``, by cyclic descent over bits.

    ``weights`` are W (bits, C), ``linear`` is (N, bits). A bit k is ``sign(linear_k - B' W' w_k)`` with B', W' without it
    (Shen et al. 2015, CVPR; DSDH and UH-BDNN solve the same problem). No sweep raises the objective; it ends when none
    changes a bit.
    """
    codes, gram = codes.clone(), weights @ weights.T
    for _ in range(sweeps):
        before = codes.clone()
        for bit in range(codes.shape[1]):
            others = codes @ gram[:, bit] - codes[:, bit] * gram[bit, bit]
            codes[:, bit] = torch.where(linear[:, bit] - others >= 0, 1.0, -1.0)
        if torch.equal(before, codes):
            break
    return codes
