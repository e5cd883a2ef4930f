"""Kruskal form: a tensor (I_1, ..., I_N) as a sum of rank-1 terms, factors (I_n, R) with one column of each per term.

tensorly's product of an unfolding with a Khatri-Rao product (MTTKRP) forms the latter for every mode; for a mode of 3 it
has a row for every pair of channels: 2.9 GB for a kernel of 512x512x3x3 and 200 terms, where contractions take 7 MB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .algebra import cp_to_tensor, khatri_rao, unfold

Factors = tuple[np.ndarray, ...]  # each (I_n, R), float64


def gram(factors: Sequence[np.ndarray], skip: int | None = None) -> np.ndarray:
    """Return (R, R), the element-wise product of the factors' Gram matrices, without that of mode ``skip``."""
    rank = factors[0].shape[1]
    product = np.ones((rank, rank))
    for mode, factor in enumerate(factors):
        if mode != skip:
            product *= factor.T @ factor
    return product


def mttkrps(tensor: np.ndarray, factors: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return, for every mode, the tensor times the Khatri-Rao product of the other factors, (I_n, R).

    The largest mode is contracted first and once for all others: two large products in all, not one per mode.
    """
    big = int(np.argmax(tensor.shape))
    partial = contracted(tensor, factors[big], big)
    rest = [factor for mode, factor in enumerate(factors) if mode != big]
    small = [remaining(partial, rest, mode) for mode in range(len(rest))]
    return [*small[:big], mttkrp(tensor, factors, big), *small[big:]]


def mttkrp(tensor: np.ndarray, factors: Sequence[np.ndarray], mode: int) -> np.ndarray:
    """Return the tensor times the Khatri-Rao product of all factors but that of ``mode``, (I_mode, R).

    Another mode that is larger is contracted first: for a mode of 3 of a large kernel the Khatri-Rao product of the
    others would have a row for every pair of channels.
    """
    others = [other for other in range(tensor.ndim) if other != mode]
    big = max(others, key=lambda other: tensor.shape[other])
    if tensor.shape[mode] >= tensor.shape[big]:
        return unfold(tensor, mode) @ khatri_rao(factors, skip_matrix=mode)
    rest = [factor for other, factor in enumerate(factors) if other != big]
    return remaining(contracted(tensor, factors[big], big), rest, mode - (mode > big))


def contracted(tensor: np.ndarray, factor: np.ndarray, mode: int) -> np.ndarray:
    """Return the tensor with ``mode`` replaced by the terms, which come last: (..., R)."""
    sizes = [size for other, size in enumerate(tensor.shape) if other != mode]
    return (np.moveaxis(tensor, mode, -1).reshape(-1, len(factor)) @ factor).reshape(*sizes, -1)


def remaining(partial: np.ndarray, factors: Sequence[np.ndarray], mode: int) -> np.ndarray:
    """Return a contracted tensor (..., R) times the other factors, term by term: (I_mode, R)."""
    letters = "abcdefg"[: len(factors)]
    others = [other for other in range(len(factors)) if other != mode]
    spec = ",".join([f"{letters}r", *(f"{letters[other]}r" for other in others)]) + f"->{letters[mode]}r"
    return np.einsum(spec, partial, *(factors[other] for other in others), optimize=True)


def squared_error(tensor: np.ndarray, factors: Sequence[np.ndarray], scale: float) -> float:
    """Return the squared error of the fit; exact to about 1e-15 of ``scale``, the tensor's squared norm."""
    inner = float(np.vdot(mttkrp(tensor, factors, tensor.ndim - 1), factors[-1]))
    return max(scale - 2 * inner + float(gram(factors).sum()), 0.0)


def term_norms(factors: Sequence[np.ndarray]) -> np.ndarray:
    """Return the Frobenius norm of each rank-1 term, (R,)."""
    return np.prod([np.linalg.norm(factor, axis=0) for factor in factors], axis=0)


def balanced(factors: Sequence[np.ndarray]) -> Factors:
    """Return the same terms with columns of equal norm in all modes, the largest term first."""
    norms = [np.linalg.norm(factor, axis=0) for factor in factors]
    sizes = np.prod(norms, axis=0)
    side = sizes ** (1 / len(factors))
    order = np.argsort(-sizes, kind="stable")
    scaled = (factor * (side / np.where(norm > 0, norm, 1.0)) for factor, norm in zip(factors, norms, strict=True))
    return tuple(np.ascontiguousarray(factor[:, order]) for factor in scaled)


def error(tensor: np.ndarray, factors: Sequence[np.ndarray]) -> float:
    """Return the relative error ``||tensor - cp_to_tensor(factors)|| / ||tensor||``, 0 for two zeros."""
    norm = float(np.linalg.norm(tensor))
    rest = float(np.linalg.norm(tensor - cp_to_tensor((None, factors))))
    return rest / norm if norm > 0 else (0.0 if rest == 0 else math.inf)


def degeneracy(tensor: np.ndarray, factors: Sequence[np.ndarray]) -> float:
    """Return the norm of the largest term over the tensor's: above about 10, terms cancel and training breaks."""
    norm = float(np.linalg.norm(tensor))
    return float(term_norms(factors).max(initial=0.0)) / norm if norm > 0 else 0.0


def sensitivity(factors: Sequence[np.ndarray]) -> float:
    """Return the expected squared error when all factor entries get independent noise of variance 1, to first order.

    Phan et al. 2020 (arXiv:2008.05441): for modes I, J, K it is ``K tr(A'A o B'B) + I tr(B'B o C'C) + J tr(A'A o C'C)``.
    """
    squares = [np.sum(factor**2, axis=0) for factor in factors]
    return float(
        sum(
            len(factor) * np.prod([square for other, square in enumerate(squares) if other != mode], axis=0).sum()
            for mode, factor in enumerate(factors)
        )
    )
