"""A hashing network: an encoder and a head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class HashNet(nn.Module):
    """A batch of inputs (N, ...) to real outputs (N, bits); the code is ``output >= 0``.

    With ``guarded``, which encoders from outside of hashpress get, a call changes nothing but the network's gradients and, in
    training, its statistics: the encoder gets a copy of its inputs, which it may overwrite, and what it writes into its
    buffers in evaluation mode is undone, so that a code does not depend on what was computed before.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, *, guarded: bool = False) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.guarded = guarded

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return outputs (N, bits)."""
        if not self.guarded:
            return self.head(self.encoder(inputs))
        if self.training or torch.compiler.is_exporting():
            return self.head(self.encoder(inputs.clone()))
        with _unchanged_buffers(self):
            return self.head(self.encoder(inputs.clone()))


@contextmanager
def _unchanged_buffers(net: nn.Module) -> Iterator[None]:
    """Give every buffer of ``net`` its value back at the end of the block."""
    held = [
        (layer, name, value, value.detach().clone(), None if value.is_inference() else value._version)  # noqa: SLF001
        for layer in net.modules()
        for name, value in layer.named_buffers(recurse=False)
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for layer, name, value, before, version in held:
                if version is None or value._version != version:  # noqa: SLF001
                    value.copy_(before)
                if layer._buffers.get(name) is not value:  # noqa: SLF001
                    layer._buffers[name] = value  # noqa: SLF001
