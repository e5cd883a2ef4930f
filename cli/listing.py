"""What there is to choose from, by kind: name and one line about it, taken from the registries themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import getmodule

from ..core.errors import lookup

Entries = dict[str, str]


def listing(kind: str | None) -> dict[str, Entries]:
    """Return name and description of everything of ``kind``, or of every kind.

    Raises:
        InputError: an unknown kind.
    """
    kinds = dict(_KINDS) if kind is None else {kind: lookup(_KINDS, kind, "kind of thing to list")}
    return {name: read() for name, read in kinds.items()}


def _systems() -> Entries:
    from ..hashnets.systems import SYSTEMS

    return _documented(SYSTEMS)


def _encoders() -> Entries:
    from ..hashnets.encoders import ENCODERS

    return {name: spec.about for name, spec in ENCODERS.items()}


def _passes() -> Entries:
    from ..compress.passes import PASSES

    return _documented(PASSES)


def _targets() -> Entries:
    from ..targets.table import TARGETS

    return {name: target.about for name, target in TARGETS.items()}


def _datasets() -> Entries:
    from ..core.data import DATASETS

    return {name: source.about for name, source in DATASETS.items()}


def _recipes() -> Entries:
    from ..compress.recipe.load import load_recipe, named_recipes

    return {name: load_recipe(name).about for name in named_recipes()}


def _formats() -> Entries:
    from ..hashnets.importers import IMPORTERS

    return _documented(IMPORTERS)


def _figures() -> Entries:
    from ..profiling.metrics import METRICS

    return {name: f"{metric.what} [{metric.unit}]" for name, metric in METRICS.items()}


_KINDS: Mapping[str, Callable[[], Entries]] = {
    "systems": _systems,
    "encoders": _encoders,
    "passes": _passes,
    "targets": _targets,
    "datasets": _datasets,
    "recipes": _recipes,
    "formats": _formats,
    "figures": _figures,
}


def _documented(registry: Mapping[str, object]) -> Entries:
    """Return the first line of each thing's module, which names the paper."""
    return {name: _first_line(getmodule(thing).__doc__ or "") for name, thing in registry.items()}


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "").replace("``", "")
