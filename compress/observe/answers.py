"""What the original network answers where a compressed one is to be fitted: several layers in one run of its images.

A run for every layer would take as long as all the fitting. Samples of layers that come later are kept as far as they are
small; those of a layer that is too large for that are heard when its turn comes, batch by batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import takewhile
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ...core.data.images import Pixels, together
from ...core.heap import give_back
from ...core.inputs import Input
from ...core.layers import get_layer

SAMPLES = 4096  # wanted at least of every layer
PER_INPUT = 4  # samples wanted for every input
BATCH, VALUES = 50, 3 << 20  # images run at once: at most so many, with so many values
KEPT = 12 << 20  # values of samples kept for later


class Places:
    """Random places of a layer's output, batch by batch; the same for all that draw them from one seed.

    ``images`` is how many there are in all batches.
    """

    def __init__(self, layer: Any, images: int, seed: int) -> None:
        self.points = -(-max(PER_INPUT * layer.weight[0].numel(), SAMPLES) // images)
        self.random = torch.Generator().manual_seed(seed)

    def draw(self, images: int, rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return image, row and column of up to ``points`` places of each of ``images``."""
        places = torch.rand(images, rows * columns, generator=self.random).argsort(1)[:, : self.points]
        image = torch.arange(images)[:, None].expand_as(places).reshape(-1)
        return image, places.reshape(-1) // columns, places.reshape(-1) % columns


class Answers:
    """Rows (R, O) that layers of ``net`` give at the places of their ``seeds``.

    ``ran`` tells path and output shape of one image, in the order in which the layers run and will be asked for.
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
        """Yield the rows of a layer, batch by batch; they are forgotten behind it."""
        group = self._together(path) if path not in self.kept else []
        if len(group) == 1:
            for answers in self._heard(group):
                yield answers[path]
            return
        if group:
            self._keep(group)
        rows = self.kept.pop(path)
        each = len(rows) // len(self.pixels)
        for start, images in starts(self.pixels):
            yield rows[start * each : (start + images) * each]

    def _together(self, path: str) -> list[str]:
        """Return the layers from ``path`` on whose samples are small enough together, at least itself."""
        later = list(self.shapes)[list(self.shapes).index(path) :]
        totals = {other: sum(self._values(one) for one in later[: at + 1]) for at, other in enumerate(later)}
        return list(takewhile(lambda other: totals[other] <= KEPT, later)) or [path]

    def _values(self, path: str) -> int:
        """Return how many values the samples of a layer have."""
        layer, shape = get_layer(self.net, path), self.shapes[path]
        if isinstance(layer, nn.Linear):
            return len(self.pixels) * prod(shape)
        points = Places(layer, len(self.pixels), 0).points
        return len(self.pixels) * min(points, prod(shape[2:])) * shape[1]

    def _keep(self, group: list[str]) -> None:
        used = dict.fromkeys(group, 0)
        for answers in self._heard(group):
            for path, rows in answers.items():
                if path not in self.kept:  # made once: parts between what a network uses keep the heap from shrinking
                    images = next(starts(self.pixels))[1]
                    self.kept[path] = torch.empty(len(rows) // images * len(self.pixels), rows.shape[1])
                self.kept[path][used[path] : used[path] + len(rows)] = rows
                used[path] += len(rows)

    def _heard(self, group: list[str]) -> Iterator[dict[str, Tensor]]:
        layers: dict[str, Any] = {path: get_layer(self.net, path) for path in group}
        places = {path: Places(layer, len(self.pixels), self.seeds[path]) for path, layer in layers.items()}
        for start, images in starts(self.pixels):
            shown = self.spec.tensor(self.pixels[start : start + images])
            heard = caught(self.net, group, shown, 1)
            del shown  # as large as what is still to run beside it
            yield {path: sampled(layers[path], heard.pop(path), places[path]) for path in group}
            give_back()


def starts(pixels: Pixels) -> Iterator[tuple[int, int]]:
    """Yield where each batch of images begins, and how many it has."""
    step = together(pixels, BATCH, VALUES)
    for start in range(0, len(pixels), step):
        yield start, min(step, len(pixels) - start)


def sampled(layer: nn.Module, output: Tensor, places: Places) -> Tensor:
    """Return what a layer answers (R, O) at places of every image; a dense layer, all that it answers."""
    if isinstance(layer, nn.Linear):
        return output.reshape(-1, output.shape[-1])
    image, row, column = places.draw(len(output), *output.shape[2:])
    return output[image, :, row, column]


class _Reached(Exception):  # noqa: N818  # no error: the rest of the network need not run
    pass


def caught(net: nn.Module, paths: Iterable[str], images: Tensor, which: int) -> dict[str, Tensor]:
    """Return the input (0) or the output (1) of layers at their first call, without running what comes behind them."""
    found: dict[str, Tensor] = {}
    wanted = set(paths)

    def hook(path: str) -> Any:
        def catch(_layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            found.setdefault(path, (args[0], output)[which].detach())
            if found.keys() == wanted:
                raise _Reached

        return catch

    handles = [get_layer(net, path).register_forward_hook(hook(path)) for path in wanted]
    try:
        with torch.no_grad():
            net(images)
    except _Reached:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return found
