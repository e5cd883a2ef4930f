"""ResNet-18, -34 and -50 in torchvision's shapes and names (He et al. 2016, arXiv:1512.03385), without the last layer.

The stride of a bottleneck sits on its 3x3 convolution, as in torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import relu

from .spec import Encoder, Shape, check_count, check_input, he_normal

WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, width, H / stride, W / stride)."""
        hidden = self.bn2(self.conv2(relu(self.bn1(self.conv1(images)))))
        return relu(hidden + (images if self.downsample is None else self.downsample(images)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, four times as many channels at the end."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = _shortcut(inputs, 4 * width, stride)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, 4 width, H / stride, W / stride)."""
        hidden = relu(self.bn1(self.conv1(images)))
        hidden = relu(self.bn2(self.conv2(hidden)))
        hidden = self.bn3(self.conv3(hidden))
        return relu(hidden + (images if self.downsample is None else self.downsample(images)))


class ResNet(Encoder):
    """A 7x7 stem and four stages of ``blocks`` blocks; mean over the image at the end."""

    def __init__(
        self,
        shape: Shape,
        block: type[BasicBlock | Bottleneck],
        blocks: tuple[int, int, int, int],
        widths: Sequence[int] = WIDTHS,
    ) -> None:
        super().__init__()
        check_input("resnet", shape, 32)
        check_count("resnet", "widths", widths, 4)
        self.conv1 = nn.Conv2d(shape[0], widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels, stages = widths[0], []
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            outputs = width * block.expansion
            first = block(channels, width, 1 if stage == 0 else 2)
            stages.append(nn.Sequential(first, *(block(outputs, width, 1) for _ in range(count - 1))))
            channels = outputs
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.width = channels
        he_normal(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features (N, 512), of ResNet-50 (N, 2048)."""
        hidden = self.maxpool(relu(self.bn1(self.conv1(images))))
        hidden = self.layer4(self.layer3(self.layer2(self.layer1(hidden))))
        return self.avgpool(hidden).flatten(1)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


def resnet18(shape: Shape, widths: Sequence[int] = WIDTHS) -> ResNet:
    """Return ResNet-18."""
    return ResNet(shape, BasicBlock, (2, 2, 2, 2), widths)


def resnet34(shape: Shape, widths: Sequence[int] = WIDTHS) -> ResNet:
    """Return ResNet-34."""
    return ResNet(shape, BasicBlock, (3, 4, 6, 3), widths)


def resnet50(shape: Shape, widths: Sequence[int] = WIDTHS) -> ResNet:
    """Return ResNet-50."""
    return ResNet(shape, Bottleneck, (3, 4, 6, 3), widths)
