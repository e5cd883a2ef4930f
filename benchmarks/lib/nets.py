"""Networks of the papers that hashpress has no name for; ``Arch.encoder`` calls them ``nets:FUNCTION``.

Model files keep that name. The benchmarks answer it (``cells.py``); elsewhere this folder must be on the path:
``PYTHONPATH=benchmarks/lib hashpress evaluate FILE ... --trust-code``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from hashpress.core.layers import set_layer
from hashpress.hashnets.encoders.lenet import LeNet5
from hashpress.hashnets.encoders.spec import he_normal
from torch import nn
from torch.nn.functional import dropout, max_pool2d, relu


def mlp(shape: Sequence[int], widths: Sequence[int] = (1000,), dropout: float = 0.5, noise: float = 0.2) -> nn.Module:
    """Return dense layers with ReLU and dropout; ``noise`` is the dropout of the pixels."""
    sizes = [shape[0] * shape[1] * shape[2], *widths]
    net = nn.Sequential(nn.Flatten(), nn.Dropout(noise))
    for index, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        net.add_module(f"fc{index + 1}", nn.Linear(inputs, outputs))
        net.add_module(f"relu{index + 1}", nn.ReLU())
        net.add_module(f"drop{index + 1}", nn.Dropout(dropout))
    he_normal(net)
    net.width = widths[-1]
    return net


class EarlyDropLeNet5(LeNet5):
    """LeNet-5 with dropout of a quarter of the dense layer's inputs."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features (N, widths[2])."""
        hidden = max_pool2d(self.conv1(images), 2)
        hidden = max_pool2d(self.conv2(hidden), 2)
        return relu(self.fc1(dropout(hidden.flatten(1), 0.25, self.training)))


def lenet5_dropout(
    shape: Sequence[int], widths: Sequence[int] = (20, 50, 500), dropout: float = 0.5, early: bool = False
) -> nn.Module:
    """Return LeNet-5 with dropout of the dense layer's features and, ``early``, of its inputs."""
    kind = EarlyDropLeNet5 if early else LeNet5
    net = nn.Sequential(kind((shape[0], shape[1], shape[2]), widths), nn.Dropout(dropout))
    net.width = widths[2]
    return net


class NormedLeNet5(LeNet5):
    """LeNet-5 with a batch norm after each layer and, if asked for, ReLU after the convolutions too."""

    def __init__(self, shape: tuple[int, int, int], widths: Sequence[int], active: bool) -> None:
        super().__init__(shape, widths)
        self.norm1, self.norm2 = nn.BatchNorm2d(widths[0]), nn.BatchNorm2d(widths[1])
        self.norm3 = nn.BatchNorm1d(widths[2])
        self.active = nn.ReLU() if active else nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features (N, widths[2])."""
        hidden = self.active(max_pool2d(self.norm1(self.conv1(images)), 2))
        hidden = self.active(max_pool2d(self.norm2(self.conv2(hidden)), 2))
        return relu(self.norm3(self.fc1(hidden.flatten(1))))


def lenet5_norm(shape: Sequence[int], widths: Sequence[int] = (20, 50, 500), *, active: bool = False) -> nn.Module:
    """Return LeNet-5 with batch norms, which ``fold`` takes away; ``active``: with ReLU after the convolutions."""
    return NormedLeNet5((shape[0], shape[1], shape[2]), widths, active)


def caffe_alexnet(shape: Sequence[int]) -> nn.Module:
    """Return Caffe's AlexNet, convolutions in two groups, without its last layer."""
    net = nn.Sequential()
    for name, layer in (
        ("conv1", nn.Conv2d(shape[0], 96, 11, 4)),
        ("relu1", nn.ReLU()),
        ("pool1", nn.MaxPool2d(3, 2)),
        ("conv2", nn.Conv2d(96, 256, 5, padding=2, groups=2)),
        ("relu2", nn.ReLU()),
        ("pool2", nn.MaxPool2d(3, 2)),
        ("conv3", nn.Conv2d(256, 384, 3, padding=1)),
        ("relu3", nn.ReLU()),
        ("conv4", nn.Conv2d(384, 384, 3, padding=1, groups=2)),
        ("relu4", nn.ReLU()),
        ("conv5", nn.Conv2d(384, 256, 3, padding=1, groups=2)),
        ("relu5", nn.ReLU()),
        ("pool5", nn.MaxPool2d(3, 2)),
        ("flat", nn.Flatten()),
        ("fc6", nn.Linear(9216, 4096)),
        ("relu6", nn.ReLU()),
        ("fc7", nn.Linear(4096, 4096)),
        ("relu7", nn.ReLU()),
    ):
        net.add_module(name, layer)
    he_normal(net)
    net.width = 4096
    return net


