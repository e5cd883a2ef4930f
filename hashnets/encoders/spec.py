"""What every family of encoders shares: its entry in the registry, the check of input sizes, the initial values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from ...core.errors import InputError
from ...core.inputs import ImageInput, Input

Shape = tuple[int, ...]  # of one input: (C, H, W), (size,) or (length,)

WIDEST = 1 << 16  # layer; wider ones are mistakes

MNIST = ImageInput((1, 28, 28), (0.1307,), (0.3081,))
CIFAR = ImageInput((3, 32, 32), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
IMAGENET = ImageInput((3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Encoder(nn.Module):
    """Inputs (N, ...) to features (N, ``width``)."""

    width: int


@dataclass(frozen=True)
class EncoderSpec:
    """One family member: ``build(shape, **options)`` makes it, ``input`` is what it was published with, if it names one."""

    name: str
    build: Callable[..., Encoder]
    input: Input | None
    about: str
    takes: tuple[type[Input], ...] = (ImageInput,)


def check_input(name: str, shape: Shape, smallest: int) -> None:
    """Raise InputError unless ``shape`` is (C, H, W) with sides of at least ``smallest`` pixels."""
    if len(shape) != 3:
        raise InputError(f"{name} takes images of shape (C, H, W), got an input of shape {tuple(shape)}")
    if min(shape[1:]) < smallest:
        raise InputError(
            f"{name} needs images of at least {smallest}x{smallest} pixels, got {shape[1]}x{shape[2]}; "
            "enlarge them (data option size=N) or take a smaller encoder such as smallconv"
        )


def check_count(name: str, option: str, values: Sequence[int], count: int) -> None:
    """Raise InputError unless the option holds ``count`` positive numbers of at most WIDEST."""
    if len(values) != count or any(not 1 <= value <= WIDEST for value in values):
        raise InputError(
            f"{name}: option {option!r} takes {count} positive numbers of at most {WIDEST:,}, got {list(values)}"
        )


def he_normal(net: nn.Module) -> None:
    """Draw weights from He's normal distribution by fan-in, biases zero (He et al. 2015, arXiv:1502.01852).

    Fan-in keeps the scale of the signal through networks without batch norm even where the first layer sees one channel.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
