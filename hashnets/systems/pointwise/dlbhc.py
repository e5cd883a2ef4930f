"""Deep learning of binary hash codes (Lin, Yang, Hsiao & Chen, CVPR workshops 2015)."""

from __future__ import annotations

from torch import Tensor

from ....core.model import Arch
from ...losses.classes import class_entropy
from ..base import Batch, ClassLayer, System
from ..relaxations import Sigmoid


class Dlbhc(System):
    """DLBHC (Lin et al. 2015): a latent layer of sigmoids with a class layer on it, trained by cross-entropy alone."""

    def __init__(self, arch: Arch, classes: int, items: int, seed: int) -> None:  # noqa: ARG002  # the same for all systems
        super().__init__()
        self.relax = Sigmoid()
        self.classes = ClassLayer("dlbhc", arch.bits, classes, seed)

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        return class_entropy(self.classes(self.relax(outputs)), batch.labels)
