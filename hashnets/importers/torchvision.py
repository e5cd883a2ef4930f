"""State dicts with torchvision's names: AlexNet, VGG-16, ResNet-18, -34 and -50, of any widths."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..encoders import resnet, vgg
from .candidate import Candidate, Shapes, outputs_of

ALEXNET = (64, 192, 384, 256, 256)


def torchvision(shapes: Shapes) -> Iterator[Candidate]:
    """AlexNet, VGG-16, ResNet-18/34/50 under torchvision's names, also wrapped or with a hash layer at the end."""
    convolutions = tuple(f"features.{place}" for place in (0, 3, 6, 8, 10))
    yield _dense("alexnet", shapes, convolutions, ALEXNET, ("classifier.1", "classifier.4"), 6)
    convolutions = tuple(f"features.{place}" for place in _vgg_places())
    yield _dense("vgg16", shapes, convolutions, vgg.WIDTHS, ("classifier.0", "classifier.3"), 7)
    widths = outputs_of(shapes, tuple(f"layer{stage}.0.conv1" for stage in (1, 2, 3, 4)), resnet.WIDTHS)
    for name in ("resnet18", "resnet34", "resnet50"):
        yield Candidate(name, ("fc", "hash_layer"), {"widths": widths})


def _vgg_places() -> Iterator[int]:
    """Yield where VGG-16's convolutions stand among nonlinearities and poolings."""
    place = 0
    for convolutions in vgg.STAGES:
        for _ in range(convolutions):
            yield place
            place += 2
        place += 1


def _dense(
    name: str, shapes: Shapes, convolutions: tuple[str, ...], usual: tuple[int, ...], dense: tuple[str, str], grid: int
) -> Candidate:
    widths = outputs_of(shapes, convolutions, usual)
    hidden = outputs_of(shapes, dense, (4096, 4096))
    first = shapes.get(f"{dense[0]}.weight", ())
    if len(first) == 2:
        grid = max(1, math.isqrt(first[1] // max(1, widths[-1])))
    return Candidate(name, ("classifier.6", "hash_layer"), {"widths": widths, "hidden": hidden, "grid": grid})
