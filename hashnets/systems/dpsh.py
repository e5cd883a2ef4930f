"""Deep pairwise-supervised hashing (Li, Wang & Kang, IJCAI 2016, arXiv:1511.03855)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...core.model import Arch
from ..losses.pair import pair_likelihood
from ..losses.quantisation import quantisation_l2
from .base import Batch
from .code_bank import CodeBank
from .relaxations import Identity


class Dpsh(nn.Module):
    """DPSH (Li et al. 2016): pair likelihood of the batch with all items, plus ``eta`` times the distance from corners.

    The items' latest outputs stand in a running matrix U (N, bits); gradients flow through the batch's rows only.
    Both terms are means (over pairs, over bits), so ``eta`` does not depend on the size of the data.
    The paper weighs all pairs alike: ``balance=False``.
    """

    eta: Tensor
    balance: Tensor

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
        super().__init__()
        self.register_buffer("balance", torch.tensor(balance))  # buffers, so that a resumed run has the same
        self.register_buffer("eta", torch.tensor(eta))
        self.relax = Identity()
        self.bank = CodeBank(items, arch.bits)

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        relaxed = self.relax(outputs)
        self.bank.write(batch.index, relaxed, batch.labels)
        others, labels = self.bank.known()
        likelihood = pair_likelihood(relaxed, batch.labels, others, labels, balance=bool(self.balance))
        return likelihood + self.eta * quantisation_l2(relaxed)

    def end_epoch(self) -> None:
        """Pass the word on to the relaxation."""
        self.relax.end_epoch()
