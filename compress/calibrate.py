"""What layers see and give on real images, measured once: responses at sampled places, moments of input patches.

Memory is bounded by the sample, not by the images or the network: values are taken out while a batch runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ..core.data.images import Split
from ..core.errors import InputError
from ..core.model import HashModel
from ..core.progress import track
from ..core.surgery import get_layer

ADDS = {"add", "add_", "__add__", "__iadd__", "__radd__"}
RELUS = {"relu", "relu_"}
POOLS = {"max_pool2d", "boolean_dispatch", "max_pool2d_with_indices"}  # they commute with a ReLU


def choose(split: Split, count: int, seed: int = 0) -> np.ndarray:
    """Return pixels (n, C, H, W) of at most ``count`` training images, drawn from ``seed``."""
    size = len(split.train)
    index = np.random.default_rng(seed).permutation(size)[: min(count, size)]
    return split.train.take(np.sort(index)).pixels


def followers(model: HashModel, pixels: np.ndarray) -> dict[str, str]:
    """Return what becomes of each layer's output: ``relu``, ``sum`` (a residual branch ends there) or ``none``.

    Found by watching one image run, so it works on networks that no tracer understands. Max pooling between a layer and
    its ReLU does not matter.
    """
    watcher = _Watcher(model.net)
    with watcher.watching(), watcher, torch.no_grad():
        _run(model, pixels[:1])
    return watcher.found


@dataclass
class Responses:
    """Rows (N, d) of float32 that layers gave at sampled places; of ``sums`` the result of the addition behind it."""

    outputs: dict[str, np.ndarray]
    sums: dict[str, np.ndarray]


def responses(
    model: HashModel,
    pixels: np.ndarray,
    paths: Sequence[str],
    *,
    sums: Sequence[str] = (),
    places: int = 10,
    seed: int = 0,
    batch: int = 100,
) -> Responses:
    """Return what the layers at ``paths`` give, at ``places`` random places per image (of dense layers: the one there is).

    The places depend on ``seed`` and the size of a layer's output alone: layers and networks of equal sizes are sampled
    alike.
    The batch stops running when the last of the layers has been heard.
    """
    hearing = _Hearing(model.net, tuple(paths), tuple(sums), places, seed)
    with hearing.watching(), hearing, torch.no_grad():
        for start in track(range(0, len(pixels), batch), "responses"):
            hearing.begin(start)
            with suppress(_HeardAllError):
                _run(model, pixels[start : start + batch])
    return hearing.result()


@dataclass
class Moments:
    """Mean (D,) and covariance (D, D) of rows that come in portions; float64."""

    size: int
    count: int = 0
    total: np.ndarray = field(init=False)
    square: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.total, self.square = np.zeros(self.size), np.zeros((self.size, self.size))
        self.shift: np.ndarray | None = None

    def add(self, rows: np.ndarray) -> None:
        """Count ``rows`` (N, D) in; sums are taken around the first portion's mean, so that nothing cancels."""
        rows = rows.astype(np.float64)
        if self.shift is None:
            self.shift = rows.mean(axis=0)
        rows = rows - self.shift
        self.count += len(rows)
        self.total += rows.sum(axis=0)
        self.square += rows.T @ rows

    @property
    def mean(self) -> np.ndarray:
        """The mean."""
        shift = np.zeros(self.size) if self.shift is None else self.shift
        return shift + self.total / max(self.count, 1)

    @property
    def covariance(self) -> np.ndarray:
        """The covariance around the mean."""
        mean = self.total / max(self.count, 1)
        return self.square / max(self.count, 1) - np.outer(mean, mean)


def response_moments(
    model: HashModel, pixels: np.ndarray, paths: Sequence[str], *, places: int = 10, seed: int = 0, batch: int = 100
) -> dict[str, Moments]:
    """Return the moments of the responses of many layers, in one run and without keeping the responses."""
    moments: dict[str, Moments] = {}
    for start in track(range(0, len(pixels), batch), "statistics"):
        part = responses(model, pixels[start : start + batch], paths, places=places, seed=seed + start, batch=batch)
        for path, rows in part.outputs.items():
            moments.setdefault(path, Moments(rows.shape[1])).add(rows)
    return moments


