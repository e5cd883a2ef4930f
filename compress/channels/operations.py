"""Effect of operations of the traced graph on channels: kept, scaled non-homogeneously, or unknown."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional

# f(a x) = a f(x) for a > 0
HOMOGENEOUS = (nn.ReLU, nn.LeakyReLU, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
HOMOGENEOUS += (nn.Dropout, nn.Identity)
NONHOMOGENEOUS = (nn.ReLU6, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.ELU, nn.Hardswish, nn.Hardsigmoid, nn.Softplus)
HOMOGENEOUS_CALLS: tuple[Any, ...] = (functional.relu, torch.relu, functional.max_pool2d, functional.avg_pool2d)
HOMOGENEOUS_CALLS += (functional.adaptive_avg_pool2d, functional.dropout, functional.leaky_relu, torch.max_pool2d)
HOMOGENEOUS_CALLS += ("relu", "contiguous", "clone")
NONHOMOGENEOUS_CALLS: tuple[Any, ...] = (torch.sigmoid, torch.tanh, functional.gelu, functional.silu, functional.relu6)
NONHOMOGENEOUS_CALLS += (functional.sigmoid, functional.tanh, "sigmoid", "tanh")
RESHAPING = (torch.reshape, "view", "reshape")
FLATTENING = (torch.flatten, "flatten", *RESHAPING)
ADDING = (operator.add, operator.iadd, torch.add, "add", "add_")
MEANS = (torch.mean, "mean")

UNKNOWN = "which is not known"


def flattened(given: np.ndarray, before: torch.Tensor, result: torch.Tensor) -> np.ndarray | str:
    """Return the channel id of each feature after flattening all axes but the first, or why they are unknown."""
    if result.ndim != 2 or result.shape[0] != before.shape[0]:
        return UNKNOWN
    return np.repeat(given, before.shape[2:].numel())


def fixed_features(node: fx.Node) -> bool:
    """Whether a reshape has a fixed number of features, so that the number of channels cannot change."""
    sizes: Any = node.args[1:] or node.kwargs.get("shape", node.kwargs.get("size", ()))
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = sizes[0]
    return node.target in RESHAPING and bool(sizes) and isinstance(sizes[-1], int) and sizes[-1] != -1


def over_pixels(node: fx.Node, axes: int, left: int) -> bool:
    """Whether a mean or an index, from ``axes`` to ``left`` axes, only affects spatial axes."""
    if node.target is operator.getitem:
        index = node.args[1] if isinstance(node.args[1], tuple) else (node.args[1],)
        return all(part == slice(None) for part in index[:2]) and left == axes
    given: Any = argument(node, 1, "dim", node.kwargs.get("axis"))
    means = (given,) if isinstance(given, int) else tuple(given or ())
    return axes == 4 and bool(means) and {axis % 4 for axis in means} <= {2, 3}


def padding_of(node: fx.Node) -> tuple[tuple[int, ...], bool, bool]:
    """Return the padding widths from the last axis on, whether it pads with nonzero constants, and whether with zeros."""
    widths, mode = argument(node, 1, "pad"), argument(node, 2, "mode", "constant")
    zero = argument(node, 3, "value") in (None, 0)
    return tuple(widths), mode == "constant" and not zero, mode == "constant" and zero


def joined(node: fx.Node, tensors: int, axes: int) -> bool:
    """Whether ``torch.cat`` concatenates ``tensors`` different tensors along the channel axis."""
    return len(argument(node, 0, "tensors")) == tensors and argument(node, 1, "dim", node.kwargs.get("axis", 0)) in (
        1,
        1 - axes,
    )


def argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """Return an argument of a call by position or name."""
    return node.args[place] if len(node.args) > place else node.kwargs.get(name, default)


def name_of(node: fx.Node) -> str:
    """Return the name of the layer, method or function that a node calls."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "a function")
