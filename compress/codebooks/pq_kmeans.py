"""Codewords for product quantization: batched k-means over subspaces, channel permutation, canonical order.

All subspaces are processed as one batch of matrix products; results are reproducible from the seed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...modelfile.layers.base import index_dtype

BATCH = 1 << 20  # distances held at once, so that they stay in the cache
ROUNDS = 200  # of swaps when channels are ordered
BLOCK = 512  # channels ordered together


def subvectors(weight: Tensor, width: int) -> Tensor:
    """Return the sub-vectors (M, O kH kW, C) of ``weight`` (O, I, kH, kW), padded with zeros."""
    subspaces = -(-weight.shape[1] // width)
    missing = subspaces * width - weight.shape[1]
    padded = torch.nn.functional.pad(weight, (0, 0, 0, 0, 0, missing)) if missing else weight
    parts = padded.unflatten(1, (subspaces, width))  # (O, M, C, kH, kW)
    return parts.permute(1, 0, 3, 4, 2).reshape(subspaces, -1, width)


def kmeans(points: Tensor, entries: int, *, seed: int = 0, iterations: int = 30) -> tuple[Tensor, Tensor]:
    """Return centres (B, K, C) and labels (B, N), in the narrowest type, of B independent sets of ``points`` (B, N, C).

    Initialised by k-means++ (Arthur & Vassilvitskii 2007). An empty cluster takes the point with the largest error.
    Stops if no label changes.
    """
    step = max(1, BATCH // max(1, points.shape[1] * entries))
    sets, count, width = points.shape
    centres, labels = points.new_empty(sets, entries, width), torch.empty(sets, count, dtype=index_dtype(entries))
    for at, part in enumerate(
        points.split(step)
    ):  # results have their places: what lies between what a part works with
        places = slice(at * step, at * step + len(part))  # made the heap grow with every part, by a gigabyte on AlexNet
        centres[places], labels[places] = _kmeans(part, entries, seed * 1_000_003 + at, iterations)
    return centres, labels


def _kmeans(points: Tensor, entries: int, seed: int, iterations: int) -> tuple[Tensor, Tensor]:
    centres = _plus_plus(points, entries, torch.Generator().manual_seed(seed))
    labels, _ = nearest(points, centres)
    for _ in range(iterations):
        centres = means(points, labels, centres)
        before = labels
        labels, distances = nearest(points, centres)
        centres = _refill(points, labels, centres, distances)
        if torch.equal(labels, before):
            break
    labels, _ = nearest(points, centres)
    return means(points, labels, centres), labels


def nearest(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Return the index (B, N) of the nearest centre of every point and the squared distance to it (B, N)."""
    norms = centres.square().sum(2, keepdim=True)
    distances, labels = torch.baddbmm(norms, centres, points.transpose(1, 2), alpha=-2).min(1)  # over (B, K, N)
    return labels, (distances + points.square().sum(2)).clamp_min(0)


