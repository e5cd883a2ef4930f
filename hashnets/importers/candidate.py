"""One reading of a foreign state dict: which encoder of ours it could be, with which options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...core.model import Json

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Candidate:
    """An encoder with options read from shapes.

    ``by_order`` says that names differ and tensors are paired in the order in which they were saved; ``note`` is told.
    """

    encoder: str
    options: Mapping[str, Json] = field(default_factory=dict)
    by_order: bool = False
    note: str = ""


def outputs_of(shapes: Shapes, layers: tuple[str, ...], otherwise: tuple[int, ...]) -> list[int]:
    """Return how many outputs each layer's weight has; where one is missing, its usual number."""
    found = (shapes.get(f"{layer}.weight", ()) for layer in layers)
    return [shape[0] if shape else usual for shape, usual in zip(found, otherwise, strict=True)]
