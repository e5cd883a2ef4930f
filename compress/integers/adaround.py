"""Learned rounding of weights by the loss of the hash code (AdaRound, Nagel et al. 2020, arXiv:2004.10568).

AdaRound reconstructs the outputs of one layer after the other. Here the signs of the last outputs count, so all layers
are trained jointly on the outputs of the hash layer: their distance to the original outputs, and a hinge loss on the
margins of the bits. Training starts from another rounding (compensated, biases corrected); each weight may stay or move
to the next whole number towards, or beyond, its real value. A result that is not better on held-out images is
discarded. Labels are only used with ``task``: a hinge loss then draws each code to the hash center of its class (CSQ,
Yuan et al. 2020, arXiv:1908.00347), here the majority of the original codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ...core.data.images import Pixels, fitting_batch
from ...core.errors import InputError
from ...core.heap import released
from ...core.layers import get_layer, set_layer
from ...core.model import HashModel
from ...core.progress import track
from ...core.usable_weights import max_abs
from ...hashnets.retrieval.codes import outputs

Rounded = tuple[Tensor, Tensor]  # whole numbers of the weight's shape, of any type; biases (O,) as real numbers

LOW, HIGH = -0.1, 1.1  # the sigmoid is stretched beyond 0 and 1, so that both are reached
LARGEST = 1 << 22  # weights of a layer that still learns; larger ones would take 20 bytes more for each
ROWS = 512  # of a larger dense layer that are in a float type at once
FIRST = 0.2  # how far each weight is on its way at the start
WARM = 0.2  # share of the steps without pressure
SHARP = (20.0, 2.0)
VALUES = 1 << 19  # of images that run together; a batch of larger ones is taken in parts
ASIDE = 5  # one of so many images is not learned from
MOST = 3 << 22  # of a learned bias in units of the accumulator, half as much again as :mod:`.ranges` starts from
PRESSURE = (0.03, 30.0)  # of the regulariser's gradient, as multiples of the loss's


@dataclass(frozen=True, eq=False)
class QuantizationGrid:
    """Rounding of one layer: scale, zero point and largest value of its input; scale per row and largest value of its weight."""

    scale: float
    zero: int
    high: int
    steps: Tensor  # (O,)
    top: int


def nearest(weight: Tensor, grid: QuantizationGrid) -> Tensor:
    """Return the weights rounded to the nearest whole numbers (as float32)."""
    return (weight / _rows(grid.steps, weight)).round_().clamp_(-grid.top, grid.top)


def code_loss(predicted: Tensor, targets: Tensor, margins: Tensor) -> Tensor:
    """Return the squared distance of outputs (N, bits) to ``targets``, in units of ``margins`` (bits,), plus a hinge loss on the signs.

    The hinge requires each bit to keep its sign by the margin of the original, up to one.
    """
    relative, target = predicted / margins, targets / margins
    signs = torch.where(target >= 0, 1.0, -1.0)
    hinge = functional.relu(target.abs().clamp_max(1.0) - relative * signs)
    return (relative - target).square().mean() + hinge.mean()


def centres(targets: Tensor, labels: Tensor) -> Tensor:
    """Return the mean sign (N, bits), from -1 to 1, over the class of each of the outputs (N, bits)."""
    classes, which = labels.unique(return_inverse=True)
    signs = torch.where(targets >= 0, 1.0, -1.0)
    total = torch.zeros(len(classes), targets.shape[1]).index_add_(0, which, signs)
    return (total / which.bincount().unsqueeze(1))[which]


def task_loss(predicted: Tensor, drawn_to: Tensor, margins: Tensor) -> Tensor:
    """Return the hinge loss of outputs (N, bits) towards the signs of their centres (N, bits), weighed by the centres."""
    return (functional.relu(1 - predicted / margins * drawn_to.sign()) * drawn_to.abs()).mean()


def mixed(index: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the indices of images, shuffled if the held-out ones would lack a class."""
    if set(labels[index[: len(index) // ASIDE]]) == set(labels[index]):
        return index
    return np.random.default_rng(seed).permutation(index)


def learn_rounding(
    model: HashModel,
    grids: Mapping[str, QuantizationGrid],
    start: Mapping[str, Rounded],
    pixels: Pixels,
    labels: np.ndarray,
    *,
    task: float,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
) -> Mapping[str, Rounded]:
    """Return whole numbers and real biases after ``steps`` steps from ``start``, or ``start`` itself if it was better.

    The first fifth of ``pixels`` is held out to decide which is better. ``task`` weighs the hash centers of ``labels``.
    """
    aside = max(1, len(pixels) // ASIDE)
    targets = torch.from_numpy(outputs(model, pixels))
    margins = targets.abs().median(dim=0).values.clamp_min(1e-6)
    middle = centres(targets, torch.from_numpy(labels)) if task else targets
    soft, net = _softened(model, grids, start)

    def loss(predicted: Tensor, which: Tensor | slice) -> Tensor:
        distance = code_loss(predicted, targets[which], margins)
        return distance + task * task_loss(predicted, middle[which], margins) if task else distance

    def judged() -> float:
        predicted = []
        with torch.no_grad():
            for at in released(range(0, aside, size := fitting_batch(pixels, 64, VALUES))):
                predicted.append(net(model.arch.input.tensor(pixels[at : at + size][: aside - at])))
        return float(loss(torch.cat(predicted), slice(0, aside)))

    def pull(chosen: Tensor) -> None:
        for part in released(chosen.split(fitting_batch(pixels, batch, VALUES))):
            predicted = net(model.arch.input.tensor(pixels[part.numpy()]))
            (loss(predicted, part) * (len(part) / batch)).backward()

    _settle(soft, settled=True)
    before = judged()
    _settle(soft, settled=False)
    generator = torch.Generator().manual_seed(seed)
    drawn = (
        torch.randint(min(aside, len(pixels) - 1), len(pixels), (batch,), generator=generator) for _ in range(steps)
    )
    _descend(soft, track(drawn, "learned rounding", steps), pull, steps, lr)
    _settle(soft, settled=True)
    if not judged() < before:  # NaN is no gain
        return start
    return {path: (layer.whole().detach(), layer.limited_bias().detach()) for path, layer in soft.items()}


def _descend(
    soft: Mapping[str, SoftRounding], batches: Iterable[Tensor], pull: Callable[[Tensor], None], steps: int, lr: float
) -> None:
    """Take one step of Adam for each batch; ``pull`` accumulates its gradients."""
    choices = [layer.choice for layer in soft.values() if layer.choice is not None]
    groups = [{"params": choices, "lr": lr}, {"params": [layer.bias for layer in soft.values()], "lr": lr / 10}]
    optimizer = torch.optim.Adam([group for group in groups if group["params"]])
    for step, chosen in enumerate(batches):
        optimizer.zero_grad(set_to_none=True)
        pull(chosen)
        place = (step / steps - WARM) / (1 - WARM)
        if place > 0:
            _press(choices, place)
        for group in optimizer.param_groups:
            group.setdefault("full", group["lr"])
            group["lr"] = group["full"] * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.step()
        _check_finite(soft, step + 1, steps, lr)


def _check_finite(soft: Mapping[str, SoftRounding], step: int, steps: int, lr: float) -> None:
    """Raise InputError if learning has diverged."""
    for path, layer in soft.items():
        values = [layer.bias] if layer.choice is None else [layer.bias, layer.choice]
        if not all(math.isfinite(max_abs(value)) for value in values):
            raise InputError(
                f"learned rounding diverged: layer {path!r} is no longer finite after step {step} of {steps}; try a tenth "
                f"of lr {lr:g}, or another rounding"
            )


def _settle(soft: Mapping[str, SoftRounding], *, settled: bool) -> None:
    for layer in soft.values():
        layer.settled = settled


def _softened(
    model: HashModel, grids: Mapping[str, QuantizationGrid], start: Mapping[str, Rounded]
) -> tuple[dict[str, SoftRounding], nn.Module]:
    net = model.copy_sharing_memory().requires_grad_(requires_grad=False)
    soft: dict[str, SoftRounding] = {}
    for path, grid in grids.items():
        soft[path] = SoftRounding(get_layer(net, path), grid, *start[path])
        set_layer(net, path, soft[path])
    return soft, net


class SoftRounding(nn.Module):
    """A layer with fake-quantized inputs and weights between two whole numbers, until they are settled."""

    def __init__(self, layer: Any, grid: QuantizationGrid, whole: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.layer, self.grid, self.start, self.settled = layer, grid, whole.to(torch.int8), False
        self.bias = nn.Parameter(bias.clone())
        self.most = (grid.scale * grid.steps.double() * MOST).float()  # what integers have room for
        self.choice: nn.Parameter | None = None
        if whole.numel() <= LARGEST:
            real = layer.weight.detach() / _rows(grid.steps, layer.weight)
            self.side = torch.where(real >= whole, 1.0, -1.0)
            self.choice = nn.Parameter(torch.full_like(real, math.log((FIRST - LOW) / (HIGH - FIRST))))

    @property
    def weight(self) -> Tensor:
        """The current weight, for code that reads it without calling the layer."""
        return self.whole() * _rows(self.grid.steps, self.layer.weight)

    def limited_bias(self) -> Tensor:
        """Return the bias (O,), clamped to the range of the integers."""
        return torch.clamp(self.bias, -self.most, self.most)

    def whole(self) -> Tensor:
        """Return the weights between whole numbers, or rounded once settled."""
        if self.choice is None:
            return self.start
        moved = up(self.choice)
        moved = (moved >= 0.5).to(moved.dtype) if self.settled else moved
        return torch.clamp(self.start + self.side * moved, -self.grid.top, self.grid.top)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs; rounded inputs pass gradients straight through within the range."""
        if self.choice is not None:
            return self._outputs(x, self.whole(), slice(None))
        # a large weight: made some rows at a time, and again for the gradient, not kept until then
        size = ROWS if isinstance(self.layer, nn.Linear) else len(self.start)
        parts = [
            checkpoint(self._outputs, x, whole, slice(at, at + size), use_reentrant=False, preserve_rng_state=False)
            for at, whole in zip(range(0, len(self.start), size), self.start.split(size), strict=True)
        ]
        return torch.cat(parts, 1)

    def _outputs(self, x: Tensor, whole: Tensor, rows: slice) -> Tensor:
        grid, layer = self.grid, self.layer
        x = torch.fake_quantize_per_tensor_affine(x, grid.scale, grid.zero, 0, grid.high)
        weight = whole.float().mul_(_rows(grid.steps[rows], layer.weight))
        if isinstance(layer, nn.Linear):
            return functional.linear(x, weight, self.limited_bias()[rows])
        return functional.conv2d(
            x, weight, self.limited_bias(), layer.stride, layer.padding, layer.dilation, layer.groups
        )


def up(choice: Tensor) -> Tensor:
    """Return how far a weight moves to the other whole number, from 0 to 1 (rectified sigmoid)."""
    return torch.clamp(torch.sigmoid(choice) * (HIGH - LOW) + LOW, 0, 1)


def _press(choices: list[nn.Parameter], place: float) -> None:
    """Add the gradient of the regulariser sum(1 - |2 up - 1|^beta), as a growing multiple of the gradient of the loss."""
    beta = SHARP[1] + 0.5 * (SHARP[0] - SHARP[1]) * (1 + math.cos(math.pi * place))
    factor = PRESSURE[0] * (PRESSURE[1] / PRESSURE[0]) ** place
    for choice in choices:
        value = choice.detach().requires_grad_()
        (gradient,) = torch.autograd.grad((1 - (2 * up(value) - 1).abs().pow(beta)).sum(), value)
        if choice.grad is not None:
            size = choice.grad.abs().mean() / gradient.abs().mean().clamp_min(1e-12)
            choice.grad += factor * size * gradient


def _rows(steps: Tensor, weight: Tensor) -> Tensor:
    return steps.view(-1, *[1] * (weight.ndim - 1))
