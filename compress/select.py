"""Which layers a setting is for: by name, by ``re:`` pattern, by place (``first``, ``head``), by kind (``conv``, ``dense``)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import nn

from ..core.errors import RecipeError
from ..core.layers import computed
from ..modelfile.layers.base import CompressedLayer

Value = TypeVar("Value")

ANY = "*"
OTHERS = (nn.Conv1d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.RNNBase, nn.Embedding)
WORDS = ("first", "head", "conv", "dense", ANY)  # from the narrowest to the widest


def weighted(net: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Return the plain convolutions and dense layers of ``net`` by path, in the order they were made."""
    return {
        path: layer
        for path, layer in net.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and not unlike_plain(layer)
    }


def skipped(net: nn.Module) -> dict[str, str]:
    """Return why other layers with parameters are left alone."""
    reasons = {}
    for path, layer in net.named_modules():
        if isinstance(layer, CompressedLayer):
            reasons[path] = "already in another form"
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            if reason := unlike_plain(layer):
                reasons[path] = reason
        elif isinstance(layer, OTHERS):
            reasons[path] = f"layers of type {type(layer).__name__} are not treated"
    return reasons


def unlike_plain(layer: nn.Conv2d | nn.Linear) -> str:
    """Return why a layer may compute something else than a plain one with its weight, or nothing."""
    if computed(layer):
        return "its weight is computed from others (a parametrization)"
    if type(layer) not in (nn.Conv2d, nn.Linear):
        return f"a {type(layer).__name__} may compute in a way of its own"
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        return f"padding {layer.padding_mode!r}"
    if layer.weight.dtype != torch.float32:
        return f"its weight is {str(layer.weight.dtype).removeprefix('torch.')}, and forms keep float32"
    return ""


def words_of(path: str, layer: nn.Module, first: str) -> set[str]:
    """Return which of ``first``, ``head``, ``conv``, ``dense`` and ``*`` apply to a layer."""
    words = {ANY, "conv" if isinstance(layer, nn.Conv2d) else "dense"}
    if path == first:
        words.add("first")
    if path == "head" or path.startswith("head."):
        words.add("head")
    return words


def pick(settings: Mapping[str, Value], path: str, words: set[str]) -> Value | None:
    """Return the value for a layer: of its name, else of the first pattern that fits, else of the narrowest word."""
    if path in settings:
        return settings[path]
    for key, value in settings.items():
        if key.startswith("re:") and re.fullmatch(key[3:], path):
            return value
    return next((settings[word] for word in WORDS if word in words and word in settings), None)


def spread(setting: Value | Mapping[str, Value], net: nn.Module, skip: Sequence[str] = ()) -> dict[str, Value]:
    """Return the value of ``setting``, one for all or a table, for each layer it is for.

    Raises:
        RecipeError: an entry of the table, or of ``skip``, that matches no layer.
    """
    table: Mapping[str, Value] = setting if isinstance(setting, Mapping) else {ANY: setting}
    layers = weighted(net)
    first = next(iter(layers), "")
    words = {path: words_of(path, layer, first) for path, layer in layers.items()}
    check_matched((*table, *skip), words)
    left = dict.fromkeys(skip, True)
    chosen = {path: pick(table, path, words[path]) for path in layers if not pick(left, path, words[path])}
    return {path: value for path, value in chosen.items() if value is not None}


def check_matched(keys: Sequence[str], words: Mapping[str, set[str]]) -> None:
    """Raise RecipeError at a name or pattern that matches none of the layers, given with their words."""
    for key in keys:
        if key not in WORDS and not any(pick({key: True}, path, words[path]) for path in words):
            raise RecipeError(f"no layer matches {key!r} (there are: {', '.join(words)})")


def check_keys(where: str, keys: Sequence[str]) -> list[str]:
    """Return what is wrong with patterns."""
    problems = []
    for key in keys:
        try:
            re.compile(key[3:] if key.startswith("re:") else "")
        except re.error as fault:
            problems.append(f"{where}: {key!r} is no regular expression ({fault})")
    return problems
