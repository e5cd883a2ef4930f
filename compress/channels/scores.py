"""Importance scores of channels: by filter norms, batch norm factors, the training loss (Taylor), or expected bit flips.

Scores by weights are divided by their mean over each group of coupled channels, so that layers are comparable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from ...core.data.images import fitting_batch
from ...core.data.items import Items
from ...core.errors import InputError, RecipeError
from ...core.layers import get_layer
from ...core.model import HashModel
from ...core.progress import track
from ...hashnets.losses.pair import pair_likelihood
from ...hashnets.retrieval.codes import outputs
from ..observe.hooks import hooks, layers_at
from .graph import Channels

BATCH, VALUES = 64, 1 << 20  # images that run together: at most so many, with so many values
PAIRED = 1 << 22  # values of images that are compared with each other
ROWS = 256  # rows of a weight processed at once
PROBES = 16  # random sums of outputs, instead of one gradient for every bit


def by_weights(model: HashModel, graph: Channels, images: Items | None, seed: int, order: int) -> np.ndarray:  # noqa: ARG001  # as all scores
    """Return the norm of the filters that produce a channel, averaged over its layers (Li et al. 2017, arXiv:1608.08710)."""
    norms = {}
    for path, layer in graph.layers.items():
        if layer.produces:
            weight: Any = get_layer(model.net, path).weight
            rows = weight.detach().flatten(1).split(ROWS)
            norms[path] = torch.cat([part.double().norm(order, dim=1) for part in rows]).numpy()
    return _averaged(graph, norms)


def by_norms(model: HashModel, graph: Channels, images: Items | None, seed: int) -> np.ndarray:  # noqa: ARG001  # as all scores
    """Return the batch norm factor of each channel (Liu et al. 2017, arXiv:1708.06519).

    Raises:
        RecipeError: There is no batch norm, because it was folded.
    """
    factors = {}
    for path, layer in graph.layers.items():
        norm: Any = get_layer(model.net, path) if layer.kind == "norm" else None
        if norm is not None and norm.weight is not None:
            factors[path] = norm.weight.detach().abs().double().numpy()
    if not factors:
        raise RecipeError("narrow: score 'bn' needs batch norms; they were folded: take l2 or code, or narrow first")
    return _averaged(graph, factors)


def by_taylor(model: HashModel, graph: Channels, images: Items | None, seed: int) -> np.ndarray:
    """Return the square of the first-order change of the pair loss (Molchanov et al. 2019, arXiv:1906.10771)."""
    images = _needed(images, "taylor")
    net = model.copy_sharing_memory().requires_grad_(requires_grad=False)
    scores, change = np.zeros(_id_count(graph)), np.zeros(_id_count(graph))

    owners: dict[Any, list[str]] = {}  # weight -> its layers, several where it is tied
    for path in [path for path, layer in graph.layers.items() if layer.produces]:
        owners.setdefault(get_layer(net, path).weight, []).append(path)

    def count(weight: Any) -> None:
        moved = weight.grad.mul_(weight.detach()).flatten(1).sum(1).double().numpy()
        for path in owners[weight]:
            np.add.at(change, graph.layers[path].outputs, moved)
        weight.grad = None  # one layer's at a time: all together are as large as the network

    for weight in owners:
        weight.requires_grad_().register_post_accumulate_grad_hook(count)
    order = np.random.default_rng(seed).permutation(len(images))
    batch = fitting_batch(images.values, BATCH, PAIRED)
    for start in track(range(0, len(images), batch), "channel scores"):
        chosen = images.take(np.sort(order[start : start + batch]))
        labels = torch.from_numpy(chosen.labels)
        predicted = net(model.arch.input.tensor(chosen.values))
        loss = pair_likelihood(predicted, labels, predicted.detach(), labels)
        change[:] = 0
        loss.backward()
        scores += change**2
    return scores


def by_code(model: HashModel, graph: Channels, images: Items | None, seed: int, probes: int = PROBES) -> np.ndarray:
    """Return the number of bits that are expected to flip if a channel is removed, to first order.

    Removing a channel moves output k by d = -(sum over its readers of gradient x activation). Outputs carry an error of
    variance v; a bit of margin m flips with probability Phi(-m / sqrt v), so a further d^2 costs d^2 times the
    derivative phi(m / s) m / (2 s^3), evaluated at s = half the median margin of the bit. Squares are sums over
    ``probes`` random sign vectors (or over single bits if there are fewer).
    """
    images = _needed(images, "code")
    margins = np.abs(outputs(model, images.values))  # (N, bits)
    deviation = np.maximum(np.median(margins, axis=0) / 2, 1e-12)
    price = np.exp(-0.5 * (margins / deviation) ** 2) / np.sqrt(2 * np.pi) * margins / (2 * deviation**3)
    root = torch.from_numpy(np.sqrt(price)).float()
    readers = {path: layer for path, layer in graph.layers.items() if layer.kind in ("conv", "dense")}
    scores = torch.zeros(_id_count(graph), dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    net = model.copy_sharing_memory().requires_grad_(requires_grad=False)
    gates: dict[str, torch.Tensor] = {}

    def gate(path: str, _layer: nn.Module, inputs: Any) -> tuple[torch.Tensor, ...]:
        values = inputs[0]
        gates[path] = torch.ones(*values.shape[:2], *[1] * (values.ndim - 2), dtype=values.dtype).requires_grad_()
        return (values * gates[path],)

    with hooks(layers_at(net, readers), before=gate):
        batch = fitting_batch(images.values, BATCH, VALUES)
        for start in track(range(0, len(images), batch), "channel scores"):
            block = slice(start, start + batch)
            predicted = net(model.arch.input.tensor(images.values[block])) * root[block]
            for signs in _signs(predicted, probes, generator):
                gradients = torch.autograd.grad((predicted * signs).sum(), list(gates.values()), retain_graph=True)
                moved = torch.zeros(len(predicted), len(scores))
                for path, gradient in zip(gates, gradients, strict=True):
                    moved.index_add_(1, torch.from_numpy(readers[path].inputs), gradient.flatten(1).float())
                scores += moved.double().square().sum(0) / (1 if predicted.shape[1] <= probes else probes)
    return scores.numpy() / len(images)


def _signs(predicted: torch.Tensor, probes: int, generator: torch.Generator) -> list[torch.Tensor]:
    bits = predicted.shape[1]
    if bits <= probes:
        return list(torch.eye(bits))
    return [torch.randint(0, 2, predicted.shape, generator=generator).float() * 2 - 1 for _ in range(probes)]


def _averaged(graph: Channels, figures: dict[str, np.ndarray]) -> np.ndarray:
    sums, counts = np.zeros(_id_count(graph)), np.zeros(_id_count(graph))
    for path, values in figures.items():
        np.add.at(sums, graph.layers[path].outputs, values)
        np.add.at(counts, graph.layers[path].outputs, 1)
    scores = sums / np.maximum(counts, 1)
    for labels in graph.spaces():
        scores[labels] /= max(float(scores[labels].mean()), 1e-30)
    return scores


def _id_count(graph: Channels) -> int:
    return 1 + max((int(max(layer.inputs.max(), layer.outputs.max())) for layer in graph.layers.values()), default=0)


def _needed(images: Items | None, score: str) -> Items:
    if images is None or not len(images):
        raise InputError(f"narrow with score {score!r} needs training images; name a data set with --data")
    return images


SCORES: dict[str, Callable[[HashModel, Channels, Items | None, int], np.ndarray]] = {
    "l1": lambda model, graph, images, seed: by_weights(model, graph, images, seed, 1),
    "l2": lambda model, graph, images, seed: by_weights(model, graph, images, seed, 2),
    "bn": by_norms,
    "taylor": by_taylor,
    "code": by_code,
}
