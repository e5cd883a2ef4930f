"""What every pass asks of what it is given, whatever its settings: values that are numbers, and images if it looks at some."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import nn

from ..core.data.images import Split
from ..core.errors import InputError
from ..core.model import HashModel
from ..modelfile.layers.base import largest
from .looks import looks

LARGEST = 1e15  # of a layer's weights: their squares, summed over a layer, are far from the end of single precision
STATISTICS = ("running_mean", "running_var")


def asking(name: str, kind: type[Any]) -> None:
    """Let the passes of a class, called ``name``, refuse what no pass can work on, when asked to decide and when called."""
    for method in ("decide", "__call__"):
        setattr(kind, method, _asked(name, getattr(kind, method)))


def _asked(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def answered(item: Any, model: HashModel, split: Split | None = None, **settings: Any) -> Any:
        if fault := unusable(model.net):
            raise InputError(
                f"{name} needs weights that are numbers of a usable size, {fault}; train the network again"
            )
        if split is not None and not len(split.train) and looks(item):
            raise InputError(f"{name} needs training images, {split.name} has none; name another data set with --data")
        result = method(item, model, split, **settings)
        if isinstance(result, HashModel) and (fault := unusable(result.net)):
            raise InputError(f"{name} cannot treat this network: afterwards {fault}")
        return result

    return answered


def unusable(net: nn.Module) -> str:
    """Return which values of a network are not finite, or too large to be squared, or nothing."""
    for path, layer in net.named_modules():
        most = LARGEST if isinstance(layer, nn.Conv2d | nn.Linear) else math.inf
        values = dict(layer.named_parameters(recurse=False))
        values |= {name: value for name, value in layer.named_buffers(recurse=False) if name in STATISTICS}
        for name, value in values.items():
            if value.is_floating_point() and not largest(value) < most:
                return f"layer {path!r} has {largest(value):g} in its {name}"
    return ""
