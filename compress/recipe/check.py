"""What is wrong between a recipe, a network and its data, said before the first step and not when hours of work are done."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ...core.data.images import Split
from ...core.errors import RecipeError
from ...core.model import HashModel
from ..base import Pass
from ..select import WORDS, check_matched, skipped, weighted, words_of
from .ledger import unmeasurable

Steps = Sequence[tuple[str, Pass]]


def objections(steps: Steps, model: HashModel, split: Split | None, measure: Sequence[str] = ()) -> list[str]:
    """Return every name that matches no layer, and every measure that the network and its data do not have."""
    return [*_unmatched(steps, model.net), *unmeasurable(model, split, measure)]


def lacking_images(steps: Steps, split: Split | None) -> list[str]:
    """Return which steps need training images when there are none."""
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
    """Return whether ``key`` matches a layer; ``below``, when layers have become several with names below theirs."""
    if below:
        return key.startswith("re:") or key in WORDS or any(f"{key}.".startswith(f"{name}.") for name in names)
    first = next(iter(names), "")
    try:
        check_matched([key], {name: words_of(name, net.get_submodule(name), first) for name in names})
    except RecipeError:
        return False
    return True
