"""VGG-16 in torchvision's shapes and names (Simonyan & Zisserman 2015, arXiv:1409.1556), without its last layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .spec import Encoder, Shape, check_count, check_input, he_normal

STAGES = (2, 2, 3, 3, 3)  # convolutions before each halving
WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


class VGG16(Encoder):
    """Thirteen 3x3 convolutions and two dense layers of 4096; 138,357,544 parameters with a head of a thousand.

    ``grid`` is the side of the feature map that the dense layers see, 7 at 224 pixels.
    """

    def __init__(
        self,
        shape: Shape,
        widths: Sequence[int] = WIDTHS,
        hidden: Sequence[int] = (4096, 4096),
        grid: int | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_input("vgg16", shape, 32)
        check_count("vgg16", "widths", widths, sum(STAGES))
        check_count("vgg16", "hidden", hidden, 2)
        layers: list[nn.Module] = []
        channels, outputs = shape[0], iter(widths)
        for convolutions in STAGES:
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, channels := next(outputs), 3, padding=1), nn.ReLU()]
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        rows, columns = shape[1] // 32, shape[2] // 32
        grid = grid or min(7, rows, columns)
        self.avgpool = nn.Identity() if rows == columns == grid else nn.AdaptiveAvgPool2d(grid)
        self.classifier = nn.Sequential(
            nn.Linear(channels * grid * grid, hidden[0]),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden[0], hidden[1]),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.width = hidden[1]
        he_normal(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features (N, 4096)."""
        return self.classifier(self.avgpool(self.features(images)).flatten(1))
