"""The two LeNets that compression papers are compared on (LeCun et al. 1998; shapes of Caffe's examples)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import max_pool2d, relu

from .spec import Encoder, Shape, check_count, check_input, he_normal


class LeNet300(Encoder):
    """LeNet-300-100 without its last layer: two dense layers, 266,610 parameters with a head of ten."""

    def __init__(self, shape: Shape, widths: Sequence[int] = (300, 100)) -> None:
        super().__init__()
        check_input("lenet300", shape, 1)
        check_count("lenet300", "widths", widths, 2)
        self.fc1 = nn.Linear(math.prod(shape), widths[0])
        self.fc2 = nn.Linear(widths[0], widths[1])
        self.width = widths[1]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features (N, 100)."""
        return relu(self.fc2(relu(self.fc1(images.flatten(1)))))


class LeNet5(Encoder):
    """Caffe's LeNet-5 without its last layer: 20-50-500, 431,080 parameters with a head of ten.

    As in Caffe the pooling is the only nonlinearity after the convolutions.
    """

    def __init__(self, shape: Shape, widths: Sequence[int] = (20, 50, 500)) -> None:
        super().__init__()
        check_input("lenet5", shape, 16)
        check_count("lenet5", "widths", widths, 3)
        rows, columns = (((side - 4) // 2 - 4) // 2 for side in shape[1:])
        self.conv1 = nn.Conv2d(shape[0], widths[0], 5)
        self.conv2 = nn.Conv2d(widths[0], widths[1], 5)
        self.fc1 = nn.Linear(widths[1] * rows * columns, widths[2])
        self.width = widths[2]
        he_normal(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features (N, 500)."""
        hidden = max_pool2d(self.conv1(images), 2)
        hidden = max_pool2d(self.conv2(hidden), 2)
        return relu(self.fc1(hidden.flatten(1)))
