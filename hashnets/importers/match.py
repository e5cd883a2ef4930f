"""How well a state dict fits an encoder: tensor by tensor, by name or in the order of saving."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...core.model import Arch
from .candidate import Candidate, Shapes
from .head import Head, Module

Tensors = dict[str, Tensor]

COUNTER = "num_batches_tracked"  # old versions of torch did not save it


@dataclass(frozen=True)
class Match:
    """One reading: the encoder, its tensors in the file, those beside them, and what speaks against it."""

    format: str
    candidate: Candidate
    arch: Arch
    width: int
    pairs: Mapping[str, str]  # the encoder's names and those in the file
    rest: tuple[str, ...]  # names in the file that the encoder does not have
    of: int  # how many tensors the encoder has
    problems: tuple[str, ...]
    head: Head | None = None
    auxiliary: tuple[Module, ...] = field(default=(), repr=False)
    assumed: tuple[str, ...] = ()
    agreeing: int = 0

    @property
    def by_order(self) -> bool:
        """Return whether names differ beyond a common prefix."""
        return any(not (found == own or found.endswith(f".{own}")) for own, found in self.pairs.items())


def by_name(expected: Shapes, tensors: Tensors, prefix: str) -> dict[str, str]:
    """Return the names in the file of those of the encoder's tensors that are there under ``prefix``."""
    return {name: f"{prefix}{name}" for name in expected if f"{prefix}{name}" in tensors}


def in_order(expected: Shapes, tensors: Tensors) -> dict[str, str]:
    """Return the names in the file of the encoder's tensors, one after the other with equal fields and shapes; or nothing."""
    wanted = [(name, shape) for name, shape in expected.items() if not name.endswith(COUNTER)]
    found = [(name, value) for name, value in tensors.items() if not name.endswith(COUNTER)]
    for start in range(len(found) - len(wanted) + 1):
        window = found[start : start + len(wanted)]
        if all(_alike(own, shape, *other) for (own, shape), other in zip(wanted, window, strict=True)):
            pairs = {own: name for (own, _), (name, _) in zip(wanted, window, strict=True)}
            for own in [own for own in pairs if own.endswith("running_var")]:
                counter = f"{pairs[own].removesuffix('running_var')}{COUNTER}"
                if counter in tensors:
                    pairs[f"{own.removesuffix('running_var')}{COUNTER}"] = counter
            return pairs
    return {}


def _alike(own: str, shape: tuple[int, ...], name: str, value: Tensor) -> bool:
    """Return whether field and shape agree; a dense layer may have been saved as a 1x1 convolution."""
    same = tuple(value.shape) == shape or tuple(value.shape) == (*shape, 1, 1)
    return same and own.rpartition(".")[2] == name.rpartition(".")[2]


def differences(expected: Mapping[str, Tensor], tensors: Tensors, pairs: Mapping[str, str]) -> tuple[list[str], int]:
    """Return every difference between the encoder's tensors and those in the file, and how many agree."""
    problems, agreeing = [], 0
    for name, value in expected.items():
        if name not in pairs:
            if not name.endswith(COUNTER):
                problems.append(f"{name} {tuple(value.shape)} is missing")
            continue
        found = tensors[pairs[name]]
        problem = _difference(pairs[name], value, found)
        problems += problem
        agreeing += not problem and not name.endswith(COUNTER)
    return problems, agreeing


def _difference(name: str, own: Tensor, found: Tensor) -> list[str]:
    if found.shape not in (own.shape, (*own.shape, 1, 1)):
        return [f"{name} is {tuple(found.shape)}, should be {tuple(own.shape)}"]
    if found.is_floating_point() != own.is_floating_point() or found.is_complex() or found.is_quantized:
        return [f"{name} is {found.dtype}, should be {own.dtype}"]
    if not bool(torch.isfinite(found).all()):
        return [f"{name} holds values that are not finite"]
    return []
