"""Error-preserving correction: the same fit with the smallest rank-1 terms (Phan et al. 2020, arXiv:2008.05441).

Minimise ``sum_r ||term r||^2`` subject to ``||tensor - cp_to_tensor(factors)|| <= delta``. A CP fit of a convolution kernel is
often a sum of huge terms that cancel; such factors cannot be fine-tuned and do not survive quantisation. Solved one
mode at a time: with the columns of the other modes at norm 1 the term norms are the column norms of this mode, which is
then the ridge solution ``Y Z (Z'Z + mu I)^-1`` whose ``mu`` makes the error exactly ``delta``.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import linalg, optimize

from ....core.errors import InputError
from .kruskal import Factors, balanced, gram, mttkrp, squared_error, term_norms

WORK = 5e11  # multiplications that a correction may take: large kernels get fewer sweeps
EIGEN = 12  # multiplications of an eigendecomposition over the cube of its size, about


def correct(tensor: np.ndarray, factors: Factors, delta: float, *, sweeps: int = 300, tol: float = 1e-4) -> Factors:
    """Return balanced factors with small terms whose distance to ``tensor`` is at most ``delta`` (absolute).

    They are zeros where even these are near enough, as for a tensor of zeros. It stops when a sweep lowers the sum of squared norms by less than ``tol`` of it, and at ``WORK`` multiplications.

    Raises:
        InputError: the factors given are further away than ``delta``.
    """
    tensor = np.ascontiguousarray(tensor, dtype=np.float64)
    scale = float(np.vdot(tensor, tensor))
    current = list(balanced(factors))
    distance = math.sqrt(squared_error(tensor, current, scale))
    if distance > delta * (1 + 1e-9) + 1e-12 * math.sqrt(scale):
        raise InputError(f"the correction may not exceed an error of {delta:.6g}, the fit given has {distance:.6g}")
    if delta**2 >= scale:
        return tuple(np.zeros_like(factor) for factor in current)
    before = float(np.sum(term_norms(current) ** 2))
    rank = factors[0].shape[1]
    each = tensor.ndim * (tensor.size * rank + EIGEN * rank**3)
    for _ in range(max(1, min(sweeps, int(WORK // each)))):
        for mode in range(tensor.ndim):
            _solve(tensor, current, mode, delta, scale)
        after = float(np.sum(term_norms(current) ** 2))
        if before - after <= tol * before:
            break
        before = after
    return balanced(current)


def _solve(tensor: np.ndarray, factors: list[np.ndarray], mode: int, delta: float, scale: float) -> None:
    """Put the ridge solution of one mode into ``factors``, the other modes normalised."""
    for other, factor in enumerate(factors):
        if other != mode:
            factors[other] = factor / np.maximum(np.linalg.norm(factor, axis=0), 1e-300)
    target = mttkrp(tensor, factors, mode)  # (I, R)
    values, vectors = linalg.eigh(gram(factors, skip=mode))
    values = np.maximum(values, 0.0)
    rotated = target @ vectors
    energy = np.sum(rotated**2, axis=0)
    mu = penalty(values, energy, scale, delta)
    factors[mode] = (rotated / (values + mu)) @ vectors.T


def penalty(values: np.ndarray, energy: np.ndarray, scale: float, delta: float) -> float:
    """Return the largest ``mu`` whose ridge solution has a squared error of at most ``delta ** 2``, below ``scale``.

    With eigenvalues ``l`` of Z'Z and ``g`` the energy of ``Y Z`` along its eigenvectors the squared error is
    ``scale - sum g (2 / (l + mu) - l / (l + mu)^2)``, which grows with ``mu``.
    """
    smallest = 1e-13 * max(float(values[-1]), 1e-300)

    def excess(exponent: float) -> float:
        shifted = values + math.exp(exponent)
        return scale - float(np.sum(energy * (2 / shifted - values / shifted**2))) - delta**2

    low, high = math.log(smallest), math.log(max(float(values[-1]), 1e-300)) + 2
    if excess(low) >= 0:
        return smallest
    while excess(high) < 0:
        high += 4
    root = optimize.brentq(excess, low, high, xtol=1e-10, rtol=1e-12)
    return math.exp(root) if excess(root) <= 0 else math.exp(root - 1e-9)
