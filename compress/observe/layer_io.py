"""Outputs of the original layers together with inputs of the compressed ones, for asymmetric reconstruction.

Later layers thereby correct the errors of earlier ones (Wu et al. 2016, arXiv:1512.06473, section 3.3; Zhang et al.
2016, arXiv:1505.06798). Convolutions are sampled at random positions of every image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ...core.data.images import Pixels
from ...core.errors import InputError
from ...core.inputs import Input
from ...core.layers import get_layer
from .covariance import SecondMoments
from .hooks import calls, first_inputs, first_outputs
from .im2col import windows
from .sampling import Places, ranges_of

BATCH, VALUES = 50, 3 << 20  # images run at once: at most so many, with so many values
KEPT = 12 << 20  # values of samples kept for later
CONDENSED = 4096  # inputs of a group up to which many samples are replaced by as many rows as there are inputs
DAMPINGS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)  # shares of the mean square: inputs that depend on each other need more


class SampledOutputs:
    """Sampled output rows (R, O) of several layers of ``net``, at positions drawn from ``seeds``, in one run of the images.

    One run per layer would take as long as the fitting itself. Samples of later layers are stored as long as they are
    small; layers with larger samples are sampled batch by batch when needed. ``ran`` lists path and output shape of one
    image, in the order in which the layers run and are requested.
    """

    def __init__(
        self,
        net: nn.Module,
        ran: Iterable[tuple[str, torch.Size]],
        pixels: Pixels,
        spec: Input,
        seeds: Mapping[str, int],
    ) -> None:
        self.net, self.pixels, self.spec, self.seeds = net, pixels, spec, seeds
        self.shapes: dict[str, torch.Size] = {}
        for path, shape in ran:
            self.shapes.setdefault(path, shape)  # a layer's first call is what it is fitted to
        self.kept: dict[str, Tensor] = {}

    def of(self, path: str) -> Iterator[Tensor]:
        """Yield the rows of a layer, batch by batch, and discard them."""
        group = self._together(path) if path not in self.kept else []
        if len(group) == 1:
            for rows in self._sampled(group):
                yield rows[path]
            return
        if group:
            self._keep(group)
        kept = self.kept.pop(path)
        each = len(kept) // len(self.pixels)
        for part in ranges_of(self.pixels, BATCH, VALUES):
            yield kept[part.start * each : part.stop * each]

    def _together(self, path: str) -> list[str]:
        """Return the layers from ``path`` on whose samples fit into memory together, at least ``path`` itself."""
        later = list(self.shapes)[list(self.shapes).index(path) :]
        totals = {other: sum(self._values(one) for one in later[: at + 1]) for at, other in enumerate(later)}
        return list(takewhile(lambda other: totals[other] <= KEPT, later)) or [path]

    def _values(self, path: str) -> int:
        """Return the number of values in the samples of a layer."""
        layer, shape = get_layer(self.net, path), self.shapes[path]
        if isinstance(layer, nn.Linear):
            return len(self.pixels) * prod(shape)
        points = Places(layer, len(self.pixels), 0).points
        return len(self.pixels) * min(points, prod(shape[2:])) * shape[1]

    def _keep(self, group: list[str]) -> None:
        used = dict.fromkeys(group, 0)
        for samples in self._sampled(group):
            for path, rows in samples.items():
                if path not in self.kept:  # made once: parts between what a network uses keep the heap from shrinking
                    images = next(ranges_of(self.pixels, BATCH, VALUES)).stop
                    self.kept[path] = torch.empty(len(rows) // images * len(self.pixels), rows.shape[1])
                self.kept[path][used[path] : used[path] + len(rows)] = rows
                used[path] += len(rows)

    def _sampled(self, group: list[str]) -> Iterator[dict[str, Tensor]]:
        layers: dict[str, Any] = {path: get_layer(self.net, path) for path in group}
        places = {path: Places(layer, len(self.pixels), self.seeds[path]) for path, layer in layers.items()}
        for part in ranges_of(self.pixels, BATCH, VALUES):
            images = self.spec.tensor(self.pixels[part])
            outputs = first_outputs(self.net, group, images)
            del images  # as large as what is still to run beside it
            yield {path: _output_rows(layers[path], outputs.pop(path), places[path]) for path in group}


@dataclass(frozen=True)
class Group:
    """Centred inputs (R, P, I) and targets (R, O) of one channel group, and its original weight (O, P, I).

    Inputs are permuted by ``order`` (I,), the weight is not: a copy would be as large as the layer.
    """

    inputs: Tensor
    targets: Tensor
    weight: Tensor
    order: Tensor | None = None

    def original(self, outputs: slice, columns: slice) -> Tensor:
        """Return a slice of the weight with permuted inputs, padded with zeros if ``columns`` exceed them."""
        own = self.weight[outputs]
        part = own[:, :, columns if self.order is None else self.order[columns].long()]
        return pad(part, (0, columns.stop - columns.start - part.shape[2]))


@dataclass(frozen=True)
class LayerSamples:
    """The groups of a layer, with the means (G, P, I) and (G, O) that were subtracted from inputs and targets."""

    groups: tuple[Group, ...]
    input_means: Tensor
    target_means: Tensor

    def bias(self, weight: Tensor, rows: slice) -> Tensor:
        """Return the bias (R,) that restores the mean outputs of ``rows`` for ``weight`` (R, P, I)."""
        groups = torch.arange(self.target_means.numel())[rows] // self.target_means.shape[1]
        return self.target_means.reshape(-1)[rows] - torch.einsum("opi,opi->o", weight, self.input_means[groups])


def collect(
    reference: nn.Module,
    net: nn.Module,
    path: str,
    pixels: Pixels,
    spec: Input,
    *,
    order: Tensor | None = None,
    seed: int = 0,
    targets: SampledOutputs | None = None,
) -> LayerSamples:
    """Return the outputs of layer ``path`` of ``reference`` and its inputs in ``net``.

    ``order`` permutes the channels (I,) of every group. ``targets``, sampled from ``reference`` with the ``seed`` of
    this layer, avoid another run for this layer.
    """
    layer: Any = get_layer(reference, path)
    weight = layer.weight.detach()[..., None, None] if isinstance(layer, nn.Linear) else layer.weight.detach()
    groups = getattr(layer, "groups", 1)
    outputs, inputs, kernel = weight.shape[0] // groups, weight.shape[1], weight[0, 0].numel()
    channels = slice(None) if order is None else order.long()
    totals: list[_Total] = []
    targets = targets or SampledOutputs(reference, calls(reference, [path], spec), pixels, spec, {path: seed})
    places = Places(layer, len(pixels), seed)
    for batch, y in zip(ranges_of(pixels, BATCH, VALUES), targets.of(path), strict=True):
        images = spec.tensor(pixels[batch])
        x = _seen(layer, first_inputs(net, [path], images)[path], places)  # (R, I, kH, kW), beside y (R, O)
        rows = len(x) // len(images) * len(pixels)
        totals = totals or [
            _Total(inputs * kernel, outputs, rows, len(x), centred=layer.bias is not None) for _ in range(groups)
        ]
        for group, total in enumerate(totals):
            part = x[:, group * inputs : (group + 1) * inputs].flatten(2)[:, channels].transpose(1, 2)  # (R, P, I)
            total.add(part.flatten(1), y[:, group * outputs : (group + 1) * outputs])
        del x, y
    made, means = [], []
    for group, total in enumerate(totals):
        x, y, *mean = total.finish()
        own = weight[group * outputs : (group + 1) * outputs].flatten(2).transpose(1, 2)
        made.append(Group(x.view(-1, kernel, inputs), y, own.contiguous(), order))
        means.append(mean)
    return LayerSamples(
        tuple(made),
        torch.stack([mean[0].view(kernel, inputs) for mean in means]),
        torch.stack([mean[1] for mean in means]),
    )


def _output_rows(layer: nn.Module, output: Tensor, places: Places) -> Tensor:
    """Return the outputs (R, O) of a layer at the positions of every image; of a dense layer, all outputs."""
    if isinstance(layer, nn.Linear):
        return output.reshape(-1, output.shape[-1])
    image, row, column = places.draw(len(output), *output.shape[2:])
    return output[image, :, row, column]


def _seen(layer: Any, given: Tensor, places: Places) -> Tensor:
    """Return the input windows (R, I, kH, kW) of a layer at the positions of every image; of a dense layer, all inputs."""
    if isinstance(layer, nn.Linear):
        return given.reshape(-1, given.shape[-1], 1, 1)
    seen = windows(given, layer)
    return seen[places.draw(*seen.shape[:3])]


class _Total:
    """Accumulates samples: rows as they are while they are fewer than the inputs, else their second moments.

    ``rows`` is the total number of rows, ``portion`` the largest number added at once.
    """

    def __init__(self, inputs: int, outputs: int, rows: int, portion: int, *, centred: bool) -> None:
        self.inputs, self.centred, self.count, self.used = inputs, centred, 0, 0
        self.condensed = inputs <= CONDENSED and rows > inputs
        room = min(rows, inputs + portion) if self.condensed else rows
        self.x, self.y = torch.empty(room, inputs), torch.empty(room, outputs)  # made once
        self.sums = torch.zeros(inputs + outputs, dtype=torch.float64)
        self.moments: SecondMoments | None = None
        self.shift = torch.zeros(inputs + outputs)  # near the means: squares of what is far from zero lose the rest

    def add(self, x: Tensor, y: Tensor) -> None:
        """Add samples (R, inputs) and (R, outputs)."""
        if self.centred and not self.count:
            self.shift = torch.cat([x.mean(0), y.mean(0)]).float()
        self.count += len(x)
        self.sums += torch.cat([x.sum(0, dtype=torch.float64), y.sum(0, dtype=torch.float64)])
        place = slice(self.used, self.used + len(x))
        self.x[place], self.y[place], self.used = x, y, place.stop
        if self.condensed and self.used > (self.inputs if self.moments is None else self.inputs // 8):
            self.condense()

    def condense(self) -> None:
        """Add the stored samples to the moments."""
        x, y = self._shifted()
        if self.moments is None:
            self.moments = SecondMoments(self.inputs, y.shape[1])
        self.moments.add(x, y)
        self.used = 0

    def _shifted(self) -> tuple[Tensor, Tensor]:
        """Return the stored samples, shifted in place."""
        x, y = self.x[: self.used], self.y[: self.used]
        return x.sub_(self.shift[: self.inputs]), y.sub_(self.shift[self.inputs :])

    def finish(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return inputs, targets and the subtracted means."""
        whole = self.sums / max(self.count, 1) if self.centred else torch.zeros_like(self.sums)
        mean = whole - self.shift
        means = whole[: self.inputs].float(), whole[self.inputs :].float()
        if self.moments is None:
            x, y = self._shifted()
            return x.sub_(mean[: self.inputs].float()), y.sub_(mean[self.inputs :].float()), *means
        if self.used:
            self.condense()
        del self.x, self.y
        self.moments.centre(mean[: self.inputs], mean[self.inputs :], self.count)
        lower = _root(self.moments.gram)
        targets = torch.linalg.solve_triangular(lower, self.moments.cross, upper=False)
        return lower.T.float().contiguous(), targets.float(), *means


def _root(gram: Tensor) -> Tensor:
    """Return the lower Cholesky factor of moments (I, I), damped in place until they are positive definite."""
    size = float(gram.diagonal().mean())
    for damping in DAMPINGS:
        gram.diagonal().add_(damping * size + 1e-30)
        lower, fault = torch.linalg.cholesky_ex(gram)
        if not fault:
            return lower
    raise InputError("the inputs of a layer are no numbers, or too large for their squares to be")
