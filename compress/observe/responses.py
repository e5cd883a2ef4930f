"""Listening to a network while it runs: what layers give, and what becomes of it.

It works on any network that runs, also on those that no tracer understands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...core.errors import InputError
from ...core.inputs import Input
from ...core.layers import get_layer

ADDS = {"add", "add_", "__add__", "__iadd__", "__radd__"}
RELUS = {"relu", "relu_"}
POOLS = {"max_pool2d", "boolean_dispatch", "max_pool2d_with_indices"}  # they commute with a ReLU


@dataclass
class Activations:
    """Rows (N, d) of float32 that layers gave at sampled places; of ``sums`` the result of the addition behind it."""

    outputs: dict[str, np.ndarray]
    sums: dict[str, np.ndarray]


def calls(net: nn.Module, paths: Iterable[str], spec: Input) -> list[tuple[str, torch.Size]]:
    """Return path and output shape of layers as they run on an image, each not at all, once or several times."""
    order: list[tuple[str, torch.Size]] = []
    handles = [
        get_layer(net, path).register_forward_hook(
            lambda _layer, _args, output, path=path: order.append((path, output.shape))
        )
        for path in paths
    ]
    try:
        with torch.inference_mode():
            net(spec.example())
    finally:
        for handle in handles:
            handle.remove()
    return order


class HeardAllError(Exception):
    """Not a fault: the rest of the network need not run."""


class Watcher(TorchFunctionMode):
    """Follows outputs of layers to the first operation that is not pooling or an identity."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.layers = {path: layer for path, layer in net.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
        self.found: dict[str, str] = {}
        self.sources: dict[int, tuple[str, Tensor]] = {}  # the tensor is kept, so its number is not given away

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hear every layer's output."""
        handles = [
            layer.register_forward_hook(lambda _layer, _args, output, path=path: self.hear(path, output))
            for path, layer in self.layers.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def hear(self, path: str, output: Tensor) -> None:
        """Note whose output this tensor is."""
        self.found.setdefault(path, "none")
        self.sources[id(output)] = (path, output)

    def met(self, path: str, what: str, result: Tensor) -> None:  # noqa: ARG002  # for whoever keeps it
        """Note what happened to the output of ``path``."""
        if self.found.get(path) == "none":
            self.found[path] = what

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        watched = name in ADDS or name in RELUS or name in POOLS
        known = [self.sources[id(arg)][0] for arg in args if id(arg) in self.sources] if watched else []
        result = func(*args, **(kwargs or {}))
        for path in known:
            if name in POOLS:
                self.sources[id(result)] = (path, result)
            else:
                self.met(path, "relu" if name in RELUS else "sum", result)
        if known and name not in POOLS:  # what comes next happens to the result, not to the layer's output
            for arg in args:
                self.sources.pop(id(arg), None)
        return result


class Hearing(Watcher):
    """Keeps sampled rows of some layers' outputs and of the sums behind them."""

    def __init__(self, net: nn.Module, paths: tuple[str, ...], sums: tuple[str, ...], places: int, seed: int) -> None:
        super().__init__(net)
        self.layers = {path: get_layer(net, path) for path in dict.fromkeys((*paths, *sums))}  # type: ignore[misc]
        self.paths, self.sums, self.places, self.seed = paths, sums, places, seed
        self.rows: dict[tuple[str, str], list[np.ndarray]] = {}
        self.start = 0
        self.missing: set[tuple[str, str]] = set()

    def begin(self, start: int) -> None:
        """Start a batch."""
        self.sources.clear()
        self.found.clear()
        self.start = start
        self.missing = {*(("output", path) for path in self.paths), *(("sum", path) for path in self.sums)}

    def hear(self, path: str, output: Tensor) -> None:
        """Take rows of a layer's output."""
        if path in self.sums:
            super().hear(path, output)
        if path in self.paths:
            self.take("output", path, output)

    def met(self, path: str, what: str, result: Tensor) -> None:
        """Take rows of the sum behind a layer."""
        if what == "sum":
            self.take("sum", path, result)

    def take(self, what: str, path: str, values: Tensor) -> None:
        """Keep the values at this batch's places."""
        rows = values.detach().float().cpu()
        if rows.ndim == 4:
            flat = rows.flatten(2)
            random = np.random.default_rng((self.seed, self.start))
            rows = drawn(flat, self.places, random)
        self.rows.setdefault((what, path), []).append(rows.reshape(-1, rows.shape[-1]).numpy().copy())
        self.missing.discard((what, path))  # a layer that is called again has been heard before
        if not self.missing:
            raise HeardAllError

    def result(self) -> Activations:
        """Return everything heard.

        Raises:
            InputError: a layer never ran, or no addition follows it.
        """
        for what, wanted in (("output", self.paths), ("sum", self.sums)):
            for path in wanted:
                if (what, path) not in self.rows:
                    raise InputError(f"layer {path!r}: no {what} was seen while the network ran")
        return Activations(
            {path: np.concatenate(self.rows["output", path]) for path in self.paths},
            {path: np.concatenate(self.rows["sum", path]) for path in self.sums},
        )


def drawn(columns: Tensor, places: int, random: np.random.Generator) -> Tensor:
    """Return ``places`` random columns of each image as rows (N, places, D) of (N, D, L); all when there are no more."""
    count, size, length = columns.shape
    if places < length:
        chosen = torch.from_numpy(random.integers(0, length, (count, places)))
        columns = columns.gather(2, chosen[:, None, :].expand(-1, size, -1))
    return columns.transpose(1, 2)
