"""Fits of a sum of rank-1 terms (CP) to a tensor: alternating or nonlinear least squares, and greedy deflation.

Everything is computed in double precision from seeded normal starts. An SVD start is not offered: for a mode smaller
than the rank it needs square matrices of the unfolding's width (tensorly asks for 720 GB on a 512x512x3x3 kernel).
Nonlinear least squares is Levenberg-Marquardt whose normal equations are solved by conjugate gradients through the
factors' Gram matrices (Tichavsky & Phan 2013; Sorber, Van Barel & De Lathauwer 2013): the Jacobian is never formed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from ....core.errors import InputError, lookup
from ....core.progress import track
from .algebra import cp_to_tensor, khatri_rao
from .kruskal import (
    Factors,
    balanced,
    contracted,
    degeneracy,
    error,
    gram,
    mttkrps,
    remaining,
    squared_error,
)

STARTS, BURN_IN = 3, 15
STEPS = 25  # of conjugate gradients in one iteration of nonlinear least squares
WORK = 5e11  # multiplications that a fit may take, half a minute or so: large kernels get fewer sweeps
BOUND = 10.0  # largest term over the tensor from which a fit counts as degenerate


@dataclass(frozen=True)
class CpFit:
    """A fit with its relative error and the norm of its largest term over the tensor's."""

    factors: Factors
    error: float
    degeneracy: float
    sweeps: int


def fit(
    tensor: np.ndarray, rank: int, method: str = "nls", *, seed: int = 0, starts: int = STARTS, sweeps: int = 200
) -> CpFit:
    """Return the best of several seeded fits that is not degenerate, the least degenerate when all are.

    ``sweeps`` are fewer when so many would take more than ``WORK`` multiplications.

    Raises:
        InputError: an unknown method, a rank below 1, a tensor with a value that is no number.
    """
    solver = lookup(METHODS, method, "CP fit")
    tensor = np.ascontiguousarray(tensor, dtype=np.float64)
    if rank < 1 or tensor.ndim < 2 or not np.isfinite(tensor).all():
        raise InputError(f"CP needs a rank of at least 1 and a finite tensor, got rank {rank} and {tensor.shape}")
    laid, back = turned(tensor)
    if not laid.any():
        return CpFit(tuple(np.zeros((size, rank)) for size in tensor.shape), 0.0, 0.0, 0)
    found, used = solver(laid, rank, seed, starts, affordable(laid.shape, rank, sweeps, method))
    factors = balanced([found[place] for place in back])
    return CpFit(factors, error(tensor, factors), degeneracy(tensor, factors), used)


