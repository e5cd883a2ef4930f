"""Importance of weights for the outputs: the sampled diagonal of the Gauss-Newton matrix (Hutchinson 1990), without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ...core.data.images import Pixels, fitting_batch
from ...core.errors import InputError
from ...core.heap import released
from ...core.layers import get_layer
from ...core.model import HashModel
from ...core.progress import track
from .hooks import hooks, layers_at
from .sampling import VALUES

ROWS = 256  # of a weight or a gradient that are squared together
LARGE = 1 << 22  # weights of a layer from which its sums are kept in single precision
FLOOR = 0.05  # share of a layer's mean that every weight gets at least: rare inputs are not worthless


def output_energy(
    model: HashModel, pixels: Pixels, layers: Sequence[str], *, batches: int = 100, batch: int = 64, seed: int = 0
) -> dict[str, np.ndarray]:
    """Return E[sum over outputs of (d output / d weight)^2] per image for each weight of ``layers``.

    Random signs s make ``(d (s . outputs) / dw)^2`` an unbiased estimate (Hutchinson 1990). Outputs are divided by
    their root mean square, so that values of different networks are comparable. Batches of large images are smaller
    than ``batch``.

    Raises:
        InputError: There are no images.
    """
    if not len(pixels):
        raise InputError("measuring importance needs images; name a data set with --data")
    net = model.copy_net(sharing=layers)
    modules: list[Any] = [get_layer(net, path) for path in layers]
    net.requires_grad_(requires_grad=False)
    sums = [_summed(layer) for layer in modules]
    rows = {path: one for path, one in zip(layers, sums, strict=True) if isinstance(one, RowwiseSquaredGradients)}
    generator = torch.Generator().manual_seed(seed)
    energy, batch = 0.0, fitting_batch(pixels, batch, VALUES)
    with hooks(
        layers_at(net, rows), after=lambda path, _layer, inputs, output: rows[path].record_call(inputs[0], output)
    ):
        for _ in released(track(range(batches), "importance of weights")):
            chosen = torch.randint(len(pixels), (batch,), generator=generator).sort().values
            outputs = net(model.arch.input.tensor(pixels[chosen.numpy()]))
            signs = torch.randint(0, 2, outputs.shape, generator=generator).float() * 2 - 1
            (outputs * signs).sum().backward()  # a gradient is squared and let go before the next one is computed
            for one in sums:
                one.add()
            energy += float(outputs.detach().square().sum())
    floored = []
    for total in (one.sums for one in sums):
        total.div_(max(energy, 1e-30))
        floored.append(total.clamp_min_(FLOOR * float(total.mean())).numpy())
    return dict(zip(layers, floored, strict=True))


def _summed(layer: Any) -> SquaredGradients | RowwiseSquaredGradients:
    large = isinstance(layer, nn.Linear) and layer.weight.numel() >= LARGE
    return RowwiseSquaredGradients(layer) if large else SquaredGradients(layer.weight)


class SquaredGradients:
    """Accumulates the squared gradients of a weight over backward passes."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.sums = torch.zeros_like(weight, dtype=torch.float64 if weight.numel() < LARGE else torch.float32)
        weight.requires_grad_().register_post_accumulate_grad_hook(self._square)

    def _square(self, weight: torch.Tensor) -> None:
        if weight.grad is not None:
            for rows, part in zip(self.sums.split(ROWS), weight.grad.split(ROWS), strict=True):
                rows.add_(part.to(self.sums.dtype).square_())
        weight.grad = None

    def add(self) -> None:
        """Do nothing: gradients are added during the backward pass."""


class RowwiseSquaredGradients:
    """Accumulates squared gradients of a large dense layer a few rows at a time, without the whole gradient in memory."""

    def __init__(self, layer: nn.Linear) -> None:
        self.sums = torch.zeros_like(layer.weight)
        self.calls: list[tuple[torch.Tensor, torch.Tensor]] = []

    def record_call(self, inputs: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """Record a call of the layer; return the output that replaces its own."""
        flat, whole = inputs.detach().flatten(0, -2), output
        if not output.requires_grad:  # nothing before it is differentiated, and neither is its weight
            output = output.requires_grad_().clone()  # which may be written into, as by ReLU in place
        whole.register_hook(lambda gradient: self.calls.append((flat, gradient.flatten(0, -2))))
        return output

    @torch.no_grad()
    def add(self) -> None:
        """Add the squared gradient of all calls since the last time."""
        if self.calls:
            flat, gradients = (torch.cat(parts) for parts in zip(*self.calls, strict=True))
            for rows, part in zip(self.sums.split(ROWS), gradients.split(ROWS, dim=1), strict=True):
                rows.add_((part.T @ flat).square_())
        self.calls.clear()


def relative(weight: torch.Tensor) -> float:
    """Return the factor that converts squared errors of a weight to shares of its mean square."""
    total = sum(float(rows.double().square().sum()) for rows in weight.detach().split(ROWS))
    return 1 / max(total / max(weight.numel(), 1), 1e-30)


def priced_at(weight: torch.Tensor, cost: np.ndarray) -> float:
    """Return the cost of setting the whole weight to zero."""
    parts = zip(weight.detach().split(ROWS), range(0, len(cost), ROWS), strict=True)
    return sum(float((cost[start : start + ROWS] * rows.double().numpy() ** 2).sum()) for rows, start in parts)
