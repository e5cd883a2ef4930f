"""Convolution over word embeddings and the maximum over time (Kim, EMNLP 2014, arXiv:1408.5882)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import relu

from ...core.errors import InputError
from .spec import Encoder, Shape

PADDING = 0  # the token id after the end of a text


class TextCnn(Encoder):
    """Token ids (N, length) to ``channels`` features for each kernel size, the strongest answer anywhere in the text.

    Texts are padded on both sides, so that they may be shorter than the kernels.
    """

    def __init__(
        self,
        shape: Shape,
        vocabulary: int,
        embedding: int = 64,
        channels: int = 128,
        kernels: Sequence[int] = (1, 2, 3),
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if len(shape) != 1:
            raise InputError(f"textcnn takes token ids (length,), got an input of shape {tuple(shape)}")
        if embedding < 1 or channels < 1 or not kernels or any(size < 1 for size in kernels):
            raise InputError("textcnn: options 'embedding', 'channels' and 'kernels' take positive numbers")
        self.embedding = nn.Embedding(vocabulary, embedding, padding_idx=PADDING)
        self.convs = nn.ModuleList(nn.Conv1d(embedding, channels, size, padding=size - 1) for size in kernels)
        self.dropout = nn.Dropout(dropout)
        self.width = channels * len(kernels)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return features (N, channels * len(kernels))."""
        hidden = self.embedding(tokens).transpose(1, 2)
        return self.dropout(torch.cat([relu(conv(hidden)).amax(2) for conv in self.convs], dim=1))
