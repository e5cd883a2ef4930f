"""Checkpoints of github.com/akamaster/pytorch_resnet_cifar10: ResNet-20, -32, -44 and -56 with option A shortcuts."""

from __future__ import annotations

from collections.abc import Iterator

from .candidate import Candidate, Shapes, outputs_of


def pytorch_resnet_cifar10(shapes: Shapes) -> Iterator[Candidate]:
    """ResNet-20/32/44/56 for CIFAR as akamaster/pytorch_resnet_cifar10 saves them (.th), of any widths."""
    widths = outputs_of(shapes, tuple(f"layer{stage}.0.conv1" for stage in (1, 2, 3)), (16, 32, 64))
    for name in ("resnet20", "resnet32", "resnet44", "resnet56"):
        yield Candidate(name, {"widths": widths})
