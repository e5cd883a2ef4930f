"""Residual networks for small images with parameter-free shortcuts (He et al. 2016, arXiv:1512.03385, section 4.2).

Layer names are those of github.com/akamaster/pytorch_resnet_cifar10, whose checkpoints are imported as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import pad, relu

from .spec import Encoder, Shape, check_count, check_input, he_normal


class Block(nn.Module):
    """Two 3x3 convolutions beside option A: every second pixel, new channels filled with zeros on both sides."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.before, self.behind = (outputs - inputs) // 2, (outputs - inputs) - (outputs - inputs) // 2

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, outputs, H / stride, W / stride)."""
        hidden = self.bn2(self.conv2(relu(self.bn1(self.conv1(images)))))
        if self.stride > 1:
            images = images[:, :, :: self.stride, :: self.stride]
        if self.before or self.behind:
            images = pad(images, (0, 0, 0, 0, self.before, self.behind))
        return relu(hidden + images)


class CifarResNet(Encoder):
    """ResNet-(6n+2) for ``blocks`` = n: three stages of 16, 32 and 64 channels, mean over the image at the end."""

    def __init__(self, shape: Shape, blocks: int, widths: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        name = f"resnet{6 * blocks + 2}"
        check_input(name, shape, 4)
        check_count(name, "widths", widths, 3)
        self.conv1 = nn.Conv2d(shape[0], widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = _stage(widths[0], widths[0], blocks, 1)
        self.layer2 = _stage(widths[0], widths[1], blocks, 2)
        self.layer3 = _stage(widths[1], widths[2], blocks, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.width = widths[2]
        he_normal(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features (N, 64)."""
        hidden = relu(self.bn1(self.conv1(images)))
        hidden = self.layer3(self.layer2(self.layer1(hidden)))
        return self.avgpool(hidden).flatten(1)


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Block(inputs, outputs, stride), *(Block(outputs, outputs, 1) for _ in range(blocks - 1)))


def resnet20(shape: Shape, widths: Sequence[int] = (16, 32, 64)) -> CifarResNet:
    """Return ResNet-20."""
    return CifarResNet(shape, 3, widths)


def resnet32(shape: Shape, widths: Sequence[int] = (16, 32, 64)) -> CifarResNet:
    """Return ResNet-32."""
    return CifarResNet(shape, 5, widths)


def resnet44(shape: Shape, widths: Sequence[int] = (16, 32, 64)) -> CifarResNet:
    """Return ResNet-44."""
    return CifarResNet(shape, 7, widths)


def resnet56(shape: Shape, widths: Sequence[int] = (16, 32, 64)) -> CifarResNet:
    """Return ResNet-56."""
    return CifarResNet(shape, 9, widths)
