"""Names of tensors as wrappers leave them: parts that wrappers insert, counters, aliases, places in a Sequential."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ...core.errors import CheckpointError, InputError

Tensors = dict[str, Tensor]

INSERTED = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
COUNTERS = ("n_averaged", "total_ops", "total_params", "_extra_state")
PLACES = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def parse_map(pairs: Sequence[str]) -> dict[str, str]:
    """Return ``OLD=NEW`` texts as a table.

    Raises:
        InputError: a text without ``=`` or with nothing before it.
    """
    table = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not equals or not old:
            raise InputError(f"--map {pair!r}: write OLD=NEW, the start of the names in the file and the new start")
        table[old] = new
    return table


def renamed(tensors: Tensors, table: Mapping[str, str]) -> Tensors:
    """Return ``tensors`` with names that begin with a key of ``table`` beginning with its value; an empty one drops them.

    Raises:
        CheckpointError: a key that no name begins with, or two tensors under one name.
    """
    for old in table:
        if not any(name.startswith(old) for name in tensors):
            some = ", ".join(list(tensors)[:5])
            raise CheckpointError(
                f"--map {old}={table[old]}: no tensor's name begins with {old!r}; there are {some}, ..."
            )
    found: Tensors = {}
    for name, value in tensors.items():
        old = max((key for key in table if name.startswith(key)), key=len, default=None)
        if old is not None and not table[old]:
            continue
        new = name if old is None else table[old] + name[len(old) :]
        if new in found:
            raise CheckpointError(f"--map gives two tensors the name {new}")
        found[new] = value
    return found


def without_wrappings(tensors: Tensors) -> Tensors:
    """Return ``tensors`` without counters of profilers and averages and without the parts that wrapping modules insert."""
    found: Tensors = {}
    for name, value in tensors.items():
        parts = name.split(".")
        if parts[-1] in COUNTERS:
            continue
        short = ".".join(part for part in parts if part not in INSERTED) or name
        found[name if short in found else short] = value
    return found


def without_aliases(tensors: Tensors) -> tuple[Tensors, list[str]]:
    """Drop tensors saved twice, as ``feature_layers.*`` beside the layers themselves; return the rest and their names.

    Raises:
        CheckpointError: some aliases equal a layer and another differs from all of them.
    """
    aliases = [name for name in tensors if name.startswith("feature_layers.")]
    rest = {name: value for name, value in tensors.items() if name not in aliases}
    alone = [alias for alias in aliases if not _has_twin(alias, tensors[alias], rest)]
    if len(alone) == len(aliases):
        return tensors, []
    if alone:
        raise CheckpointError(f"{alone[0]} looks like a second name of a layer but differs from all of them")
    return rest, aliases


def _has_twin(alias: str, value: Tensor, rest: Tensors) -> bool:
    field = alias.rpartition(".")[2]
    return any(name.rpartition(".")[2] == field and torch.equal(value, other) for name, other in rest.items())


def with_children_named(tensors: Tensors) -> tuple[Tensors, str]:
    """Return ``tensors`` with a ResNet's children, numbered as in ``Sequential(*resnet.children())``, named; and a note."""
    for name in tensors:
        start = name.removesuffix("4.0.conv1.weight")
        if start == name or f"{start}1.running_mean" not in tensors or f"{start}0.weight" not in tensors:
            continue
        table = {f"{start}{place}.": f"{layer}." for place, layer in PLACES.items()}
        if any(new.startswith(tuple(table.values())) for new in tensors):
            continue
        present = {old: new for old, new in table.items() if any(key.startswith(old) for key in tensors)}
        return renamed(tensors, present), f"{start}0 to {start}7 taken for conv1, bn1, layer1 to layer4 of a ResNet"
    return tensors, ""


def prefixes(tensors: Sequence[str], most: int = 4) -> list[str]:
    """Return the starts of names under which an encoder may stand: none, and those that half of the tensors share."""
    counts: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        counts.update(".".join(parts[:depth]) + "." for depth in range(1, len(parts)))
    shared = [prefix for prefix, count in counts.items() if 2 * count > len(tensors)]
    return ["", *sorted(shared, key=len)[: most - 1]]
