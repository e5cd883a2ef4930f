"""Other people's checkpoints: each importer proposes encoders for the shapes in a state dict, one format a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .candidate import Candidate, Shapes
from .cifar_resnet import pytorch_resnet_cifar10
from .timm import timm
from .torchvision import torchvision

IMPORTERS: dict[str, Callable[[Shapes], Iterator[Candidate]]] = {
    "torchvision": torchvision,
    "timm": timm,
    "pytorch_resnet_cifar10": pytorch_resnet_cifar10,
}
