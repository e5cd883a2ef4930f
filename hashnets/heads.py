"""Heads: features (N, D) to real-valued outputs (N, bits) whose signs are the code."""

from __future__ import annotations

from torch import nn


def linear(features: int, bits: int) -> nn.Linear:
    """Return one dense layer.

    Its outputs start at the features' own scale: pair losses stand still at outputs of zero, so a start as small as
    N(0, 0.01) costs epochs.
    """
    return nn.Linear(features, bits)
