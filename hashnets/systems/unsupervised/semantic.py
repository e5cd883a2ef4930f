"""Semantic hashing: an autoencoder whose code units are driven to on or off by noise (Salakhutdinov & Hinton 2009, IJAR)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ....core.model import Arch
from ..base import Batch, System


class SemanticHashing(System):
    """A decoder on noisy sigmoids rebuilds the network's inputs; the noise of an item is the same in every epoch.

    ``noise`` is the standard deviation added to the outputs, 4 in the paper. ``hidden`` is the width of the decoder's
    middle layer. Inputs are rebuilt by least squares, as they are normalised. The threshold is one half, that of all
    codes here; the paper takes 0.1.
    """

    drawn: Tensor

    def __init__(
        self,
        arch: Arch,
        classes: int,  # noqa: ARG002  # every system takes the same four
        items: int,
        seed: int,
        *,
        noise: float = 4.0,
        hidden: int = 256,
    ) -> None:
        super().__init__(noise=float(noise), hidden=int(hidden))
        size = int(torch.Size(arch.input.shape).numel())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.decoder = nn.Sequential(nn.Linear(arch.bits, int(hidden)), nn.ReLU(), nn.Linear(int(hidden), size))
            self.register_buffer("drawn", torch.randn(items, arch.bits))

    def forward(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return the scalar loss of ``outputs`` (B, bits)."""
        codes = torch.sigmoid(outputs + self.settings["noise"] * self.drawn[batch.index])
        return mse_loss(self.decoder(codes), batch.inputs.flatten(1).float())
