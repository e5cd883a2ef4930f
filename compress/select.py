"""Selection of layers by name, ``re:`` pattern, position (``first``, ``head``) or kind (``conv``, ``dense``)."""

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
KEYWORDS = ("first", "head", "conv", "dense", ANY)  # from the narrowest to the widest


def weighted(net: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Return the plain convolutions and dense layers of ``net`` by path, in the order of registration."""
    return {
        path: layer
        for path, layer in net.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and not unsupported_reason(layer)
    }


def skipped(net: nn.Module) -> dict[str, str]:
    """Return the other layers with parameters, with the reason why passes skip them."""
    reasons = {}
    for path, layer in net.named_modules():
        if isinstance(layer, CompressedLayer):
            reasons[path] = "already in another form"
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            if reason := unsupported_reason(layer):
                reasons[path] = reason
        elif isinstance(layer, OTHERS):
            reasons[path] = f"layers of type {type(layer).__name__} are not treated"
    return reasons


def unsupported_reason(layer: nn.Conv2d | nn.Linear) -> str:
    """Return why ``layer`` may not compute a plain convolution or product with its weight, or an empty string."""
    if computed(layer):
        return "its weight is computed from others (a parametrization)"
    if type(layer) not in (nn.Conv2d, nn.Linear):
        return f"a {type(layer).__name__} may compute in a way of its own"
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        return f"padding {layer.padding_mode!r}"
    if layer.weight.dtype != torch.float32:
        return f"its weight is {str(layer.weight.dtype).removeprefix('torch.')}, and forms keep float32"
    return ""


def keywords_of(path: str, layer: nn.Module, first: str) -> set[str]:
    """Return which of the keywords ``first``, ``head``, ``conv``, ``dense`` and ``*`` apply to a layer."""
    keywords = {ANY, "conv" if isinstance(layer, nn.Conv2d) else "dense"}
    if path == first:
        keywords.add("first")
    if path == "head" or path.startswith("head."):
        keywords.add("head")
    return keywords


def pick(settings: Mapping[str, Value], path: str, keywords: set[str]) -> Value | None:
    """Return the value for a layer: by name, else by the first matching pattern, else by the most specific keyword."""
    if path in settings:
        return settings[path]
    for key, value in settings.items():
        if key.startswith("re:") and re.fullmatch(key[3:], path):
            return value
    return next((settings[word] for word in KEYWORDS if word in keywords and word in settings), None)


def per_layer(setting: Value | Mapping[str, Value], net: nn.Module, skip: Sequence[str] = ()) -> dict[str, Value]:
    """Return the value of ``setting``, a single value or a table, for each layer that it applies to.

    Raises:
        RecipeError: An entry of the table or of ``skip`` matches no layer.
    """
    table: Mapping[str, Value] = setting if isinstance(setting, Mapping) else {ANY: setting}
    layers = weighted(net)
    first = next(iter(layers), "")
    keywords = {path: keywords_of(path, layer, first) for path, layer in layers.items()}
    check_matched((*table, *skip), keywords)
    left = dict.fromkeys(skip, True)
    chosen = {path: pick(table, path, keywords[path]) for path in layers if not pick(left, path, keywords[path])}
    return {path: value for path, value in chosen.items() if value is not None}


def check_matched(keys: Sequence[str], keywords: Mapping[str, set[str]]) -> None:
    """Check that every name and pattern of ``keys`` matches one of the layers, given with their keywords.

    Raises:
        RecipeError: A name or pattern matches no layer.
    """
    for key in keys:
        if key not in KEYWORDS and not any(pick({key: True}, path, keywords[path]) for path in keywords):
            raise RecipeError(f"no layer matches {key!r} (there are: {', '.join(keywords)})")


def check_keys(where: str, keys: Sequence[str]) -> list[str]:
    """Return the problems of invalid ``re:`` patterns."""
    problems = []
    for key in keys:
        try:
            re.compile(key[3:] if key.startswith("re:") else "")
        except re.error as fault:
            problems.append(f"{where}: {key!r} is no regular expression ({fault})")
    return problems
