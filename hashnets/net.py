"""A hashing network: an encoder and a head."""

from __future__ import annotations

import torch
from torch import nn


class HashNet(nn.Module):
    """A batch of inputs (N, ...) to real outputs (N, bits); the code is ``output >= 0``."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return outputs (N, bits)."""
        return self.head(self.encoder(inputs))
