"""Product-quantized weights with random contents."""

from __future__ import annotations

import torch
from hashpress.modelfile.layers import pq


def filled(form: pq.ProductQuantizedWeight, seed: int = 0) -> pq.ProductQuantizedWeight:
    generator = torch.Generator().manual_seed(seed)
    form.codebook.data = torch.randn(form.codebook.shape, generator=generator)
    form.indices.copy_(torch.randint(form.codebook.shape[1], form.indices.shape, generator=generator))
    if form.permuted:
        form.order.copy_(torch.randperm(form.shape[1], generator=generator))
    return form
