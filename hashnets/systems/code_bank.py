"""The code bank: the latest output of every training item, so that a batch can be compared with all of them.

Shared by the pair-wise systems with a running matrix U (DPSH, Li et al. 2016) and their relatives.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...core.errors import InputError


class CodeBank(nn.Module):
    """Outputs (N, K) and labels (N,) by item; items that were never written are not given out."""

    outputs: Tensor
    labels: Tensor
    written: Tensor

    def __init__(self, items: int, bits: int) -> None:
        super().__init__()
        self.register_buffer("outputs", torch.zeros(items, bits))
        self.register_buffer("labels", torch.zeros(items, dtype=torch.int64))
        self.register_buffer("written", torch.zeros(items, dtype=torch.bool))

    def write(self, index: Tensor, outputs: Tensor, labels: Tensor) -> None:
        """Put ``outputs`` (B, K) and ``labels`` (B,) in the rows ``index`` (B,); no gradient flows back.

        Raises:
            InputError: the bank was made for fewer items.
        """
        if len(index) and int(index.max()) >= len(self.written):
            raise InputError(f"the system was made for {len(self.written)} training items, got item {int(index.max())}")
        self.outputs[index] = outputs.detach()
        self.labels[index] = labels
        self.written[index] = True

    def known(self) -> tuple[Tensor, Tensor]:
        """Return outputs (M, K) and labels (M,) of the items written so far."""
        if bool(self.written.all()):
            return self.outputs, self.labels
        return self.outputs[self.written], self.labels[self.written]
