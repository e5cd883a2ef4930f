"""Deep hashing for compact binary codes, unsupervised and supervised (Liong, Lu, Wang, Moulin & Zhou, CVPR 2015)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ....core.data.items import Items
from ....core.errors import InputError
from ....core.model import Arch
from ...losses.quantisation import signs
from ..base import Batch, System


class Dh(System):
    """DH: outputs near their signs, each bit of large variance, the rows of every dense layer orthogonal.

    ``variance``, ``orthogonal`` and ``decay`` are the paper's three weights. The network is meant to be an ``mlp`` on
    features; of other networks only the dense layers are kept orthogonal.
    """

    def __init__(
        self,
        arch: Arch,
        classes: int,  # noqa: ARG002  # every system takes the same four
        items: int,  # noqa: ARG002  # every system takes the same four
        seed: int,  # noqa: ARG002  # every system takes the same four
        *,
        variance: float = 100.0,
        orthogonal: float = 0.001,
        decay: float = 0.001,
    ) -> None:
        super().__init__(variance=float(variance), orthogonal=float(orthogonal), decay=float(decay))
        self.layers: list[Tensor] = []
        self.bits = arch.bits

    def prepare(self, net: nn.Module, items: Items) -> None:  # noqa: ARG002  # the same for all systems
        """Find the dense layers."""
        self.layers = [layer.weight for layer in net.modules() if isinstance(layer, nn.Linear)]

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002  # without labels
        """Return the scalar loss of ``outputs`` (B, bits); sums over the batch are means, over bits too."""
        codes, weigh = torch.tanh(outputs), self.settings
        near = (signs(codes) - codes).square().mean() / 2
        loss = near - weigh["variance"] / 2 * (codes - codes.mean(0)).square().mean() / self.bits
        for weight in self.layers:
            gram = weight @ weight.T
            identity = torch.eye(len(gram), device=gram.device)
            loss = loss + weigh["orthogonal"] / 2 * (gram - identity).square().sum()
            loss = loss + weigh["decay"] / 2 * weight.square().sum()
        return loss


class Sdh(Dh):
    """SDH: DH that also spreads the means of the classes and draws the items of a class together, weighed by ``scatter``."""

    def __init__(
        self, arch: Arch, classes: int, items: int, seed: int, *, scatter: float = 1.0, **settings: float
    ) -> None:
        super().__init__(arch, classes, items, seed, **settings)
        if classes < 1:
            raise InputError("sdh needs classes, and the data have none; take dh, which needs no labels")
        self.number, self.settings = classes, {**self.settings, "scatter": float(scatter)}

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        labels, codes = batch.labels, torch.tanh(outputs)
        own = one_hot(labels, self.number).to(codes) if labels.ndim == 1 else labels.to(codes)
        means = own.T @ codes / own.sum(0).clamp(min=1)[:, None]  # (classes, bits)
        share = own.sum(0) / own.sum().clamp(min=1)
        between = (share[:, None] * (means - codes.mean(0)).square()).sum(0).mean()
        squares = (codes[:, None] - means).square().mean(2)  # (B, classes)
        within = (own * squares).sum() / own.sum().clamp(min=1)
        return super().forward(outputs, batch) - self.settings["scatter"] * (between - within)
