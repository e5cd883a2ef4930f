"""The mean of several ends of one training: better on unseen items than each of them.

Izmailov et al. 2018 (arXiv:1803.05407) average along one run, Wortsman et al. 2022 (arXiv:2203.05482) over runs from one
start. Running statistics of batch norms belong to no mean of weights and are measured anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ...core.data.items import Items
from ...core.errors import InputError
from ...core.model import HashModel, Step

BATCH = 256
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def averaged(
    models: Sequence[HashModel], shares: Sequence[float], items: Items, *, count: int = 10_240, seed: int = 0
) -> HashModel:
    """Return the network whose parameters are the mean of those of ``models``, weighted by ``shares``, which add up to 1.

    The norms see ``count`` of ``items``.

    Raises:
        InputError: no models, as many shares as models are not given, they do not add up to 1, or networks that differ.
    """
    if not models or len(models) != len(shares) or abs(sum(shares) - 1) > 1e-6:
        raise InputError(f"a mean takes one share a network, together 1; got {len(models)} networks, shares {shares}")
    last = models[-1]
    for model in models:
        if model.arch != last.arch or model.edits != last.edits:
            raise InputError("a mean takes networks of one architecture and the same edits; two of these differ")
    net = last.copy_net()
    rows = [dict(model.net.named_parameters()) for model in models]
    with torch.no_grad():
        for name, value in net.named_parameters():
            parts = [share * row[name].double() for share, row in zip(shares, rows, strict=True)]
            value.copy_(torch.stack(parts).sum(0))
    _measure_norms(net, last, items, count, seed)
    return last.edited(net, (), Step("average", {"shares": list(shares)}, seed))


def _measure_norms(net: nn.Module, model: HashModel, items: Items, count: int, seed: int) -> None:
    """Set the running statistics of ``net`` in place to the mean over the batches."""
    norms = [layer for layer in net.modules() if isinstance(layer, NORMS)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch: a plain mean over all batches
        norm.train()
    chosen = np.random.default_rng(seed).permutation(len(items))[:count]
    with torch.no_grad():
        for start in range(0, len(chosen) - len(chosen) % BATCH or 1, BATCH):
            net(model.arch.input.tensor(items.take(np.sort(chosen[start : start + BATCH])).values))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    net.eval()
