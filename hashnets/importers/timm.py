"""State dicts with timm's names: MobileNetV2, MobileNetV3 and EfficientNet-B0 (its ResNets have torchvision's names)."""

from __future__ import annotations

from collections.abc import Iterator

from .candidate import Candidate, Shapes

NOTE = "taken for timm's own weights; those ported from TensorFlow (tf_...) have another padding and epsilon"


def timm(shapes: Shapes) -> Iterator[Candidate]:
    """MobileNetV2, MobileNetV3-Small/Large and EfficientNet-B0 as timm saves them, with a classifier or a hash layer."""
    if "conv_stem.weight" not in shapes:
        return
    yield Candidate("efficientnet_b0", {}, by_order=True, note=NOTE)
    yield Candidate("mobilenet_v2", {}, by_order=True, note=NOTE)
    head = shapes.get("conv_head.weight", ())
    options = {"hidden": head[0] if "conv_head.bias" in shapes and head else None, "norm_eps": 1e-5}
    for name in ("mobilenet_v3_small", "mobilenet_v3_large"):
        yield Candidate(name, options, by_order=True, note=NOTE)
