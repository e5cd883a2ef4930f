"""Deep pairwise-supervised hashing (Li, Wang & Kang, IJCAI 2016, arXiv:1511.03855)."""

from __future__ import annotations

from torch import Tensor

from ....core.model import Arch
from ...losses.pair import pair_likelihood
from ...losses.quantisation import quantisation_l2
from ..base import Batch, System
from ..code_bank import CodeBank
from ..relaxations import Identity


class Dpsh(System):
    """DPSH (Li et al. 2016): pair likelihood of the batch with all items, plus ``eta`` times the distance from corners.

    The items' latest outputs stand in a running matrix U (N, bits); gradients flow through the batch's rows only.
    Both terms are means (over pairs, over bits), so ``eta`` does not depend on the size of the data.
    The paper weighs all pairs alike: ``balance=False``.
    """

    def __init__(
        self,
        arch: Arch,
        classes: int,  # noqa: ARG002  # every system takes the same four
        items: int,
        seed: int,  # noqa: ARG002  # every system takes the same four
        *,
        eta: float = 0.1,
        balance: bool = True,
    ) -> None:
        super().__init__(eta=float(eta), balance=bool(balance))
        self.eta, self.balance = float(eta), bool(balance)
        self.relax = Identity()
        self.bank = CodeBank(items, arch.bits)

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        relaxed = self.relax(outputs)
        self.bank.write(batch.index, relaxed, batch.labels)
        others, labels = self.bank.known()
        likelihood = pair_likelihood(relaxed, batch.labels, others, labels, balance=self.balance)
        return likelihood + self.eta * quantisation_l2(relaxed)
