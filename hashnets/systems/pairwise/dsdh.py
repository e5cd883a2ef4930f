"""Deep supervised discrete hashing (Li, Sun, He & Tan, NeurIPS 2017, arXiv:1705.10999)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ....core.errors import InputError
from ....core.model import Arch
from ...losses.pair import pair_likelihood
from ...losses.quantisation import signs
from ...solvers.discrete import cyclic_descent, ridge
from ..base import Batch, System
from ..code_bank import CodeBank


class Dsdh(System):
    """DSDH: pair likelihood of the outputs; codes that a linear classifier can read, kept apart and solved bit by bit.

    Every epoch ends with W by ridge regression of the classes on the codes, then the codes by discrete cyclic coordinate
    descent on ``|y - W'b|^2 + pull |b - u|^2``. Outputs are drawn to these codes by ``eta`` times the mean square
    distance; ``nu`` is the ridge. The gradient of the distance reaches the network, which public ports forget.
    """

    codes: Tensor

    def __init__(
        self,
        arch: Arch,
        classes: int,
        items: int,
        seed: int,  # noqa: ARG002  # every system takes the same four
        *,
        eta: float = 0.1,
        pull: float = 1.0,
        nu: float = 0.1,
        balance: bool = True,
    ) -> None:
        super().__init__(eta=float(eta), pull=float(pull), nu=float(nu), balance=bool(balance))
        if classes < 1:
            raise InputError("dsdh needs classes, and the data have none; take a pair-wise system such as dpsh")
        self.number, self.eta, self.pull, self.nu, self.balance = classes, eta, pull, nu, balance
        self.bank = CodeBank(items, arch.bits)
        self.register_buffer("codes", torch.zeros(items, arch.bits))

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        self.bank.write(batch.index, outputs, batch.labels)
        others, labels = self.bank.known()
        codes = self.codes[batch.index]
        codes = torch.where(codes == 0, signs(outputs), codes)  # none were solved yet
        likelihood = pair_likelihood(outputs, batch.labels, others, labels, balance=self.balance)
        return likelihood + self.eta * (outputs - codes).square().mean()

    def end_epoch(self) -> None:
        """Solve W, then the codes of all items."""
        outputs, labels = self.bank.known()
        own = one_hot(labels, self.number).to(outputs) if labels.ndim == 1 else labels.to(outputs)
        codes = signs(outputs)
        weights = ridge(codes, own, self.nu)
        self.codes[self.bank.written] = cyclic_descent(codes, own @ weights.T + self.pull * outputs, weights)
