"""Weights that a checkpoint holds in parts: weight norm, spectral norm, pruning masks; computed once, as evaluation does."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from ...core.errors import CheckpointError

Tensors = dict[str, Tensor]

_NEW = re.compile(r"(?P<layer>.*?)\.?parametrizations\.(?P<name>[^.]+)\.(?P<part>.+)")
_OLD = re.compile(r"(?P<layer>(?:.*\.)?)(?P<name>weight|bias)_(?P<part>g|v|orig|mask|u)")


def with_computed_weights(tensors: Tensors) -> tuple[Tensors, list[str]]:
    """Return ``tensors`` with computed weights under their own names, and one line for each that was computed.

    Raises:
        CheckpointError: a parametrization that the file alone does not describe.
    """
    parts: dict[str, Tensors] = {}
    plain: Tensors = {}
    places: dict[str, str] = {}
    for name, value in tensors.items():
        new, old = _NEW.fullmatch(name), _OLD.fullmatch(name)
        if new:
            target = f"{new['layer']}.{new['name']}".lstrip(".")
            parts.setdefault(target, {})[new["part"]] = value
        elif old and _has_partner(old, tensors):
            target = f"{old['layer']}{old['name']}"
            parts.setdefault(target, {})[old["part"]] = value
        else:
            plain[name] = value
            continue
        if target not in plain:
            plain[target] = torch.empty(0)  # keeps the place in the order
            places[target] = name
    notes = []
    for target, found in parts.items():
        how, plain[target] = _computed(target, found)
        notes.append(f"{target}: {how}, computed once")
    return plain, notes


def _has_partner(match: re.Match[str], tensors: Tensors) -> bool:
    """Return whether a name such as ``weight_v`` stands beside the other parts of the same weight."""
    stem = f"{match['layer']}{match['name']}_"
    return any(f"{stem}{first}" in tensors and f"{stem}{second}" in tensors for first, second in PAIRS)


PAIRS = (("g", "v"), ("orig", "mask"), ("orig", "u"))


def _computed(target: str, parts: Tensors) -> tuple[str, Tensor]:
    names = set(parts)
    values = {name: _real(target, value) for name, value in parts.items()}
    if names == {"g", "v"}:
        return "weight norm", _weight_norm(target, values["g"], values["v"])
    if names == {"original0", "original1"}:
        return "weight norm", _weight_norm(target, values["original0"], values["original1"])
    if names == {"orig", "mask"} and values["orig"].shape == values["mask"].shape:
        return "pruning mask", values["orig"] * values["mask"]
    if names == {"orig", "u", "v"}:
        return "spectral norm", _spectral(target, values["orig"], values["u"], values["v"])
    if names == {"original", "0._u", "0._v"}:
        return "spectral norm", _spectral(target, values["original"], values["0._u"], values["0._v"])
    raise CheckpointError(
        f"{target} is computed from {', '.join(sorted(names))}, and the file does not say how; save the network after "
        "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight'), or import it with --encoder module:function"
    )


def _real(target: str, value: Tensor) -> Tensor:
    if value.is_complex() or value.is_quantized:
        raise CheckpointError(f"{target} is computed from {value.dtype} values, which is not supported")
    return value.float()


def _weight_norm(target: str, length: Tensor, direction: Tensor) -> Tensor:
    """Return ``length * direction / |direction|``, the norm over the axes that ``length`` lacks."""
    if length.numel() == 1:
        return length.reshape(()) * direction / torch.linalg.vector_norm(direction)
    if length.ndim != direction.ndim or any(
        a not in (1, b) for a, b in zip(length.shape, direction.shape, strict=True)
    ):
        raise CheckpointError(
            f"{target}: the lengths {tuple(length.shape)} of weight norm do not fit {tuple(direction.shape)}"
        )
    axes = [axis for axis, size in enumerate(length.shape) if size == 1]
    return (
        length * direction / (torch.linalg.vector_norm(direction, dim=axes, keepdim=True) if axes else direction.abs())
    )


def _spectral(target: str, weight: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return the weight over its largest singular value, which the vectors of the power iteration estimate."""
    if left.ndim != 1 or right.ndim != 1 or left.numel() * right.numel() != weight.numel():
        raise CheckpointError(f"{target}: the vectors of spectral norm do not fit its shape {tuple(weight.shape)}")
    if weight.shape[0] == left.numel():
        matrix = weight.flatten(1)
    else:
        raise CheckpointError(f"{target}: spectral norm along another axis than 0 is not supported")
    return weight / torch.dot(left, torch.mv(matrix, right))
