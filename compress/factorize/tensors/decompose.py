"""From one group's kernel to the weights of the chain of layers that takes its place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import cpd, epc, whiten
from .algebra import cp_to_tensor, mode_dot
from .kruskal import Factors, balanced, degeneracy, error
from .tucker import tucker2


@dataclass(frozen=True)
class Method:
    """How CP is fitted: by which solver, with how many starts and sweeps, with or without correction of the norms."""

    fit: str = "nls"
    epc: bool = True
    slack: float = 0.01  # how much error the correction may add, as a share of it
    starts: int = cpd.STARTS
    sweeps: int = 100


@dataclass(frozen=True)
class Decomposed:
    """Weights of the chain in order, the kernel they make, and how good the fit is."""

    weights: tuple[np.ndarray, ...]
    kernel: np.ndarray
    error: float  # relative, of the weights
    degeneracy: float


def decompose(
    kernel: np.ndarray,
    form: str,
    ranks: tuple[int, ...],
    method: Method,
    covariance: np.ndarray | None = None,
    *,
    seed: int = 0,
) -> Decomposed:
    """Return the chain of ``form`` for a kernel (T, S, kh, kw); with ``covariance`` fitted to the responses."""
    if form == "tucker2":
        return _tucker2(kernel, ranks, covariance)
    tensor = modes_of(kernel, form)
    factors = cp_factors(tensor, ranks[0], method, covariance, seed)
    remade = cp_to_tensor((None, factors)).reshape(kernel.shape)
    first, last = factors[1].T, factors[0]
    weights = (first, *(factor.T for factor in factors[2:]), last)
    return Decomposed(weights, remade, error(tensor, factors), degeneracy(tensor, factors))


def modes_of(kernel: np.ndarray, form: str) -> np.ndarray:
    """Return a kernel (T, S, kh, kw) with the modes that a CP form takes apart."""
    return kernel if form == "cp4" else kernel.reshape(*kernel.shape[:2], -1)


def cp_factors(tensor: np.ndarray, rank: int, method: Method, covariance: np.ndarray | None, seed: int) -> Factors:
    """Return CP factors of a kernel (T, S, ...), norms corrected and, with ``covariance``, refined under it."""
    if covariance is None:
        return _fitted(tensor, rank, method, seed)
    half, inverse = whiten.roots(whiten.channel_covariance(covariance, tensor.shape[1]))
    whitened = _fitted(mode_dot(tensor, half, 1, transpose=True), rank, method, seed)
    plain = balanced((whitened[0], inverse @ whitened[1], *whitened[2:]))
    refined = whiten.refine(tensor, plain, covariance)
    swollen = degeneracy(tensor, refined)
    return refined if swollen <= max(cpd.BOUND, degeneracy(tensor, plain)) else plain


def _fitted(tensor: np.ndarray, rank: int, method: Method, seed: int) -> Factors:
    found = cpd.fit(tensor, rank, method.fit, seed=seed, starts=method.starts, sweeps=method.sweeps)
    allowed = max(found.error * (1 + method.slack), 1e-7)
    if not method.epc or allowed >= 1:  # at that error the smallest terms are zeros, which no training wakes
        return found.factors
    return epc.correct(tensor, found.factors, allowed * float(np.linalg.norm(tensor)))


def _tucker2(kernel: np.ndarray, ranks: tuple[int, ...], covariance: np.ndarray | None) -> Decomposed:
    pair = (ranks[0], ranks[1])
    found = tucker2(kernel, pair) if covariance is None else whiten.tucker2_whitened(kernel, pair, covariance)
    remade = found.full()
    norm = float(np.linalg.norm(kernel))
    return Decomposed(
        (found.inputs.T, found.core, found.outputs),
        remade,
        float(np.linalg.norm(kernel - remade)) / max(norm, 1e-300),
        0.0,
    )
