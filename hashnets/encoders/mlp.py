"""A multilayer perceptron for vectors such as bag-of-words counts, sensor readings or features of another network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ...core.errors import InputError
from .spec import WIDEST, Encoder, Shape, he_normal


class Mlp(Encoder):
    """Dense layers of ``widths``, each followed by ReLU, then dropout."""

    def __init__(self, shape: Shape, widths: Sequence[int] = (512, 256), dropout: float = 0.0) -> None:
        super().__init__()
        if len(shape) != 1:
            raise InputError(f"mlp takes vectors (size,), got an input of shape {tuple(shape)}")
        if not widths or any(not 1 <= width <= WIDEST for width in widths):
            raise InputError(f"mlp: option 'widths' takes positive numbers of at most {WIDEST:,}, got {list(widths)}")
        layers: list[nn.Module] = []
        for inputs, outputs in zip((shape[0], *widths), widths, strict=False):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Dropout(dropout)) if dropout else nn.Sequential(*layers)
        self.width = widths[-1]
        he_normal(self)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return features (N, widths[-1])."""
        return self.layers(vectors)
