"""Deep learning of binary hash codes (Lin, Yang, Hsiao & Chen, CVPR workshops 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...core.errors import InputError
from ...core.model import Arch
from ..losses.classes import class_entropy
from .base import Batch, System
from .relaxations import Sigmoid


class Dlbhc(System):
    """DLBHC (Lin et al. 2015): a latent layer of sigmoids with a class layer on it, trained by cross-entropy alone."""

    def __init__(self, arch: Arch, classes: int, items: int, seed: int) -> None:  # noqa: ARG002  # the same for all systems
        super().__init__()
        if classes < 1:
            raise InputError(
                "dlbhc learns to tell classes, and the data have none; take a pair-wise system such as dpsh"
            )
        self.relax = Sigmoid()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.classes = nn.Linear(arch.bits, classes)

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        return class_entropy(self.classes(self.relax(outputs)), batch.labels)