def turned(tensor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the tensor with its largest mode last, whose unfoldings are views, and the order of modes back."""
    big = int(np.argmax(tensor.shape))
    order = [*(mode for mode in range(tensor.ndim) if mode != big), big]
    return np.ascontiguousarray(tensor.transpose(order)), np.argsort(order)


def affordable(shape: Sequence[int], rank: int, sweeps: int, method: str) -> int:
    """Return how many of the sweeps may be made."""
    each = rank * math.prod(shape) * len(shape) + (4 * STEPS * rank**2 * sum(shape) if method == "nls" else 0)
    return max(1, min(sweeps, int(WORK // each)))


def als(tensor: np.ndarray, factors: Factors, sweeps: int, tol: float = 1e-9) -> tuple[Factors, int]:
    """Return factors after at most ``sweeps`` of alternating least squares with line search (Bro 1998), and their number.

    Every third sweep tries to go further along its own change; the step is taken when the error falls.
    """
    scale = float(np.vdot(tensor, tensor))
    previous, before = factors, math.inf
    for sweep in range(1, sweeps + 1):
        current = _sweep(tensor, factors)
        if sweep > 3 and sweep % 3 == 0:
            reach = sweep ** (1 / 3)
            further = tuple(old + reach * (new - old) for old, new in zip(factors, current, strict=True))
            if squared_error(tensor, further, scale) < squared_error(tensor, current, scale):
                current = further
        factors = current
        if sweep % 5 == 0:
            after = squared_error(tensor, factors, scale)
            if before - after <= tol * scale:
                return (factors if after <= before else previous), sweep
            previous, before = factors, after
    return factors, sweeps


def _sweep(tensor: np.ndarray, factors: Factors) -> Factors:
    """Solve for one mode after the other; the large last mode is contracted once for all others."""
    *small, last = factors
    rest, modes = tensor.reshape(-1, tensor.shape[-1]), len(small)
    partial = contracted(tensor, last, modes)
    for mode in range(modes):
        target = remaining(partial, small, mode)
        solved = _ridge(target, gram([*small, last], skip=mode))
        small[mode] = solved / np.maximum(np.linalg.norm(solved, axis=0), 1e-300)  # scale goes to the last mode
    last = _ridge(rest.T @ khatri_rao(small), gram([*small, last], skip=modes))
    return (*small, last)


def _ridge(target: np.ndarray, normal: np.ndarray, share: float = 1e-12) -> np.ndarray:
    """Return ``target @ inv(normal)`` with the least damping that keeps it solvable."""
    damping = share * max(float(np.trace(normal)) / len(normal), 1e-300)
    eye = np.eye(len(normal))
    while True:
        try:
            return linalg.cho_solve(linalg.cho_factor(normal + damping * eye), target.T).T
        except linalg.LinAlgError:
            damping *= 100


def nls(
    tensor: np.ndarray, factors: Factors, iterations: int, tol: float = 1e-7, damping: float | None = None
) -> tuple[Factors, int]:
    """Return factors after at most ``iterations`` of Levenberg-Marquardt on all modes at once, and their number."""
    scale = float(np.vdot(tensor, tensor))
    factors = balanced(factors)
    now = squared_error(tensor, factors, scale)
    mu = (
        damping
        if damping is not None
        else 1e-3 * float(max(np.diag(gram(factors, m)).max() for m in range(len(factors))))
    )
    growth, failures = 2.0, 0
    gradient = _gradient(tensor, factors)
    for iteration in range(1, iterations + 1):
        step, predicted = _solve(factors, gradient, mu)
        tried = tuple(factor + change for factor, change in zip(factors, step, strict=True))
        after = squared_error(tensor, tried, scale)
        ratio = (now - after) / max(predicted, 1e-300)
        if after < now:
            gain, failures = now - after, 0
            factors, now = tried, after
            gradient = _gradient(tensor, factors)
            mu, growth = max(mu * max(1 / 3, 1 - (2 * ratio - 1) ** 3), 1e-15), 2.0
            if gain <= tol * max(now, 1e-15 * scale) or now <= 1e-15 * scale:
                return factors, iteration
        else:
            mu, growth, failures = mu * growth, growth * 2, failures + 1
            if failures > 12:
                return factors, iteration
    return factors, iterations


def _gradient(tensor: np.ndarray, factors: Factors) -> list[np.ndarray]:
    """Return half the gradient of the squared error by each factor."""
    targets = mttkrps(tensor, factors)
    return [factor @ gram(factors, mode) - targets[mode] for mode, factor in enumerate(factors)]


def _solve(factors: Factors, gradient: Sequence[np.ndarray], mu: float) -> tuple[list[np.ndarray], float]:
    """Return the damped Gauss-Newton step, by preconditioned conjugate gradients, and the fall of the error it promises."""
    grams = [factor.T @ factor for factor in factors]
    normal = _normal_operator(factors, grams)
    eye = np.eye(len(grams[0]))
    alone = [gram(factors, mode) for mode in range(len(factors))]
    blocks = [linalg.cho_factor(block + max(mu, 1e-13 * float(np.trace(block)), 1e-300) * eye) for block in alone]

    def precondition(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [linalg.cho_solve(block, part.T).T for block, part in zip(blocks, parts, strict=True)]

    step = [np.zeros_like(factor) for factor in factors]
    residual = [-part for part in gradient]
    search = precondition(residual)
    product = _dot(residual, search)
    goal = 1e-2 * math.sqrt(product) if product > 0 else 0.0
    for _ in range(STEPS):
        applied = [part + mu * way for part, way in zip(normal(search), search, strict=True)]
        curvature = _dot(search, applied)
        if curvature <= 0:
            break
        length = product / curvature
        step = [part + length * way for part, way in zip(step, search, strict=True)]
        residual = [part - length * change for part, change in zip(residual, applied, strict=True)]
        ahead = precondition(residual)
        following = _dot(residual, ahead)
        if following <= goal**2:
            break
        search = [part + following / product * way for part, way in zip(ahead, search, strict=True)]
        product = following
    promised = -2 * _dot(step, gradient) - _dot(step, normal(step))
    return step, promised


def _normal_operator(
    factors: Factors, grams: Sequence[np.ndarray]
) -> Callable[[Sequence[np.ndarray]], list[np.ndarray]]:
    """Return the product with J'J: block (n, m) of it couples two modes through the Gram matrices of all others."""
    modes = range(len(factors))

    def without(*skip: int) -> np.ndarray:
        return np.prod([grams[mode] for mode in modes if mode not in skip], axis=0)

    pairs = {
        (n, m): without(n, m) if len(factors) > 2 else np.ones_like(grams[0]) for n in modes for m in modes if n < m
    }
    alone = [without(mode) for mode in modes]

    def apply(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
        cross = [part.T @ factor for part, factor in zip(parts, factors, strict=True)]
        result = []
        for mode in modes:
            total = parts[mode] @ alone[mode]
            coupled = sum(pairs[min(mode, m), max(mode, m)] * cross[m] for m in modes if m != mode)
            result.append(total + factors[mode] @ coupled)
        return result

    return apply


def _dot(left: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> float:
    return float(sum(np.vdot(a, b) for a, b in zip(left, right, strict=True)))


def start(shape: Sequence[int], rank: int, norm: float, seed: Sequence[int]) -> Factors:
    """Return normal factors whose terms together have about the norm of the tensor."""
    random = np.random.default_rng(seed)
    size = (norm / math.sqrt(rank * math.prod(shape))) ** (1 / len(shape))
    return tuple(random.standard_normal((length, rank)) * size for length in shape)


def _best_start(tensor: np.ndarray, rank: int, seed: int, starts: int) -> Factors:
    """Return the start that a few sweeps bring furthest, degenerate ones last."""
    norm = float(np.linalg.norm(tensor))
    tried = []
    for place in track(range(max(starts, 1)), "CP starts"):
        factors, _ = als(tensor, start(tensor.shape, rank, norm, (seed, place)), BURN_IN if starts > 1 else 5)
        swollen = degeneracy(tensor, factors)
        tried.append((swollen if swollen > BOUND else 0.0, squared_error(tensor, factors, norm**2), factors))
    return min(tried, key=lambda item: item[:2])[2]


def _fit_als(tensor: np.ndarray, rank: int, seed: int, starts: int, sweeps: int) -> tuple[Factors, int]:
    return als(tensor, _best_start(tensor, rank, seed, starts), sweeps)


def _fit_nls(tensor: np.ndarray, rank: int, seed: int, starts: int, sweeps: int) -> tuple[Factors, int]:
    return nls(tensor, _best_start(tensor, rank, seed, starts), sweeps)


def _fit_greedy(tensor: np.ndarray, rank: int, seed: int, starts: int, sweeps: int) -> tuple[Factors, int]:
    """Fit the best rank-1 term, subtract it, go on: the baseline of Lebedev et al. 2015, section 3.2."""
    rest, terms, used = tensor.copy(), [], 0
    for place in track(range(rank), "rank-1 terms"):
        norm = float(np.linalg.norm(rest))
        tried = []
        for again in range(min(starts, 2)):
            term, count = als(rest, start(rest.shape, 1, norm, (seed, place, again)), min(sweeps, 40), 1e-7)
            tried.append((squared_error(rest, term, norm**2), term))
            used += count
        best = min(tried, key=lambda item: item[0])[1]
        terms.append(best)
        rest -= cp_to_tensor((None, best))
    return tuple(np.concatenate([term[mode] for term in terms], axis=1) for mode in range(tensor.ndim)), used


METHODS: dict[str, Callable[[np.ndarray, int, int, int, int], tuple[Factors, int]]] = {
    "nls": _fit_nls,
    "als": _fit_als,
    "greedy": _fit_greedy,
}
