"""HashNet: deep hashing by continuation (Cao, Long, Wang & Yu, ICCV 2017, arXiv:1702.00758)."""

from __future__ import annotations

from torch import Tensor

from ....core.model import Arch
from ...losses.batch_pairs import pair_entropy
from ..base import Batch, System
from ..relaxations import Tanh


class HashNetLoss(System):
    """Weighted cross-entropy of the pairs of a batch on tanh(beta u), whose beta grows after every epoch.

    ``beta = sqrt(1 + growth * epoch)``; similar and dissimilar pairs weigh one half each, and the inner product is
    scaled by ``10 / bits``.
    """

    def __init__(self, arch: Arch, classes: int, items: int, seed: int, *, growth: float = 1.0) -> None:  # noqa: ARG002  # the same for all systems
        super().__init__(growth=float(growth))
        self.scale = 10 / arch.bits
        self.relax = Tanh(growth=float(growth))

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        return pair_entropy(self.relax(outputs), batch.labels, scale=self.scale, balance=True)
