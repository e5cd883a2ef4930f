"""Entropy-constrained vector quantization for product quantization (Chou, Lookabaugh & Gray 1989).

A sub-vector takes the codeword with the least sum of squared error and price of the bits that an ideal coder spends on
its index. As in the file, codewords of every subspace are sorted by use, and one code table is shared by all subspaces
of a layer. Codewords are rounded to a grid whose step follows from the same price.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...modelfile.coding import rate
from ...modelfile.layers.base import index_dtype
from ...modelfile.layers.codeword_grid import on_grid
from . import pq_kmeans

START = 8  # sweeps of k-means before bits cost anything
MOST = 40
TOLERANCE = 3e-4  # relative gain of a sweep below which it is the last
SETTLING = 2  # sweeps with codewords on the grid


def priced(points: Tensor, entries: int, price: float, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return codewords (M, K, C) and labels (M, N) of ``points`` (M, N, C) that locally minimise squared error + price * bits.

    K is at most ``entries``: codewords that no subspace uses are dropped. For the ideal bits of the labels see
    :func:`lengths`.
    """
    codebook, labels = pq_kmeans.kmeans(points, entries, seed=seed, iterations=START)
    step = grid_step(price, entries / points.shape[1])
    before = math.inf
    for _ in range(MOST):
        codebook, bits = ranked(codebook, labels)
        labels, cost = _assigned(points, codebook, price * bits)
        codebook = _moved(points, labels, codebook)
        if before - cost <= TOLERANCE * abs(cost):
            break
        before = cost
    for _ in range(SETTLING):
        codebook, bits = ranked(on_grid(codebook, step), labels)
        labels, _ = _assigned(points, codebook, price * bits)
        codebook = _moved(points, labels, codebook)
    codebook, bits = ranked(on_grid(codebook, step), labels)
    labels, _ = _assigned(points, codebook, price * bits)
    return codebook[:, : int(labels.max()) + 1].contiguous(), labels


def lengths(counts: Tensor) -> Tensor:
    """Return the bits (K,) of each used rank for ``counts`` (M, K), each row in descending order."""
    return torch.from_numpy(rate.code_lengths(counts.sum(0).numpy(), unused=rate.UNUSED)).float()


def ranked(codebook: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the codewords of every subspace in descending order of use in ``labels``, and the bits (K,) of each rank."""
    counts, order = uses(labels, codebook.shape[1]).sort(dim=1, descending=True, stable=True)
    return codebook.gather(1, order[..., None].expand_as(codebook)), lengths(counts)


def uses(labels: Tensor, entries: int) -> Tensor:
    """Return the number of uses (M, K) of each codeword in ``labels`` (M, ...)."""
    return torch.stack([torch.bincount(part.reshape(-1), minlength=entries) for part in labels])


def grid_step(price: float, share: float) -> float:
    """Return the grid step of codewords, a power of two, with one codeword per ``share`` sub-vectors.

    A step costs squared error for each value of every sub-vector, and bits for each value of every codeword.
    """
    return 2.0 ** math.floor(math.log2(max(rate.step_at(price, share), 1e-30)))


def _assigned(points: Tensor, codebook: Tensor, prices: Tensor) -> tuple[Tensor, float]:
    """Return the cheapest label (M, N) of every point for ``prices`` (K,), and the sum of all costs."""
    labels = torch.empty(points.shape[:2], dtype=index_dtype(codebook.shape[1]))
    fixed = codebook.square().sum(2, keepdim=True) + prices[:, None]
    factors = torch.cat([-2 * codebook, fixed], 2)  # of (point, 1)
    total, step = 0.0, max(1, pq_kmeans.BATCH // max(1, points.shape[1] * codebook.shape[1]))
    for start in range(0, len(points), step):
        part = points[start : start + step]
        extended = torch.cat([part, part.new_ones(*part.shape[:2], 1)], 2)
        cost, labels[start : start + step] = torch.bmm(factors[start : start + step], extended.transpose(1, 2)).min(1)
        total += float(cost.sum(dtype=torch.float64)) + float(part.square().sum(dtype=torch.float64))
    return labels, total


def _moved(points: Tensor, labels: Tensor, codebook: Tensor) -> Tensor:
    """Return the means of the points with the same codeword, computed for some subspaces at a time."""
    step = max(1, pq_kmeans.BATCH // max(1, points.shape[1]))
    moved = torch.empty_like(codebook)  # a place for every part's result: see :func:`pqfit.kmeans`
    for start in range(0, len(points), step):
        part = slice(start, start + step)
        moved[part] = pq_kmeans.means(points[part], labels[part], codebook[part])
    return moved
