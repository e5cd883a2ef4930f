"""One reading of a foreign state dict: which encoder of ours it could be, with which widths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...core.model import Json

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Candidate:
    """An encoder with options read from shapes; tensors under ``classifier`` are what the hash head replaces."""

    encoder: str
    classifier: tuple[str, ...]
    options: Mapping[str, Json] = field(default_factory=dict)


def outputs_of(shapes: Shapes, layers: tuple[str, ...], otherwise: tuple[int, ...]) -> list[int]:
    """Return how many outputs each layer's weight has; where one is missing, its usual number."""
    found = (shapes.get(f"{layer}.weight", ()) for layer in layers)
    return [shape[0] if shape else usual for shape, usual in zip(found, otherwise, strict=True)]
