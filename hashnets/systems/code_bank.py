"""The code bank: the latest output of every training item, so that a batch can be compared with all of them.

Shared by the pair-wise systems with a running matrix U (DPSH, Li et al. 2016) and their relatives.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...core.errors import InputError


class CodeBank(nn.Module):
    """Outputs (N, K) and labels (N,), or multi-labels (N, C), by item; items never written are not given out."""

    outputs: Tensor
    labels: Tensor
    written: Tensor

    def __init__(self, items: int, bits: int) -> None:
        super().__init__()
        self.register_buffer("outputs", torch.zeros(items, bits))
        self.register_buffer("labels", torch.zeros(items, dtype=torch.int64))
        self.register_buffer("written", torch.zeros(items, dtype=torch.bool))

    def write(self, index: Tensor, outputs: Tensor, labels: Tensor) -> None:
        """Put ``outputs`` (B, K) and ``labels`` (B,) or (B, C) in the rows ``index`` (B,); no gradient flows back.

        Raises:
            InputError: the bank was made for fewer items.
        """
        if len(index) and int(index.max()) >= len(self.written):
            raise InputError(f"the system was made for {len(self.written)} training items, got item {int(index.max())}")
        if labels.shape[1:] != self.labels.shape[1:]:
            self.labels = labels.new_zeros(len(self.written), *labels.shape[1:])
        self.outputs[index] = outputs.detach()
        self.labels[index] = labels
        self.written[index] = True

    def known(self) -> tuple[Tensor, Tensor]:
        """Return outputs (M, K) and labels (M,) or (M, C) of the items written so far."""
        if bool(self.written.all()):
            return self.outputs, self.labels
        return self.outputs[self.written], self.labels[self.written]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *more: Any) -> None:
        labels = state_dict.get(f"{prefix}labels")
        if labels is not None:
            self.labels = torch.zeros_like(labels, device=self.labels.device)  # multi-labels have columns
        super()._load_from_state_dict(state_dict, prefix, *more)
