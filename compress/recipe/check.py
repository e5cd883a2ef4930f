"""What is wrong between a recipe, a network and its data, said before the first step and not when hours of work are done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from torch import nn

from ...core.data.images import Split
from ...core.errors import RecipeError
from ...core.model import HashModel
from ..base import Pass
from ..looks import looks
from ..select import WORDS, check_answered, skipped, weighted, words_of
from .ledger import unmeasurable

Steps = Sequence[tuple[str, Pass]]
SAME_NAMES = ("fold", "merge", "narrow", "prune", "finetune", "thresholds")  # after these, layers are called as before
WIDER = ("narrow",)  # what is skipped may also be a layer in another form, which the others never treat


def objections(steps: Steps, model: HashModel, split: Split | None, measure: Sequence[str] = ()) -> list[str]:
    """Return every name that no layer answers to, and every measure that the network and its data do not have."""
    return [*_unanswered(steps, model.net), *unmeasurable(model, split, measure)]


def blind(steps: Steps, split: Split | None) -> list[str]:
    """Return which steps need training images when there are none."""
    if split is not None:
        return []
    problems = [f"step {n} ({name}) needs training images" for n, (name, item) in enumerate(steps, 1) if looks(item)]
    return [*problems[:-1], f"{problems[-1]}; name a data set with --data"] if problems else []


def keys_of(item: Pass) -> list[str]:
    """Return the names, patterns and words by which the settings of a pass choose layers."""
    if item.phase == "finetune":
        return []  # its table holds the settings of a system
    values: list[Any] = [getattr(item, field.name) for field in fields(item)]  # type: ignore[arg-type]  # passes are dataclasses
    keys = [key for value in values if isinstance(value, Mapping) for key in value]
    return list(dict.fromkeys([*keys, *getattr(item, "skip", ())]))


def _unanswered(steps: Steps, net: nn.Module) -> list[str]:
    plain = weighted(net)
    everything = dict.fromkeys((*plain, *skipped(net)))
    problems, renamed = [], False
    for number, (name, item) in enumerate(steps, start=1):
        names = list(everything if name in WIDER or renamed else plain)
        missing = [key for key in keys_of(item) if not _answered(key, names, net, below=renamed)]
        if missing:
            problems.append(f"step {number} ({name}): no layer answers to {', '.join(map(repr, missing))}")
        renamed = renamed or name not in SAME_NAMES
    return [*problems[:-1], f"{problems[-1]} (there are: {', '.join(plain)})"] if problems else []


def _answered(key: str, names: Sequence[str], net: nn.Module, *, below: bool) -> bool:
    """Return whether a layer answers to ``key``; ``below``, when layers have become several with names below theirs."""
    if below:
        return key.startswith("re:") or key in WORDS or any(f"{key}.".startswith(f"{name}.") for name in names)
    first = next(iter(names), "")
    try:
        check_answered([key], {name: words_of(name, net.get_submodule(name), first) for name in names})
    except RecipeError:
        return False
    return True