def patch_moments(
    model: HashModel,
    pixels: np.ndarray,
    path: str,
    *,
    channels: bool = False,
    places: int = 10,
    seed: int = 0,
    batch: int = 100,
) -> list[Moments]:
    """Return, for every group of a layer, the moments of its input patches (S / groups, kh, kw), flattened.

    With ``channels`` only those of single pixels (S / groups,).
    """
    layer: Any = get_layer(model.net, path)
    dense = isinstance(layer, nn.Linear)
    groups = 1 if dense else layer.groups
    kernel = (1, 1) if dense or channels else layer.kernel_size
    size = (layer.in_features if dense else layer.in_channels // groups) * kernel[0] * kernel[1]
    moments = [Moments(size) for _ in range(groups)]
    random = np.random.default_rng(seed)

    def take(_layer: nn.Module, args: tuple[Tensor, ...], _output: Tensor) -> None:
        for group, part in zip(moments, args[0].chunk(groups, dim=-1 if dense else 1), strict=True):
            if dense:
                group.add(part.reshape(-1, size).numpy())
                continue
            columns = part.flatten(2) if channels else _patches(part, layer)  # (N, D, L)
            chosen = random.integers(0, columns.shape[2], (len(columns), min(places, columns.shape[2])))
            index = torch.from_numpy(chosen)[:, None, :].expand(-1, size, -1)
            group.add(columns.gather(2, index).transpose(1, 2).reshape(-1, size).numpy())

    handle = layer.register_forward_hook(take)
    try:
        with torch.no_grad():
            for start in track(range(0, len(pixels), batch), "patches"):
                _run(model, pixels[start : start + batch])
    finally:
        handle.remove()
    if not moments[0].count:
        raise InputError(f"layer {path!r} did not run: nothing is known about its inputs")
    return moments


def _patches(images: Tensor, layer: nn.Conv2d) -> Tensor:
    if layer.padding == "same":
        spans = [dilation * (size - 1) for dilation, size in zip(layer.dilation, layer.kernel_size, strict=True)]
        (top, bottom), (left, right) = ((span // 2, span - span // 2) for span in spans)
        images = functional.pad(images, (left, right, top, bottom))
    padding = (0, 0) if isinstance(layer.padding, str) else layer.padding
    return functional.unfold(images, layer.kernel_size, layer.dilation, padding, layer.stride)


def _run(model: HashModel, pixels: np.ndarray) -> None:
    device = next((value.device for value in model.net.parameters()), torch.device("cpu"))
    model.net.eval()(model.arch.input.normalise(pixels).to(device))


class _HeardAllError(Exception):
    """Not a fault: the rest of the network need not run."""


class _Watcher(TorchFunctionMode):
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


class _Hearing(_Watcher):
    """Keeps sampled rows of some layers' outputs and of the sums behind them."""

    def __init__(self, net: nn.Module, paths: tuple[str, ...], sums: tuple[str, ...], places: int, seed: int) -> None:
        super().__init__(net)
        self.layers = {path: get_layer(net, path) for path in dict.fromkeys((*paths, *sums))}  # type: ignore[misc]
        self.paths, self.sums, self.places, self.seed = paths, sums, places, seed
        self.rows: dict[tuple[str, str], list[np.ndarray]] = {}
        self.start, self.missing = 0, 0

    def begin(self, start: int) -> None:
        """Start a batch."""
        self.sources.clear()
        self.found.clear()
        self.start, self.missing = start, len(self.paths) + len(self.sums)

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
            chosen = random.integers(0, flat.shape[2], (len(flat), min(self.places, flat.shape[2])))
            index = torch.from_numpy(chosen)[:, None, :].expand(-1, flat.shape[1], -1)
            rows = flat.gather(2, index).transpose(1, 2)
        self.rows.setdefault((what, path), []).append(rows.reshape(-1, rows.shape[-1]).numpy().copy())
        self.missing -= 1
        if self.missing == 0:
            raise _HeardAllError

    def result(self) -> Responses:
        """Return everything heard.

        Raises:
            InputError: a layer never ran, or no addition follows it.
        """
        for what, wanted in (("output", self.paths), ("sum", self.sums)):
            for path in wanted:
                if (what, path) not in self.rows:
                    raise InputError(f"layer {path!r}: no {what} was seen while the network ran")
        return Responses(
            {path: np.concatenate(self.rows["output", path]) for path in self.paths},
            {path: np.concatenate(self.rows["sum", path]) for path in self.sums},
        )
