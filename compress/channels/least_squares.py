"""Refit of layers with fewer inputs to their original outputs by least squares (ThiNet, Luo et al. 2017, arXiv:1707.06342).

From the first layer to the last: each gets its inputs from the narrower network and aims at the outputs of the original
(asymmetric reconstruction, Zhang et al. 2016, arXiv:1505.06798), so that errors do not accumulate. Biases are included;
no labels and no gradients are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ...core.data.images import Pixels
from ...core.heap import released
from ...core.inputs import Input
from ...core.layers import get_layer
from ...core.progress import track
from ..observe.covariance import SecondMoments
from ..observe.hooks import first_call
from ..observe.im2col import patches
from ..observe.sampling import ranges_of

BATCH, VALUES = 16, 1 << 20  # images that run together: at most so many, with so many values
PLACES = 16  # pixels of the output that count per image
SMALLEST = 1e-12  # of the ridge
TOGETHER = 256  # outputs, or columns of a matrix, worked on at once, and rows that are squared together


@torch.no_grad()
def refit(
    net: nn.Module,
    original: nn.Module,
    remaining: Mapping[str, Sequence[int] | np.ndarray],
    pixels: Pixels,
    spec: Input,
    *,
    ridge: float = 1e-3,
    seed: int = 0,
) -> None:
    """Refit each layer of ``remaining`` in ``net``, in this order and in place. ``remaining`` maps layers to their remaining outputs.

    ``ridge`` is relative to the mean square of the inputs and regularises towards the current weights.
    """
    for path, rows in released(track(remaining.items(), "least squares", len(remaining))):
        layer: Any = get_layer(net, path)
        fit = _Normal(layer, len(pixels), seed)
        for part in ranges_of(pixels, BATCH, VALUES):
            inputs = spec.tensor(pixels[part])
            _, targets = first_call(original, path, inputs)
            current, got = first_call(net, path, inputs)
            fit.add(current, targets[:, torch.as_tensor(rows)] - got)
        for outputs, change in fit.solved(ridge):
            weight = layer.weight[outputs]
            weight += change[:-1].T.reshape(weight.shape).to(weight.dtype)
            if layer.bias is not None:
                layer.bias[outputs] += change[-1].to(layer.bias.dtype)
        del fit, change


class _Normal:
    """The normal equations of one layer: inputs with a constant one, and the residuals of the outputs.

    If there are at most half as many rows as inputs, the rows themselves are stored and solved for.
    """

    def __init__(self, layer: nn.Conv2d | nn.Linear, images: int, seed: int) -> None:
        self.layer, self.images = layer, images
        self.size = layer.weight[0].numel() + 1
        self.inputs = torch.empty(0, self.size)  # room for rows, made once, and how many it holds
        self.missing = torch.empty(0, len(layer.weight))
        self.used = 0
        self.squares: SecondMoments | None = None  # inputs by inputs, inputs by outputs
        self.generator = torch.Generator().manual_seed(seed)

    def add(self, inputs: torch.Tensor, missing: torch.Tensor) -> None:
        """Add inputs and residuals (N, O[, H, W]) of the layer."""
        x, y = inputs, missing
        if isinstance(self.layer, nn.Conv2d):
            places = torch.randperm(missing[0, 0].numel(), generator=self.generator)[:PLACES]
            x = patches(inputs, self.layer, places).flatten(0, 1)
            y = missing.flatten(2)[:, :, places].transpose(1, 2).flatten(0, 1)
        if not len(self.inputs):
            self._make_room(self.images * (len(x) // len(inputs)))
        while len(x):
            taken = self._put(x, y)
            x, y = x[taken:], y[taken:]

    def _make_room(self, rows: int) -> None:
        if rows > self.size // 2:
            rows = min(rows, TOGETHER)
            self.squares = SecondMoments(self.size, self.missing.shape[1])
        self.inputs = self.inputs.new_empty(rows, self.size)
        self.missing = self.missing.new_empty(rows, self.missing.shape[1])
        self.inputs[:, -1] = float(self.layer.bias is not None)

    def _put(self, x: torch.Tensor, y: torch.Tensor) -> int:
        """Store as many rows as the buffer holds and return how many; full buffers are accumulated and reused."""
        part = slice(self.used, min(self.used + len(x), len(self.inputs)))
        taken = part.stop - part.start
        self.inputs[part, :-1], self.missing[part] = x[:taken], y[:taken]
        self.used = part.stop
        if self.squares is not None and self.used == len(self.inputs):
            self._square(self.squares)
        return taken

    def _square(self, squares: SecondMoments) -> None:
        squares.add(self.inputs[: self.used].double(), self.missing[: self.used].double())
        self.used = 0

    def solved(self, ridge: float) -> Iterator[tuple[slice, torch.Tensor]]:
        """Yield the change of weights and, last, bias (d + 1, o), for ``o`` outputs at a time, and the indices of these outputs.

        The accumulated sums are consumed.
        """
        if self.squares is not None:
            self._square(self.squares)
            gram, products = self.squares.gram, self.squares.cross
            del self.inputs, self.missing
            self.squares = None
            gram.diagonal().add_(max(float(gram.diagonal()[:-1].mean()) * ridge, SMALLEST))
            factors, across = _factored(gram), None
        else:
            across, products = self.inputs[: self.used], self.missing[: self.used]
            among = torch.zeros(self.used, self.used, dtype=torch.float64)
            for columns in across.split(TOGETHER, dim=1):  # all in double precision would be twice the rows
                x = columns.double()
                among += x @ x.T
            squares = torch.cat([part.double().square().sum(0) for part in across[:, :-1].split(TOGETHER, dim=1)])
            among.diagonal().add_(max(float(squares.mean()) * ridge, SMALLEST))
            factors = _factored(among)
        for start in range(0, products.shape[1], TOGETHER):
            part = slice(start, start + TOGETHER)
            change = torch.linalg.lu_solve(*factors, products[:, part].double())
            if across is not None:
                change = torch.cat([columns.T.double() @ change for columns in across.split(TOGETHER, dim=1)])
            yield part, change


def _factored(square: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the LU factors of a symmetric matrix, which is overwritten."""
    columns = square.T  # as LAPACK reads it
    factors, pivots = torch.linalg.lu_factor(columns, out=(columns, torch.empty(0, dtype=torch.int32)))
    return factors, pivots
