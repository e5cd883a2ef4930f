"""Convolutional neural network hashing (Xia, Pan, Lai, Liu & Yan, AAAI 2014)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ....core.data.items import Items
from ....core.data.labels import relevance
from ....core.errors import InputError
from ....core.model import Arch
from ...losses.classes import class_entropy
from ...solvers.similarity import factorise
from ..base import Batch, ClassLayer, System
from ..relaxations import Sigmoid

MOST = 12_000  # items whose similarities, all with all, fit into memory: 576 MB


class Cnnh(System):
    """CNNH: codes of all training items by factorising their similarity, then a network that learns these codes bit by bit."""

    codes: Tensor

    def __init__(self, arch: Arch, classes: int, items: int, seed: int) -> None:  # noqa: ARG002  # the same for all systems
        super().__init__()
        if items > MOST:
            raise InputError(
                f"cnnh compares all training items with all others, at most {MOST:,}, and there are {items:,}; "
                "take fewer (?limit=N), or a protocol with a smaller training part (--protocol A)"
            )
        self.seed = seed
        self.register_buffer("codes", torch.zeros(items, arch.bits))

    def prepare(self, net: nn.Module, items: Items) -> None:  # noqa: ARG002  # the same for all systems
        """Find the codes of all training items."""
        labels: Any = items.labels.astype(np.float32) if items.labels.dtype == bool else items.labels
        codes = factorise(relevance(labels, labels), self.codes.shape[1], self.seed)
        self.codes = torch.from_numpy(np.where(codes >= 0, np.float32(1), np.float32(-1))).to(self.codes.device)

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        return binary_cross_entropy_with_logits(outputs, (self.codes[batch.index] + 1) / 2)


class CnnhPlus(Cnnh):
    """CNNH+: the network learns the classes of its training items beside their codes."""

    def __init__(self, arch: Arch, classes: int, items: int, seed: int) -> None:
        super().__init__(arch, classes, items, seed)
        self.relax = Sigmoid()
        self.classes = ClassLayer("cnnh-plus", arch.bits, classes, seed)

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        return super().forward(outputs, batch) + class_entropy(self.classes(self.relax(outputs)), batch.labels)
