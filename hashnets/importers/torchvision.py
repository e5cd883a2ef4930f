"""State dicts with torchvision's names: AlexNet, VGG-16 and ResNets of any widths, MobileNetV2 and V3, EfficientNet-B0."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..encoders import resnet, vgg
from .candidate import Candidate, Shapes, outputs_of

ALEXNET = (64, 192, 384, 256, 256)


def torchvision(shapes: Shapes) -> Iterator[Candidate]:
    """AlexNet, VGG-16, ResNet-18/34/50, MobileNetV2/V3, EfficientNet-B0 in torchvision's layout, with any head."""
    convolutions = tuple(f"features.{place}" for place in (0, 3, 6, 8, 10))
    yield from _dense("alexnet", shapes, convolutions, ALEXNET, ("classifier.1", "classifier.4"), 6)
    convolutions = tuple(f"features.{place}" for place in _vgg_places())
    yield from _dense("vgg16", shapes, convolutions, vgg.WIDTHS, ("classifier.0", "classifier.3"), 7)
    widths = outputs_of(shapes, tuple(f"layer{stage}.0.conv1" for stage in (1, 2, 3, 4)), resnet.WIDTHS)
    for name in ("resnet18", "resnet34", "resnet50"):
        yield Candidate(name, {"widths": widths})
    yield from _inverted_residuals(shapes)


def _vgg_places() -> Iterator[int]:
    """Yield where VGG-16's convolutions stand among nonlinearities and poolings."""
    place = 0
    for convolutions in vgg.STAGES:
        for _ in range(convolutions):
            yield place
            place += 2
        place += 1


def _inverted_residuals(shapes: Shapes) -> Iterator[Candidate]:
    """Yield the encoders with depthwise convolutions; of MobileNetV3 also without the dense layer before the last."""
    factor = shapes.get("features.0.0.weight", (0,))[0]
    narrow = {} if factor in (0, 32) else {"width_mult": factor / 32}
    yield Candidate("mobilenet_v2", narrow)
    yield Candidate("efficientnet_b0")
    first, last = shapes.get("classifier.0.weight", ()), shapes.get("classifier.3.weight", ())
    chained = len(first) == len(last) == 2 and first[0] == last[1]
    narrow = {} if factor in (0, 16) else {"width_mult": factor / 16}
    for name in ("mobilenet_v3_small", "mobilenet_v3_large"):
        yield Candidate(name, narrow | {"hidden": first[0] if chained else None})


def _dense(
    name: str, shapes: Shapes, convolutions: tuple[str, ...], usual: tuple[int, ...], dense: tuple[str, str], grid: int
) -> Iterator[Candidate]:
    """Yield a network of convolutions and two dense layers, whatever those are called."""
    widths = outputs_of(shapes, convolutions, usual)
    by_order = f"{convolutions[0]}.weight" in shapes and not all(f"{layer}.weight" in shapes for layer in dense)
    if by_order:
        others = [key.removesuffix(".weight") for key, shape in shapes.items() if _is_dense(key, shape)]
        dense = (others[0], others[1]) if len(others) > 1 else dense
    hidden = outputs_of(shapes, dense, (4096, 4096))
    first = shapes.get(f"{dense[0]}.weight", ())
    if len(first) == 2:
        grid = max(1, math.isqrt(first[1] // max(1, widths[-1])))
    yield Candidate(name, {"widths": widths, "hidden": hidden, "grid": grid}, by_order=by_order)


def _is_dense(key: str, shape: tuple[int, ...]) -> bool:
    return key.endswith(".weight") and len(shape) == 2
