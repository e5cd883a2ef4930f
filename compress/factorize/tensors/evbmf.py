"""How many singular values of a matrix are signal: variational Bayesian matrix factorisation, solved in closed form.

Nakajima, Sugiyama, Babacan & Tomioka 2013 (JMLR 14, "Global analytic solution of fully-observed variational Bayesian
matrix factorization"), empirical priors, unknown noise. Kim et al. 2016 use it as rank hint for convolution kernels.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize

TAU = 2.5129  # where a component begins to pay, times sqrt(rows / columns); constant of the paper


def rank_hint(matrix: np.ndarray) -> int:
    """Return the number of components above the noise, at least 1 and at most the smaller side."""
    rows, columns = sorted(matrix.shape)
    values = np.linalg.svd(np.asarray(matrix, dtype=np.float64), compute_uv=False)
    if values[0] <= 0:
        return 1
    threshold = math.sqrt(columns * noise(values, rows, columns) * _edge(rows / columns))
    return int(np.clip(np.count_nonzero(values > threshold), 1, rows))


def noise(values: np.ndarray, rows: int, columns: int) -> float:
    """Return the variance of the noise that explains ``rows`` singular values of a matrix with ``columns`` >= ``rows``."""
    alpha = rows / columns
    squares = np.maximum(values.astype(np.float64) ** 2, 1e-300)
    most = min(math.ceil(rows / (1 + alpha)) - 1, rows) - 1
    high = float(squares.sum()) / (rows * columns)
    low = max(
        float(squares[min(most + 1, rows - 1)]) / (columns * _edge(alpha)),
        float(squares[max(most + 1, 0) :].mean()) / columns,
    )
    if low >= high:
        return high
    found = optimize.minimize_scalar(
        free_energy,
        bounds=(low, high),
        args=(squares, columns, alpha),
        method="bounded",
        options={"xatol": 1e-6 * high},
    )
    return float(found.x)


def free_energy(variance: float, squares: np.ndarray, columns: int, alpha: float) -> float:
    """Return the free energy by the noise's variance, up to constants (equation 29 of the paper)."""
    scaled = squares / (columns * variance)
    above = scaled > _edge(alpha)
    signal, rest = scaled[above], scaled[~above]
    gap = signal - (1 + alpha)
    tau = 0.5 * (gap + np.sqrt(np.maximum(gap**2 - 4 * alpha, 0.0)))
    total = np.sum(rest - np.log(rest)) + np.sum(signal - tau)
    return float(total + np.sum(np.log((tau + 1) / signal)) + alpha * np.sum(np.log(tau / alpha + 1)))


def _edge(alpha: float) -> float:
    tau = TAU * math.sqrt(alpha)
    return (1 + tau) * (1 + alpha / tau)
