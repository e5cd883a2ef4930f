"""Responses rebuilt from a subspace (Zhang, Zou, He & Sun 2016, arXiv:1505.06798).

Responses of a layer are rows y (N, d). A layer of rank r gives ``M v + b`` with ``M = P Q'``: v are the responses to the
original input (symmetric) or to the input as the already approximated layers give it (asymmetric). The solvers want
the mean square of ``y - (M v + b)`` small, or that of ``relu(y) - relu(M v + b)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import linalg

SCHEDULE = ((0.01, 25), (1.0, 25))  # (lambda, iterations) of the paper
ROWS = 1024  # of responses worked on together
RIDGE = 1e-8  # of the mean variance: responses that do not fill their space are normal


@dataclass(frozen=True)
class Subspace:
    """``y ~ outputs @ inputs.T @ v + bias``."""

    outputs: np.ndarray  # P (d, r)
    inputs: np.ndarray  # Q (q, r)
    bias: np.ndarray  # (d,)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        """Return the rebuilt responses (N, d) of (N, q)."""
        return (inputs @ self.inputs) @ self.outputs.T + self.bias


def spectrum(covariance: np.ndarray) -> np.ndarray:
    """Return the variances along the principal axes, the largest first."""
    return np.maximum(linalg.eigvalsh(covariance)[::-1], 0.0)


def filterwise(weight: np.ndarray, bias: np.ndarray, rank: int) -> Subspace:
    """Return the projection that keeps most of the weights (d, D) themselves and looks at no data."""
    basis = np.linalg.svd(weight, full_matrices=False)[0][:, :rank]
    return Subspace(basis, basis, bias - basis @ (basis.T @ bias))


def reduced_rank(targets: np.ndarray, responses: np.ndarray, rank: int) -> Subspace:
    """Return the best map of ``responses`` (N, q) to ``targets`` (N, d) of this rank, with a bias (reduced-rank regression).

    ``M^ = Z V' (V V')^-1``, then the first left singular vectors of ``M^ (V V')^(1/2)``; the same as the paper's
    generalised SVD of M^.
    """
    return _Regression(responses).solve(targets, rank)


def principal(targets: np.ndarray, responses: np.ndarray, rank: int) -> Subspace:
    """Return the projection on the principal axes of ``targets``, applied to ``responses``.

    For few rows, where a regression would learn the sample by heart.
    """
    mean = targets.mean(axis=0)
    axes = linalg.svd(targets - mean, full_matrices=False)[2][:rank].T
    basis = np.zeros((targets.shape[1], rank))
    basis[:, : axes.shape[1]] = axes
    return Subspace(basis, basis, mean - basis @ (basis.T @ responses.mean(axis=0)))


def nonlinear(
    targets: np.ndarray, responses: np.ndarray, rank: int, schedule: tuple[tuple[float, int], ...] = SCHEDULE
) -> Subspace:
    """Return a map of this rank for ``||relu(targets) - relu(M responses + b)||^2``, by the paper's two alternating steps.

    With auxiliary responses z: regression of z on ``responses``; then each z by itself, in closed form. It starts from the
    linear solution, and the best map of all steps is returned.
    """
    regression = _Regression(responses)
    goal = np.maximum(targets, 0.0)
    best = current = regression.solve(targets, rank)
    least = math.inf
    for weight in (*(weight for weight, iterations in schedule for _ in range(iterations)), 0.0):
        error, total, products = 0.0, np.zeros(goal.shape[1]), np.zeros((goal.shape[1], responses.shape[1]))
        for start in range(0, len(goal), ROWS):  # few enough to stay in the processor's cache
            rows = slice(start, start + ROWS)
            guess = current(responses[rows])
            error += _activated_error(goal[rows], guess)
            if weight:
                auxiliaries = auxiliary(goal[rows], guess, weight)
                total += auxiliaries.sum(axis=0)
                products += auxiliaries.T @ regression.centred[rows]
        if error < least:
            best, least = current, error
        if weight:
            current = regression.mapped(products, total / len(goal), rank)
    return best


def auxiliary(goal: np.ndarray, guess: np.ndarray, weight: float) -> np.ndarray:
    """Return z that minimises ``(goal - relu(z))^2 + weight (z - guess)^2``, element by element."""
    low = np.minimum(guess, 0.0)
    high = np.maximum((weight * guess + goal) / (weight + 1), 0.0)
    cost_low = goal**2 + weight * (low - guess) ** 2
    cost_high = (goal - high) ** 2 + weight * (high - guess) ** 2
    return np.where(cost_low <= cost_high, low, high)


def _activated_error(goal: np.ndarray, guess: np.ndarray) -> float:
    rest = goal - np.maximum(guess, 0.0)
    return float(np.vdot(rest, rest))


class _Regression:
    """Everything about the inputs of a regression that does not change with its targets."""

    def __init__(self, responses: np.ndarray) -> None:
        self.mean = responses.mean(axis=0)
        self.centred = responses - self.mean
        normal = self.centred.T @ self.centred
        ridge = RIDGE * max(float(np.trace(normal)) / len(normal), 1e-300)
        values, vectors = linalg.eigh(normal + ridge * np.eye(len(normal)))
        values = np.sqrt(np.maximum(values, ridge))
        self.inverse_root = (vectors / values) @ vectors.T

    def solve(self, targets: np.ndarray, rank: int) -> Subspace:
        """Return the best map of rank ``rank``."""
        mean = targets.mean(axis=0)
        return self.mapped((targets - mean).T @ self.centred, mean, rank)

    def mapped(self, products: np.ndarray, mean: np.ndarray, rank: int) -> Subspace:
        """Return the same of the targets' mean (d,) and their products (d, q) with the centred inputs."""
        whitened = products @ self.inverse_root  # M^ (V V')^(1/2), (d, q)
        left, values, right = linalg.svd(whitened, full_matrices=False)
        side = np.sqrt(np.maximum(values[:rank], 0.0))
        outputs = left[:, :rank] * side
        inputs = self.inverse_root @ (right[:rank].T * side)
        sizes = np.linalg.norm(outputs, axis=0), np.linalg.norm(inputs, axis=0)
        gain = np.sqrt(np.where(sizes[0] > 0, sizes[1], 1.0) / np.where(sizes[0] > 0, sizes[0], 1.0))
        gain = np.where(gain > 0, gain, 1.0)
        outputs, inputs = outputs * gain, inputs / gain
        return Subspace(outputs, inputs, mean - outputs @ (inputs.T @ self.mean))
