"""Fits that look at the data: errors of a kernel W counted as ``||(W - W~) Sigma^(1/2)||``, Sigma the covariance of its inputs.

That is the mean squared error of the layer's responses, so such a fit needs less repair than one of the weights alone
(arXiv:2511.04494). A kernel (T, S, kh, kw) is seen as a matrix (T, S kh kw); Sigma belongs to patches in this order.
Sigma does not separate by modes: a fit is made with the inputs' channels whitened, then refined under all of Sigma.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import linalg, optimize

from .algebra import khatri_rao, mode_dot
from .kruskal import Factors, balanced, remaining
from .tucker import Tucker2, tucker2

WORK = 5e11  # multiplications that a refinement may take: large kernels get fewer steps
SHRINKAGE = 0.01  # towards white inputs, so that directions the sample never showed are not given away


def shrunk(covariance: np.ndarray, share: float = SHRINKAGE) -> np.ndarray:
    """Return the covariance mixed with a white one of the same trace."""
    size = len(covariance)
    result = (1 - share) * covariance
    result.flat[:: size + 1] += share * max(float(np.trace(covariance)) / size, 1e-30)
    return result


def channel_covariance(covariance: np.ndarray, channels: int) -> np.ndarray:
    """Return the covariance (S, S) of channels at one place, the mean over the places of the patch."""
    places = len(covariance) // channels
    blocks = covariance.reshape(channels, places, channels, places)
    return np.einsum("apbp->ab", blocks) / places


def roots(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the symmetric square root of a positive definite matrix, and that of its inverse."""
    values, vectors = linalg.eigh(covariance)
    values = np.sqrt(np.maximum(values, 1e-14 * max(float(values[-1]), 1e-300)))
    return (vectors * values) @ vectors.T, (vectors / values) @ vectors.T


def response_error(kernel: np.ndarray, other: np.ndarray, covariance: np.ndarray) -> float:
    """Return ``||(W - W~) Sigma^(1/2)|| / ||W Sigma^(1/2)||``."""
    rows, rest = kernel.reshape(len(kernel), -1), (kernel - other).reshape(len(kernel), -1)
    whole = float(np.vdot(rows @ covariance, rows))
    return float(np.sqrt(max(np.vdot(rest @ covariance, rest), 0.0) / whole)) if whole > 0 else 0.0


def refine(kernel: np.ndarray, factors: Factors, covariance: np.ndarray, *, iterations: int = 100) -> Factors:
    """Return CP factors (modes T, S, ...) that lower the response error under all of Sigma, by L-BFGS.

    The outputs' factor is eliminated: for given others it is the solution of a linear problem (variable projection).
    ``iterations`` are fewer when so many would take more than ``WORK`` multiplications.
    """
    rows = kernel.reshape(len(kernel), -1).astype(np.float64)
    products = covariance @ rows.T  # (D, T)
    whole = float(np.vdot(rows.T, products))
    if whole <= 0:
        return balanced(factors)
    shapes = [factor.shape for factor in factors[1:]]
    cuts = np.cumsum([rows_ * rank for rows_, rank in shapes])[:-1]

    def parts(flat: np.ndarray) -> list[np.ndarray]:
        return [part.reshape(shape) for part, shape in zip(np.split(flat, cuts), shapes, strict=True)]

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        others = parts(flat)
        basis = khatri_rao(others)  # (D, R)
        moved = covariance @ basis
        outputs = _outputs(basis.T @ moved, products.T @ basis)
        slope = 2 * (moved @ (outputs.T @ outputs) - products @ outputs)
        error = (
            whole
            - 2 * float(np.vdot(outputs, products.T @ basis))
            + float(np.vdot(outputs @ (basis.T @ moved), outputs))
        )
        return error / whole, np.concatenate([part.ravel() for part in _chained(slope, others)]) / whole

    first = np.concatenate([factor.ravel() for factor in balanced(factors)[1:]])
    size, rank = len(covariance), factors[0].shape[1]
    each = size * rank * (size + 2 * rank + 3 * len(kernel)) + rank**2 * (rank + 3 * len(kernel))
    steps = max(1, min(iterations, int(WORK // each)))
    solution = optimize.minimize(value, first, jac=True, method="L-BFGS-B", options={"maxiter": steps})
    others = parts(solution.x)
    basis = khatri_rao(others)
    return balanced((_outputs(basis.T @ covariance @ basis, products.T @ basis), *others))


def _outputs(normal: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the outputs' factor (T, R): ``target @ inv(normal)``, kept solvable."""
    damping = 1e-9 * max(float(np.trace(normal)) / len(normal), 1e-300)
    return linalg.solve(normal + damping * np.eye(len(normal)), target.T, assume_a="sym").T


def _chained(slope: np.ndarray, factors: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the gradient by each factor of a Khatri-Rao product whose gradient is ``slope``."""
    grid = slope.reshape([*(len(factor) for factor in factors), -1])
    return [remaining(grid, factors, mode) for mode in range(len(factors))]


def tucker2_whitened(kernel: np.ndarray, ranks: tuple[int, int], covariance: np.ndarray) -> Tucker2:
    """Return a Tucker-2 fit: the inputs' basis in whitened channels, then core and outputs exactly under all of Sigma.

    The inputs' basis is not orthonormal here.
    """
    half, inverse = roots(channel_covariance(covariance, kernel.shape[1]))
    first = tucker2(mode_dot(kernel, half, 1, transpose=True), ranks)
    inputs = inverse @ first.inputs  # (S, s)
    outputs_, _, *spatial = kernel.shape
    places = int(np.prod(spatial))
    expanded = np.kron(inputs, np.eye(places))  # (S p, s p)
    normal = expanded.T @ covariance @ expanded
    best = _outputs(normal, kernel.reshape(outputs_, -1) @ covariance @ expanded)  # (T, s p)
    weight, _ = roots(normal)
    left = np.linalg.svd(best @ weight, full_matrices=False)[0][:, : ranks[0]]
    return Tucker2((left.T @ best).reshape(ranks[0], ranks[1], *spatial), left, inputs)


def separable(filters: np.ndarray, rank: int, channels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (m, c, kh, 1) and (d, m, 1, kw) kernels whose product is the best fit to ``filters`` (d, c, kh, kw).

    Errors count in the inputs' channel covariance (c, c) (scheme 2 of Jaderberg et al. 2014, arXiv:1405.3866).
    """
    half, inverse = roots(channels)
    count, inputs, rows, columns = filters.shape
    whitened = mode_dot(filters, half, 1, transpose=True)
    unfolded = whitened.transpose(1, 2, 0, 3).reshape(inputs * rows, count * columns)
    left, values, right = np.linalg.svd(unfolded, full_matrices=False)
    side = np.sqrt(values[:rank])
    vertical = np.einsum("ahm,ac->mch", (left[:, :rank] * side).reshape(inputs, rows, rank), inverse)
    horizontal = (side[:, None] * right[:rank]).reshape(rank, count, columns).transpose(1, 0, 2)
    return vertical[:, :, :, None], horizontal[:, :, None, :]
