"""Masks that keep pruned weights at zero during training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from ...core.layers import get_layer, original
from ...core.model import HashModel
from ...modelfile.edits import Pruned


def masks_of(model: HashModel) -> dict[str, Tensor]:
    """Return the masks of nonzero weights of pruned plain layers."""
    paths = {path for edit in model.edits if isinstance(edit, Pruned) for path in edit.layers}
    layers: dict[str, Any] = {path: get_layer(model.net, path) for path in sorted(paths)}
    return {
        path: layer.weight.detach() != 0 for path, layer in layers.items() if isinstance(layer, nn.Conv2d | nn.Linear)
    }


def mask_enforcer(net: nn.Module, masks: Mapping[str, Tensor]) -> Callable[[], None]:
    """Return a function that sets the masked weights of ``net`` to zero."""
    layers = {path: get_layer(net, path) for path in masks}
    pairs: list[tuple[Any, Tensor]] = [
        (original(layer) if is_parametrized(layer, "weight") else layer.weight, ~masks[path])
        for path, layer in layers.items()
    ]

    @torch.no_grad()
    def hold() -> None:
        for weight, gone in pairs:
            weight.masked_fill_(gone.to(weight.device), 0.0)

    return hold
