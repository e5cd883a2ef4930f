"""MobileNetV2, MobileNetV3 and EfficientNet-B0 in torchvision's shapes and names (arXiv:1801.04381, 1905.02244, 1905.11946)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import nn

from ...core.errors import InputError
from .spec import Encoder, Shape, check_input, he_normal


class InvertedResidual(NamedTuple):
    """One inverted residual: channels in, expanded and out, kernel, stride, channels of the squeeze (0: none), activation."""

    inputs: int
    expanded: int
    outputs: int
    kernel: int
    stride: int
    squeezed: int
    activation: Callable[[], nn.Module]


class SqueezeExcitation(nn.Module):
    """Channels scaled by a gate that sees their means (arXiv:1709.01507)."""

    def __init__(self, channels: int, squeezed: int, activation: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation = activation
        self.scale_activation = gate

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, C, H, W)."""
        return images * self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(images)))))


class _Shortcut(nn.Module):
    """Adds its input where the shapes agree; ``name`` is that of its only child in torchvision."""

    def __init__(self, name: str, layers: nn.Module, adds: bool) -> None:
        super().__init__()
        self.add_module(name, layers)
        self.inner, self.adds = name, adds

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, C', H / stride, W / stride)."""
        hidden = self.get_submodule(self.inner)(images)
        return images + hidden if self.adds else hidden


