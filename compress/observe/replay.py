"""Outputs of networks that differ from a given one in a single layer, without running the layers before it.

Where a shortcut depends on layers before it, the enclosing block runs again as a whole. Skipped layers return NaN, and the
layer or block gets its recorded inputs. Whether anything after it depends on the skipped layers is tested on the network
itself: its outputs have to be equal to the last bit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.data.images import Pixels
from ...core.errors import HashpressError
from ...core.layers import get_layer
from ...core.model import HashModel
from ...hashnets.retrieval.codes import outputs
from .external_reads import externally_read
from .hooks import hooks, layers_at

TRIED = 8  # images on which it is tried whether a module can be replayed


class Replay:
    """Recorded inputs of the layer or block at ``path`` for all ``pixels`` (N, C, H, W), if layers before it can be skipped."""

    def __init__(self, model: HashModel, path: str, pixels: Pixels) -> None:
        self.path, self.pixels = path, pixels
        self.inputs: list[Tensor] = []
        self.shapes: dict[str, torch.Size] = {}  # of what the layers before it give
        expected = self._recorded(model)
        if self.shapes and not self._same(model, expected):
            self.shapes.clear()
        if not self.shapes:
            self.inputs.clear()

    @classmethod
    def around(cls, model: HashModel, path: str, pixels: Pixels) -> Replay:
        """Return the replay of the layer at ``path``, or of the smallest module around it that can be replayed."""
        around = [path, *_above(path)]
        return cls(model, next((at for at in around if cls(model, at, pixels[:TRIED]).shapes), path), pixels)

    def outputs(self, model: HashModel) -> np.ndarray:
        """Return the real-valued outputs, float32 (N, bits), of a network that differs only in the module at ``path``."""
        if not self.shapes:
            return outputs(model, self.pixels)
        with self._skipping(model.net):
            return outputs(model, self.pixels)

    def _recorded(self, model: HashModel) -> np.ndarray:
        """Run the network once; record the inputs of the layer, and the shapes of layers called once before it."""
        runs: Counter[str] = Counter()  # the network's own under its own name, ""
        seen: dict[str, torch.Size] = {}
        ahead: set[str] = set()

        def begin(_path: str, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if not runs[self.path]:
                ahead.update(seen)
            if ahead and len(inputs) == 1 and isinstance(inputs[0], Tensor):
                self.inputs.append(inputs[0].clone())

        def note(path: str, _layer: nn.Module, _inputs: Any, output: Any) -> None:
            runs[path] += 1
            if isinstance(output, Tensor) and path not in ("", self.path):
                seen[path] = output.shape

        followed = dict(model.net.named_modules())
        with hooks(layers_at(model.net, [self.path]), before=begin), hooks(followed, after=note):
            expected = outputs(model, self.pixels)
        own = {id(value) for value in get_layer(model.net, self.path).parameters()}
        others = (get_layer(model.net, path) for path in ahead)
        tied = any(id(value) in own for layer in others for value in layer.parameters())
        # inputs of a layer that is called twice, or whose weight something before it has as well, depend on it
        once = runs[self.path] == len(self.inputs) == runs[""]
        if once and not tied and not any(f"{path}.".startswith(f"{self.path}.") for path in externally_read(model)):
            single = {path for path in ahead if runs[path] == runs[""]}
            self.shapes = {path: seen[path] for path in single if not single & set(_above(path))}
        return expected

    def _same(self, model: HashModel, expected: np.ndarray) -> bool:
        try:
            return np.array_equal(self.outputs(model), expected)
        except (HashpressError, RuntimeError, TypeError, ValueError):
            return False  # outputs that are no numbers, or code that stumbles over them

    @contextmanager
    def _skipping(self, net: nn.Module) -> Iterator[None]:
        """Skip the layers before the layer at ``path`` and pass it its recorded inputs."""
        turn = iter(self.inputs)
        skipped = [(get_layer(net, path), shape) for path, shape in self.shapes.items()]

        def nothing(shape: torch.Size) -> Callable[..., Tensor]:
            return lambda given, *_args, **_named: torch.full((len(given), *shape[1:]), math.nan)

        for layer, shape in skipped:
            vars(layer)["forward"] = nothing(shape)  # in front of that of its class
        try:
            with hooks(layers_at(net, [self.path]), before=lambda *_: (next(turn),)):
                yield
        finally:
            for layer, _ in skipped:
                del vars(layer)["forward"]


def _above(path: str) -> list[str]:
    """Return the modules around the one at ``path``, the smallest first, without the network itself."""
    names = path.split(".")
    return [".".join(names[:depth]) for depth in range(len(names) - 1, 0, -1)]
