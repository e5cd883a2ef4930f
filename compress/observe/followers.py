"""Detection of the operation that follows each layer: a ReLU, an addition, or anything else.

The network is observed while it runs, so this also works for networks that cannot be traced.
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
    """Return the operation after each layer: ``relu``, ``sum`` (the end of a residual branch) or ``none``.

    One image runs. Max pooling between a layer and its ReLU is ignored.
    """
    recorder = FollowerRecorder(
        {path: x for path, x in model.net.named_modules() if isinstance(x, nn.Conv2d | nn.Linear)}
    )
    with recorder.recording(), recorder, torch.no_grad():
        run(model.net, model.arch.input, pixels[:1])
    return recorder.followers_by_path


class FollowerRecorder(TorchFunctionMode):
    """Follows the outputs of ``layers`` (path -> layer) to the first operation that is not pooling or an identity."""

    def __init__(self, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        self.layers = layers
        self.followers_by_path: dict[str, str] = {}
        self.sources: dict[int, tuple[str, Tensor]] = {}  # keeps the tensor alive, so its id is not reused

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the output of every layer that runs in this block."""

        def note(path: str, _layer: nn.Module, _inputs: Any, output: Tensor) -> None:
            self.record_output(path, output)

        with hooks(self.layers, after=note):
            yield

    def record_output(self, path: str, output: Tensor) -> None:
        """Record that ``output`` is the output of the layer at ``path``."""
        self.followers_by_path.setdefault(path, "none")
        self.sources[id(output)] = (path, output)

    def record_follower(self, path: str, what: str, result: Tensor) -> None:  # noqa: ARG002  # for subclasses
        """Record the operation on the output of the layer at ``path``."""
        if self.followers_by_path.get(path) == "none":
            self.followers_by_path[path] = what

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        followed = name in ADDS or name in RELUS or name in POOLS
        known = [self.sources[id(arg)][0] for arg in args if id(arg) in self.sources] if followed else []
        result = func(*args, **(kwargs or {}))
        for path in known:
            if name in POOLS:
                self.sources[id(result)] = (path, result)
            else:
                self.record_follower(path, "relu" if name in RELUS else "sum", result)
        if known and name not in POOLS:  # what comes next happens to the result, not to the layer's output
            for arg in args:
                self.sources.pop(id(arg), None)
        return result