def vgg_style(shape: Sequence[int], widths: Sequence[int] = (48, 96, 192)) -> nn.Module:
    """Return pairs of 3x3 convolutions with batch norm, a pooling after each pair, and the mean over what is left."""
    net, inputs = nn.Sequential(), shape[0]
    for stage, width in enumerate(widths, start=1):
        for part in (1, 2):
            net.add_module(f"conv{stage}{part}", nn.Conv2d(inputs, width, 3, padding=1, bias=False))
            net.add_module(f"norm{stage}{part}", nn.BatchNorm2d(width))
            net.add_module(f"relu{stage}{part}", nn.ReLU())
            inputs = width
        net.add_module(f"pool{stage}", nn.MaxPool2d(2))
    net.add_module("mean", nn.AdaptiveAvgPool2d(1))
    net.add_module("flat", nn.Flatten())
    he_normal(net)
    net.width = widths[-1]
    return net


class RandomEdges(nn.Linear):
    """A dense layer of which a share of the weights exists, the same for one seed (RER, Cireşan et al. 2011)."""

    def __init__(self, layer: nn.Linear, values: int, seed: int) -> None:
        super().__init__(layer.in_features, layer.out_features)
        generator = torch.Generator().manual_seed(seed)
        kept = torch.randperm(layer.weight.numel(), generator=generator)[:values]
        mask = torch.zeros(layer.weight.numel())
        mask[kept] = 1
        self.register_buffer("mask", mask.view_as(layer.weight))
        with torch.no_grad():
            spread = (2 * layer.out_features / values) ** 0.5
            self.weight.copy_(torch.randn(self.weight.shape, generator=generator) * spread)
            self.bias.zero_()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (N, O)."""
        return nn.functional.linear(features, self.weight * self.mask, self.bias)


class RandomRank(nn.Module):
    """A dense layer of low rank: inputs are projected at random, drawn from the seed, and the rest is learned (LRD).

    Denil et al. (2013) fix the factor on the side of the inputs; on the other side a head of ten outputs would have rank 1.
    """

    def __init__(self, layer: nn.Linear, values: int, seed: int) -> None:
        super().__init__()
        rank = max(1, round(values / layer.out_features))
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer(
            "fixed", torch.randn(rank, layer.in_features, generator=generator) / layer.in_features**0.5
        )
        self.learned = nn.Parameter(torch.randn(layer.out_features, rank, generator=generator) * (2 / rank) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(layer.out_features))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return (N, O)."""
        return features @ self.fixed.T @ self.learned.T + self.bias


def replaced(net: nn.Module, kind: type[nn.Module], share: float, seed: int) -> nn.Module:
    """Put ``kind`` in the place of every dense layer of ``net``, with ``share`` of its values, biases included."""
    for number, (path, layer) in enumerate(list(net.named_modules())):
        if isinstance(layer, nn.Linear):
            values = round(share * (layer.weight.numel() + layer.out_features)) - layer.out_features
            set_layer(net, path, kind(layer, max(values, 1), seed + number))
    return net


VGG11 = ((64,), (128,), (256, 256), (512, 512), (512, 512))


def vgg11(shape: Sequence[int], share: float = 0.5) -> nn.Module:
    """Return the convolutions of VGG's configuration A (Simonyan & Zisserman 2015) at a share of their widths, with batch norm."""
    net, inputs = nn.Sequential(), shape[0]
    for stage, widths in enumerate(VGG11, start=1):
        for place, full in enumerate(widths, start=1):
            width = round(share * full)
            net.add_module(f"conv{stage}{place}", nn.Conv2d(inputs, width, 3, padding=1, bias=False))
            net.add_module(f"norm{stage}{place}", nn.BatchNorm2d(width))
            net.add_module(f"relu{stage}{place}", nn.ReLU())
            inputs = width
        net.add_module(f"pool{stage}", nn.MaxPool2d(2))
    net.add_module("flat", nn.Flatten())
    he_normal(net)
    net.width = inputs * (shape[1] >> len(VGG11)) * (shape[2] >> len(VGG11))
    return net
