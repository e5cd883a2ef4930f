"""Binary deep neural networks, unsupervised and supervised (Do, Doan & Cheung, ECCV 2016, arXiv:1607.05140)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ....core.data.items import Items
from ....core.model import Arch
from ...losses.batch_pairs import similarity
from ...losses.quantisation import decorrelation, quantisation_l2, signs
from ...solvers.discrete import cyclic_descent, ridge
from ...solvers.rotation import iterative_quantization, principal_axes
from ..base import Batch, System
from ..code_bank import CodeBank

RIDGE = 1e-5  # the paper's weight on the decoder, for every item


class UhBdnn(System):
    """UH-BDNN: codes that rebuild the features by a linear decoder, and outputs that are these codes, even and independent.

    Every epoch ends with the decoder by ridge regression, then the codes by discrete cyclic coordinate descent. ``codes``,
    ``independence`` and ``balance`` weigh the terms as in the authors' code. Codes begin as those of ITQ.
    """

    on_features = True
    binary: Tensor

    def __init__(
        self,
        arch: Arch,
        classes: int,  # noqa: ARG002  # every system takes the same four
        items: int,
        seed: int,
        *,
        codes: float = 0.05,
        independence: float = 0.01,
        balance: float = 5e-7,
    ) -> None:
        super().__init__(codes=float(codes), independence=float(independence), balance=float(balance))
        self.seed, self.bank, self.features = seed, CodeBank(items, arch.bits), torch.empty(0)
        self.register_buffer("binary", torch.zeros(items, arch.bits))

    def prepare(self, net: nn.Module, items: Items) -> None:  # noqa: ARG002  # the same for all systems
        """Keep the centred features, and begin with the codes of ITQ on them (signs of the features if they are few)."""
        features = torch.from_numpy(items.values[:]).float().flatten(1).to(self.binary.device)
        self.features, bits = features - features.mean(0), self.binary.shape[1]
        if self.features.shape[1] >= bits:
            values = self.features @ principal_axes(self.features, bits)[0]
            self.binary = signs(values @ iterative_quantization(values, self.seed))

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        self.bank.write(batch.index, outputs, batch.labels)
        codes, weigh = self.binary[batch.index], self.settings
        codes = torch.where(codes == 0, signs(outputs), codes)
        return (
            weigh["codes"] / 2 * (outputs - codes).square().sum(1).mean()
            + weigh["independence"] / 2 * decorrelation(outputs) * outputs.shape[1] ** 2
            + weigh["balance"] / 2 * len(outputs) * outputs.mean(0).square().sum()
        )

    def end_epoch(self) -> None:
        """Solve the decoder, then the codes of all items."""
        outputs, _ = self.bank.known()
        features = self.features[self.bank.written]
        codes = torch.where(self.binary[self.bank.written] == 0, signs(outputs), self.binary[self.bank.written])
        decoder = ridge(codes, features, RIDGE * len(features))
        linear = features @ decoder.T + self.settings["codes"] * outputs
        self.binary[self.bank.written] = cyclic_descent(codes, linear, decoder)


class ShBdnn(System):
    """SH-BDNN: inner products of outputs are the similarities of the labels; bits are even and independent.

    ``codes``, ``independence`` and ``balance`` weigh the terms beside it. Codes are the signs of the outputs.
    """

    on_features = True

    def __init__(
        self,
        arch: Arch,
        classes: int,  # noqa: ARG002  # every system takes the same four
        items: int,  # noqa: ARG002  # every system takes the same four
        seed: int,  # noqa: ARG002  # every system takes the same four
        *,
        codes: float = 5.0,
        independence: float = 1.0,
        balance: float = 1e-4,
    ) -> None:
        super().__init__(codes=float(codes), independence=float(independence), balance=float(balance))
        self.bits = arch.bits

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        similar = torch.where(similarity(batch.labels), 1.0, -1.0)
        weigh = self.settings
        return (
            (outputs @ outputs.T / self.bits - similar).square().mean() / 2
            + weigh["codes"] / 2 * quantisation_l2(outputs)
            + weigh["independence"] / 2 * decorrelation(outputs)
            + weigh["balance"] / 2 * outputs.mean(0).square().mean()
        )
