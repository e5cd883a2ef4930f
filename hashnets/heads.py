"""Heads: features (N, D) to real-valued outputs (N, bits) whose signs are the code."""

from __future__ import annotations

from torch import nn


def linear(features: int, bits: int) -> nn.Linear:
    """Return one dense layer with weights from N(0, 0.01), the usual start of a hash layer (Lin et al. 2015)."""
    head = nn.Linear(features, bits)
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
    return head
