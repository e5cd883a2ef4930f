"""The small network of Deep Supervised Hashing (Liu et al., CVPR 2016): 32-32-64 convolutions of 5x5, 500 features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import relu

from .spec import Encoder, Shape, check_count, check_input, he_normal


class SmallConv(Encoder):
    """Three 5x5 convolutions, each halved by overlapping pooling (max, mean, mean), then a dense layer.

    Pooling rounds up as in Caffe; means count only pixels inside the image, so every back end agrees on the border.
    """

    def __init__(self, shape: Shape, widths: Sequence[int] = (32, 32, 64, 500)) -> None:
        super().__init__()
        check_input("smallconv", shape, 8)
        check_count("smallconv", "widths", widths, 4)
        rows, columns = (_halved(_halved(_halved(side))) for side in shape[1:])
        self.conv1 = nn.Conv2d(shape[0], widths[0], 5, padding=2)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = nn.Conv2d(widths[0], widths[1], 5, padding=2)
        self.pool2 = nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False)
        self.conv3 = nn.Conv2d(widths[1], widths[2], 5, padding=2)
        self.pool3 = nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False)
        self.fc1 = nn.Linear(widths[2] * rows * columns, widths[3])
        self.width = widths[3]
        he_normal(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features (N, 500)."""
        hidden = relu(self.pool1(self.conv1(images)))
        hidden = self.pool2(relu(self.conv2(hidden)))
        hidden = self.pool3(relu(self.conv3(hidden)))
        return relu(self.fc1(hidden.flatten(1)))


def _halved(side: int) -> int:
    return max(-(-(side - 3) // 2), 0) + 1