def means(points: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
    """Return the mean of every cluster; an empty one keeps its centre."""
    sums, counts = _totals(points, labels, centres.shape[1])
    return torch.where(counts[..., None] > 0, sums / counts.clamp_min(1)[..., None], centres)


def _totals(points: Tensor, labels: Tensor, entries: int) -> tuple[Tensor, Tensor]:
    sets, _, width = points.shape
    places = (labels + torch.arange(sets)[:, None] * entries).reshape(-1)
    sums = torch.zeros(sets * entries, width, dtype=points.dtype).index_add_(0, places, points.reshape(-1, width))
    counts = torch.bincount(places, minlength=sets * entries).to(points.dtype)
    return sums.view(sets, entries, width), counts.view(sets, entries)


def _plus_plus(points: Tensor, entries: int, generator: torch.Generator) -> Tensor:
    """Return the k-means++ initialisation."""
    sets, count, _ = points.shape
    every = torch.arange(sets)
    chosen = [points[every, torch.randint(count, (sets,), generator=generator)]]
    distances = torch.full((sets, count), float("inf"), dtype=points.dtype)
    for _ in range(entries - 1):
        distances = torch.minimum(distances, (points - chosen[-1][:, None]).square().sum(2))
        ladder = distances.cumsum(1)
        draw = torch.rand(sets, 1, generator=generator, dtype=torch.float64).to(points.dtype) * ladder[:, -1:]
        chosen.append(points[every, torch.searchsorted(ladder, draw, right=True).clamp_max(count - 1).view(-1)])
    return torch.stack(chosen, 1)


def _refill(points: Tensor, labels: Tensor, centres: Tensor, distances: Tensor) -> Tensor:
    """Return ``centres`` with empty clusters moved to the points with the largest errors."""
    sets, entries, _ = centres.shape
    places = (labels + torch.arange(sets)[:, None] * entries).reshape(-1)
    empty = (torch.bincount(places, minlength=sets * entries) == 0).view(sets, entries)
    if not empty.any():
        return centres
    centres = centres.clone()
    for index in empty.any(1).nonzero().view(-1).tolist():
        holes = empty[index].nonzero().view(-1)[: points.shape[1]]
        worst = distances[index].topk(len(holes)).indices
        centres[index, holes] = points[index, worst]
    return centres


def canonical(codebook: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Return an equivalent codebook with the codewords of every subspace sorted by use, most used first.

    The indices of all subspaces then follow one skewed distribution, which the entropy coder of the file benefits from.
    """
    named, renamed = torch.empty_like(codebook), torch.empty_like(indices)
    for at, (words, own) in enumerate(zip(codebook, indices, strict=True)):
        counts = torch.bincount(own.reshape(-1), minlength=len(words))
        ranked = torch.argsort(counts, descending=True, stable=True)
        named[at], renamed[at] = words[ranked], torch.argsort(ranked)[own.long()]
    return named, renamed


def channel_order(weight: Tensor, width: int, *, seed: int = 0) -> Tensor:
    """Return a permutation (I,) of the channels of ``weight`` (O, I, kH, kW) that makes subspaces easy to quantize.

    Swaps channels between subspaces while the sum of the log-determinants of their covariances falls, the bound of PQF
    (Martinez et al. 2021, arXiv:2010.15703, section 3.2); within blocks of at most 512 channels.
    """
    generator = torch.Generator().manual_seed(seed)
    block = max(width, BLOCK // width * width)
    parts = (part.transpose(0, 1).flatten(1).double() for part in weight.split(block, dim=1))  # (block, O kH kW)
    return torch.cat([at * block + _ordered(samples, width, generator) for at, samples in enumerate(parts)])


def _ordered(samples: Tensor, width: int, generator: torch.Generator) -> Tensor:
    count = len(samples) // width
    if count < 2 or width < 2:
        return torch.arange(len(samples))
    covariance = torch.cov(samples)
    covariance.diagonal().add_(1e-6 * covariance.diagonal().mean() + 1e-30)
    order = torch.argsort(covariance.diagonal()[: count * width], descending=True, stable=True).view(count, width)
    volume = _log_volume(covariance, order)
    for _ in range(ROUNDS):
        pairs = torch.randperm(count, generator=generator)[: count // 2 * 2].view(2, -1)
        places = torch.randint(width, pairs.shape, generator=generator)
        trial = order.clone()
        trial[pairs[0], places[0]], trial[pairs[1], places[1]] = order[pairs[1], places[1]], order[pairs[0], places[0]]
        new = _log_volume(covariance, trial)
        better = (new[pairs].sum(0) < volume[pairs].sum(0) - 1e-12).nonzero().view(-1)
        moved = pairs[:, better].reshape(-1)
        order[moved], volume[moved] = trial[moved], new[moved]
    return torch.cat([order.view(-1), torch.arange(count * width, len(samples))])


def _log_volume(covariance: Tensor, order: Tensor) -> Tensor:
    return torch.linalg.slogdet(covariance[order[:, :, None], order[:, None]]).logabsdet