class InvertedResiduals(Encoder):
    """What the three families share: ``features``, the mean over the image, and dense layers of ``classifier``."""

    def __init__(self, features: nn.Sequential, channels: int, hidden: int | None) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(channels, hidden), nn.Hardswish()) if hidden else nn.Sequential()
        self.width = hidden or channels
        he_normal(self)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features (N, ``width``)."""
        return self.classifier(self.avgpool(self.features(images)).flatten(1))


def mobilenet_v2(shape: Shape, width_mult: float = 1.0, norm_eps: float = 1e-5) -> InvertedResiduals:
    """Return MobileNetV2, features (N, 1280)."""
    _check("mobilenet_v2", shape, width_mult)
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    channels = _divisible(32 * width_mult)
    layers: list[nn.Module] = [_normed(shape[0], channels, 3, 2, norm_eps, nn.ReLU6)]
    for expansion, width, count, first in stages:
        outputs = _divisible(width * width_mult)
        for place in range(count):
            block = InvertedResidual(
                channels, channels * expansion, outputs, 3, first if place == 0 else 1, 0, nn.ReLU6
            )
            *inner, project = _layers(block, norm_eps, nn.Sigmoid)
            inner += project.children()  # the projection has no Sequential of its own here
            layers.append(_Shortcut("conv", nn.Sequential(*inner), block.stride == 1 and channels == outputs))
            channels = outputs
    last = _divisible(1280 * max(1.0, width_mult))
    return InvertedResiduals(nn.Sequential(*layers, _normed(channels, last, 1, 1, norm_eps, nn.ReLU6)), last, None)


_SMALL = (  # kernel, expanded, out, squeeze and excitation, hard swish, stride
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)
_LARGE = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)


def mobilenet_v3_small(
    shape: Shape, width_mult: float = 1.0, hidden: int | None = 1024, norm_eps: float = 1e-3
) -> InvertedResiduals:
    """Return MobileNetV3-Small; ``hidden`` is the dense layer before the head, null where there is none."""
    return _mobilenet_v3("mobilenet_v3_small", _SMALL, shape, width_mult, hidden, norm_eps)


def mobilenet_v3_large(
    shape: Shape, width_mult: float = 1.0, hidden: int | None = 1280, norm_eps: float = 1e-3
) -> InvertedResiduals:
    """Return MobileNetV3-Large; ``hidden`` is the dense layer before the head, null where there is none."""
    return _mobilenet_v3("mobilenet_v3_large", _LARGE, shape, width_mult, hidden, norm_eps)


def _mobilenet_v3(
    name: str, table: tuple, shape: Shape, width_mult: float, hidden: int | None, norm_eps: float
) -> InvertedResiduals:
    _check(name, shape, width_mult)
    channels = _divisible(16 * width_mult)
    layers: list[nn.Module] = [_normed(shape[0], channels, 3, 2, norm_eps, nn.Hardswish)]
    for kernel, wide, narrow, squeezes, swish, stride in table:
        expanded, outputs = _divisible(wide * width_mult), _divisible(narrow * width_mult)
        squeezed = _divisible(expanded // 4) if squeezes else 0
        block = InvertedResidual(
            channels, expanded, outputs, kernel, stride, squeezed, nn.Hardswish if swish else nn.ReLU
        )
        inner = nn.Sequential(*_layers(block, norm_eps, nn.Hardsigmoid, nn.ReLU))
        layers.append(_Shortcut("block", inner, stride == 1 and channels == outputs))
        channels = outputs
    layers.append(_normed(channels, 6 * channels, 1, 1, norm_eps, nn.Hardswish))
    return InvertedResiduals(nn.Sequential(*layers), 6 * channels, hidden)


def efficientnet_b0(shape: Shape, norm_eps: float = 1e-5) -> InvertedResiduals:
    """Return EfficientNet-B0, features (N, 1280); without stochastic depth."""
    _check("efficientnet_b0", shape, 1.0)
    stages = (  # expansion, kernel, stride, outputs, count
        (1, 3, 1, 16, 1),
        (6, 3, 2, 24, 2),
        (6, 5, 2, 40, 2),
        (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    )
    channels = 32
    layers: list[nn.Module] = [_normed(shape[0], channels, 3, 2, norm_eps, nn.SiLU)]
    for expansion, kernel, first, outputs, count in stages:
        stage = []
        for place in range(count):
            stride = first if place == 0 else 1
            block = InvertedResidual(
                channels, channels * expansion, outputs, kernel, stride, max(1, channels // 4), nn.SiLU
            )
            inner = nn.Sequential(*_layers(block, norm_eps, nn.Sigmoid, nn.SiLU))
            stage.append(_Shortcut("block", inner, stride == 1 and channels == outputs))
            channels = outputs
        layers.append(nn.Sequential(*stage))
    layers.append(_normed(channels, 4 * channels, 1, 1, norm_eps, nn.SiLU))
    return InvertedResiduals(nn.Sequential(*layers), 4 * channels, None)


def _layers(
    block: InvertedResidual, eps: float, gate: Callable[[], nn.Module], squeeze: Callable[[], nn.Module] = nn.ReLU
) -> Iterator[nn.Module]:
    """Yield expansion (where there is one), depthwise convolution, squeeze and excitation, projection."""
    if block.expanded != block.inputs:
        yield _normed(block.inputs, block.expanded, 1, 1, eps, block.activation)
    yield _normed(block.expanded, block.expanded, block.kernel, block.stride, eps, block.activation, block.expanded)
    if block.squeezed:
        yield SqueezeExcitation(block.expanded, block.squeezed, squeeze(), gate())
    yield _normed(block.expanded, block.outputs, 1, 1, eps, None)


def _normed(
    inputs: int,
    outputs: int,
    kernel: int,
    stride: int,
    eps: float,
    activation: Callable[[], nn.Module] | None,
    groups: int = 1,
) -> nn.Sequential:
    """Return convolution, batch norm and activation."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers = [convolution, nn.BatchNorm2d(outputs, eps=eps)]
    return nn.Sequential(*layers) if activation is None else nn.Sequential(*layers, activation())


def _divisible(channels: float) -> int:
    """Return the nearest multiple of 8 that is at most a tenth smaller, as the papers' code rounds."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _check(name: str, shape: Shape, width_mult: float) -> None:
    check_input(name, shape, 32)
    if not 0 < width_mult <= 16:
        raise InputError(f"{name}: option 'width_mult' takes a factor up to 16, got {width_mult}")
