"""Codewords of product quantization on a grid, which the model file stores as whole numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..coding.floats import GRID_STEPS, MOST_SHIFT, SMALLEST
from .pq import ProductQuantizedWeight


def on_grid(codebook: Tensor, step: float) -> Tensor:
    """Return the codewords rounded to multiples of ``step``."""
    return torch.round(codebook / step) * step + 0.0  # no minus zero


def grid_steps(net: nn.Module) -> dict[str, float]:
    """Return the grid step of every product-quantized layer whose codewords are stored as whole numbers."""
    found = {}
    for path, form in net.named_modules():
        if isinstance(form, ProductQuantizedWeight):
            whole = torch.ldexp(form.codebook.detach().double(), torch.tensor(-SMALLEST)).abs()
            powers = [2.0**power for power in range(MOST_SHIFT + 1) if not (whole % 2.0**power).any()]
            if powers and 0 < float(whole.max()) < GRID_STEPS * powers[-1]:
                found[path] = 2.0**SMALLEST * powers[-1]
    return found


@torch.no_grad()
def round_to_grid(net: nn.Module, steps: dict[str, float]) -> None:
    """Round codewords to their grid after training, in place."""
    for path, step in steps.items():
        codebook = net.get_submodule(path).get_parameter("codebook")
        codebook.copy_(on_grid(codebook, step))
