"""Batched forward passes with collectors on the inputs and outputs of layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.data.images import Pixels
from ...core.inputs import Input
from .hooks import hooks, layers_at
from .sampling import batches

Collector = Callable[[Tensor, Tensor], None]  # takes input and output of one call of a layer


def run(net: nn.Module, spec: Input, pixels: np.ndarray) -> None:
    """Run images (N, C, H, W) through a network in evaluation mode, on its device."""
    device = next((value.device for value in net.parameters()), torch.device("cpu"))
    net.eval()(spec.tensor(pixels).to(device))


@torch.no_grad()
def observe(
    net: nn.Module,
    spec: Input,
    pixels: Pixels,
    taps: Mapping[str, Collector],
    *,
    what: str,
    batch: int | None = None,
    values: int | None = None,
    first: bool = False,
) -> None:
    """Run all images through ``net`` and pass the first input and the output of every call of a layer to its collector.

    ``taps`` are collectors by the path of their layer; with ``first`` they only get the first call in each batch. At
    most ``batch`` images with ``values`` values run at once (see :mod:`.sampling`), which bounds the memory apart from
    what the collectors store.
    """
    waiting: set[str] = set()

    def hand(path: str, _layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if path in waiting or not first:
            waiting.discard(path)
            taps[path](inputs[0], output)

    with hooks(layers_at(net, taps), after=hand):
        for _, part in batches(pixels, what, batch, values):
            waiting.update(taps)
            run(net, spec, part)
