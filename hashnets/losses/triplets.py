"""Losses over all triplets of one batch: an anchor, an item similar to it, and one that is not."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from .batch_pairs import similarity


def _triplets(values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``values`` (B, B) of anchors with similar and with other items, one entry for each triplet.

    An item is not similar to itself here.
    """
    similar = similarity(labels)
    positive = similar & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    anchors, near, far = (positive[:, :, None] & ~similar[:, None, :]).nonzero(as_tuple=True)
    return values[anchors, near], values[anchors, far]


def triplet_hinge(distances: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Return the mean of ``max(0, d(a, p) - d(a, n) + margin)`` over the triplets of ``distances`` (B, B); 0 without any."""
    near, far = _triplets(distances, labels)
    return (near - far + margin).clamp(min=0).mean() if len(near) else distances.sum() * 0


def triplet_likelihood(affinities: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Return the mean of ``-log sigmoid(a(a, p) - a(a, n) - margin)`` over triplets (DTSH, Wang et al. 2016, arXiv:1612.03900).

    ``affinities`` (B, B) are larger for nearer items; 0 without any triplet.
    """
    near, far = _triplets(affinities, labels)
    return softplus(margin - near + far).mean() if len(near) else affinities.sum() * 0
