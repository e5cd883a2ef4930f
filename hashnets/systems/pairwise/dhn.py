"""Deep hashing network (Zhu, Long, Wang & Cao, AAAI 2016)."""

from __future__ import annotations

from torch import Tensor

from ....core.model import Arch
from ...losses.batch_pairs import pair_entropy
from ...losses.quantisation import quantisation_log_cosh
from ..base import Batch, System
from ..relaxations import Tanh


class Dhn(System):
    """DHN: cross-entropy of the pairs of a batch on half the inner product of tanh(u), plus a log cosh quantisation loss.

    ``quantisation`` weighs the second term, a mean over bits. The paper weighs all pairs alike: ``balance=False``.
    """

    def __init__(
        self, arch: Arch, classes: int, items: int, seed: int, *, quantisation: float = 0.1, balance: bool = True  # noqa: ARG002  # the same for all systems
    ) -> None:  # fmt: skip
        super().__init__(quantisation=float(quantisation), balance=bool(balance))
        self.quantisation, self.balance = float(quantisation), bool(balance)
        self.relax = Tanh()

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        codes = self.relax(outputs)
        pairs = pair_entropy(codes, batch.labels, balance=self.balance)
        return pairs + self.quantisation * quantisation_log_cosh(codes)
