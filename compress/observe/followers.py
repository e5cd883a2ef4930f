"""What becomes of the output of each layer: a ReLU, an addition, or anything else.

Found by watching a network run, so it also works on networks that no tracer understands.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ...core.data.images import Pixels
from ...core.model import HashModel
from .hooks import hooks
from .runner import run

ADDS = {"add", "add_", "__add__", "__iadd__", "__radd__"}
RELUS = {"relu", "relu_"}
POOLS = {"max_pool2d", "boolean_dispatch", "max_pool2d_with_indices"}  # they commute with a ReLU


def followers(model: HashModel, pixels: Pixels) -> dict[str, str]:
    """Return what becomes of each layer's output: ``relu``, ``sum`` (a residual branch ends there) or ``none``.

    One image runs. Max pooling between a layer and its ReLU does not matter.
    """
    watcher = Watcher({path: x for path, x in model.net.named_modules() if isinstance(x, nn.Conv2d | nn.Linear)})
    with watcher.watching(), watcher, torch.no_grad():
        run(model.net, model.arch.input, pixels[:1])
    return watcher.found


class Watcher(TorchFunctionMode):
    """Follows outputs of ``layers`` (path -> layer) to the first operation that is not pooling or an identity."""

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        self.layers = layers
        self.found: dict[str, str] = {}
        self.sources: dict[int, tuple[str, Tensor]] = {}  # the tensor is kept, so its number is not given away

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Note the output of every layer that runs in this block."""

        def note(path: str, _layer: nn.Module, _inputs: Any, output: Tensor) -> None:
            self.ran(path, output)

        with hooks(self.layers, after=note):
            yield

    def ran(self, path: str, output: Tensor) -> None:
        """Note whose output this tensor is."""
        self.found.setdefault(path, "none")
        self.sources[id(output)] = (path, output)

    def met(self, path: str, what: str, result: Tensor) -> None:  # noqa: ARG002  # for whoever keeps it
        """Note what happened to the output of ``path``."""
        if self.found.get(path) == "none":
            self.found[path] = what

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        followed = name in ADDS or name in RELUS or name in POOLS
        known = [self.sources[id(arg)][0] for arg in args if id(arg) in self.sources] if followed else []
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
