"""Detection of layers whose weight or bias is read by other code than their own forward.

A module that calls ``functional.linear(x, self.embed.weight)`` is an example. A replacement for such a layer would
still have to provide both. Reads are observed while the network runs once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ...core.model import HashModel
from .hooks import hooks


def externally_read(model: HashModel) -> dict[str, str]:
    """Return the layers whose weight or bias is read externally, with the reason to skip them: layer -> reason."""
    readers = _Readers(model.net)
    with torch.inference_mode(), readers.running(), readers:
        model.net.eval()(model.arch.input.example())
    return {
        path: f"its {' and '.join(sorted(what))} {'are' if len(what) > 1 else 'is'} read outside of it"
        for path, what in readers.external.items()
    }


class _Readers(TorchFunctionMode):
    """Records the parameters used by an operation while none of their layers runs."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.layers = {path: layer for path, layer in net.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
        self.owners: dict[int, list[tuple[str, str]]] = {}  # a tied parameter has several
        for path, layer in self.layers.items():
            for name, value in layer.named_parameters(recurse=False):
                self.owners.setdefault(id(value), []).append((path, name))
        self.active: list[str] = []
        self.external: dict[str, set[str]] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Track the layers that are currently running."""

        def begin(path: str, *_: Any) -> None:
            self.active.append(path)

        def end(*_: Any) -> None:
            self.active.pop()

        with hooks(self.layers, before=begin, after=end):
            yield

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs or {})):
            owners = self.owners.get(id(value), []) if isinstance(value, Tensor) else []
            if owners and not any(path in self.active for path, _ in owners):
                for path, name in owners:
                    self.external.setdefault(path, set()).add(name)
        return func(*args, **(kwargs or {}))
