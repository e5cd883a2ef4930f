"""Checks of a recipe against a network and its data, before the first step runs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ...core.data.images import Split
from ...core.errors import RecipeError
from ...core.model import HashModel
from ..base import Pass
from ..select import KEYWORDS, check_matched, keywords_of, skipped, weighted
from .ledger import unmeasurable

Steps = Sequence[tuple[str, Pass]]


def recipe_problems(steps: Steps, model: HashModel, split: Split | None, measure: Sequence[str] = ()) -> list[str]:
    """Return a problem for every name that matches no layer and every measure that cannot be computed."""
    return [*_unmatched(steps, model.net), *unmeasurable(model, split, measure)]


def missing_images(steps: Steps, split: Split | None) -> list[str]:
    """Return a problem for every step that needs training images if there is no data set."""
    if split is not None:
        return []
    problems = [
        f"step {number} ({name}) needs training images"
        for number, (name, item) in enumerate(steps, 1)
        if item.needs_images
    ]
    return [*problems[:-1], f"{problems[-1]}; name a data set with --data"] if problems else []


def _unmatched(steps: Steps, net: nn.Module) -> list[str]:
    plain = weighted(net)
    everything = dict.fromkeys((*plain, *skipped(net)))
    problems, renamed = [], False
    for number, (name, item) in enumerate(steps, start=1):
        names = list(everything if item.selects_compressed_layers or renamed else plain)
        missing = [key for key in item.layer_keys() if not _matched(key, names, net, below=renamed)]
        if missing:
            problems.append(f"step {number} ({name}): no layer matches {', '.join(map(repr, missing))}")
        renamed = renamed or not item.keeps_layer_names
    return [*problems[:-1], f"{problems[-1]} (there are: {', '.join(plain)})"] if problems else []


def _matched(key: str, names: Sequence[str], net: nn.Module, *, below: bool) -> bool:
    """Return whether ``key`` matches a layer; with ``below``, names of submodules of replaced layers match too."""
    if below:
        return key.startswith("re:") or key in KEYWORDS or any(f"{key}.".startswith(f"{name}.") for name in names)
    first = next(iter(names), "")
    try:
        check_matched([key], {name: keywords_of(name, net.get_submodule(name), first) for name in names})
    except RecipeError:
        return False
    return True
