"""Deep unsupervised image hashing by maximizing bit entropy (Li & van Gemert, AAAI 2021, arXiv:2012.12334)."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cosine_similarity

from ....core.model import Arch
from ..base import Batch, System
from ..relaxations import BiHalf


class BiHalfHashing(System):
    """Codes of which every bit is on for half the batch keep the cosine similarities of the features; no labels.

    ``gamma`` draws outputs to the codes. The encoder stays as it is.
    """

    on_features = True

    def __init__(self, arch: Arch, classes: int, items: int, seed: int, *, gamma: float = 6.0) -> None:  # noqa: ARG002  # the same for all systems
        super().__init__(gamma=float(gamma))
        self.relax = BiHalf(float(gamma))

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits): pairs of neighbours in the batch, as in the authors' code."""
        codes, features = self.relax(outputs), batch.inputs.flatten(1)
        before = cosine_similarity(features, features.roll(1, 0))
        return (cosine_similarity(codes, codes.roll(1, 0)) - before).square().mean()
