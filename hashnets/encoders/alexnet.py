"""AlexNet in torchvision's shapes and names (Krizhevsky 2014, arXiv:1404.5997), without its last layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .spec import Encoder, Shape, check_count, check_input, he_normal


class AlexNet(Encoder):
    """Five convolutions and two dense layers of 4096; 61,100,840 parameters with a head of a thousand.

    ``grid`` is the side of the feature map that the dense layers see: 6 at 224 pixels and in torchvision's
    checkpoints, fewer by default where the image is too small to give six.
    """

    def __init__(
        self,
        shape: Shape,
        widths: Sequence[int] = (64, 192, 384, 256, 256),
        hidden: Sequence[int] = (4096, 4096),
        grid: int | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_input("alexnet", shape, 63)
        check_count("alexnet", "widths", widths, 5)
        check_count("alexnet", "hidden", hidden, 2)
        first, second, third, fourth, fifth = widths
        self.features = nn.Sequential(
            nn.Conv2d(shape[0], first, 11, 4, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(first, second, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(second, third, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(third, fourth, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(fourth, fifth, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
        )
        rows, columns = (_shrunk(side) for side in shape[1:])
        grid = grid or min(6, rows, columns)
        self.avgpool = nn.Identity() if rows == columns == grid else nn.AdaptiveAvgPool2d(grid)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(fifth * grid * grid, hidden[0]),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden[0], hidden[1]),
            nn.ReLU(),
        )
        self.width = hidden[1]
        he_normal(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features (N, 4096)."""
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


def _shrunk(side: int) -> int:
    side = (side + 4 - 11) // 4 + 1
    for _ in range(3):
        side = (side - 3) // 2 + 1
    return side
