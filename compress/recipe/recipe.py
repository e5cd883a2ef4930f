"""A recipe: passes in an order that is legal, with settings that exist."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from ...core.data.images import Split
from ...core.errors import HashpressError, RecipeError, lookup
from ...core.model import HashModel, Json
from ...core.settings import made, problems_of
from ..base import Pass, settings_of
from ..passes import PASSES
from .ledger import Ledger
from .preview import preview
from .run import compress

RANKS = {"fold": 0, "structure": 1, "values": 2}  # finetune and thresholds may stand anywhere
MEASURES = {
    "flips": "share of code bits that differ from the uncompressed network's",
    "map": "mean average precision, symmetric and against the uncompressed database",
    "error": "share of wrong classes, for codes that are classes",
}
REASONS = {
    0: "norms are folded before anything else changes weights",
    1: "layers change shape before their values are pruned or shared",
}
REFUSED = {
    (
        "share",
        "prune",
    ): "weights that share values cannot be pruned one by one; prune first, or let share pay for bits (lam)",
    **dict.fromkeys(
        (("int8", name) for name, kind in PASSES.items() if kind.phase in ("values", "finetune") and name != "int8"),
        "int8 is the last pass: no gradient goes through whole numbers, and they take no other form",
    ),
}
# into the factors of shared weights, or of Fastfood; a norm that finds none is left with the reason
ALLOWED = {("share", "fold"), ("fastfood", "fold")}


@dataclass(frozen=True)
class Recipe:
    """Passes by name with their settings, as a TOML file holds them; nothing is checked before :meth:`check`."""

    entries: tuple[Mapping[str, Json], ...]
    about: str = ""
    measure: tuple[str, ...] = ("flips",)
    name: str = "recipe"

    @classmethod
    def of(cls, *passes: Pass, about: str = "", measure: tuple[str, ...] = ("flips",)) -> Recipe:
        """Return the recipe of these passes."""
        names = {kind: name for name, kind in PASSES.items()}
        return cls(tuple({"name": names[type(item)], **settings_of(item)} for item in passes), about, measure)

    def problems(self) -> list[str]:
        """Return everything that is wrong, one line each."""
        found: list[str] = []
        for name in self.measure:
            found += _refusal(lambda name=name: lookup(MEASURES, name, "measure"), self.name)
        if not self.entries:
            found.append(f"{self.name}: no pass; write [[pass]] and a name")
        names: list[str] = []
        for number, entry in enumerate(self.entries, start=1):
            where = f"step {number}"
            name = entry.get("name")
            if not isinstance(name, str):
                found.append(f"{where}: no name (there are: {', '.join(PASSES)})")
                continue
            refusal = _refusal(lambda name=name: lookup(PASSES, name, "pass"), where)
            found += refusal
            if not refusal:
                found += problems_of(PASSES[name], _settings(entry), f"{where} ({name})")
                found += _order(number, name, names)
                names.append(name)
        return found

    def check(self) -> None:
        """Raise RecipeError with all problems."""
        problems = self.problems()
        if problems:
            raise RecipeError(problems)

    def passes(self) -> list[tuple[str, Pass]]:
        """Return the passes with their names.

        Raises:
            RecipeError: with all problems.
        """
        self.check()
        return [(str(entry["name"]), made(PASSES[str(entry["name"])], _settings(entry))) for entry in self.entries]

    def preview(self, model: HashModel, split: Split | None = None, *, seed: int = 0) -> Ledger:
        """Return what each pass would decide and the size of the file behind it, without any training."""
        return preview(model, self.passes(), split, seed=seed, measure=self.measure)

    def run(
        self,
        model: HashModel,
        split: Split | None = None,
        *,
        out: str | os.PathLike[str] | None = None,
        seed: int = 0,
        resume: bool = False,
    ) -> HashModel:
        """Return ``model`` after all passes; files, resuming and errors as :func:`compress`."""
        return compress(model, self, split, out=out, seed=seed, resume=resume)

    def to_toml(self) -> str:
        """Return the recipe with every setting written out."""
        head = f"about = {_toml(self.about)}\nmeasure = {_toml(list(self.measure))}"
        return "\n\n".join([head, *self.steps()]) + "\n"

    def steps(self) -> list[str]:
        """Return the table of each pass in TOML, with every setting written out."""
        return [_written(name, item) for name, item in self.passes()]


def _written(name: str, item: Pass) -> str:
    resolved = {field.name: getattr(item, field.name) for field in fields(item)}  # type: ignore[arg-type]  # passes are dataclasses
    lines = [f"{key} = {_toml(value)}" for key, value in resolved.items() if value is not None]
    return "\n".join(["[[pass]]", f"name = {_toml(name)}", *lines])


def _settings(entry: Mapping[str, Json]) -> dict[str, Json]:
    return {key: value for key, value in entry.items() if key != "name"}


def _refusal(call: Any, where: str) -> list[str]:
    try:
        call()
    except HashpressError as fault:
        return [f"{where}: {fault}"]
    return []


def _order(number: int, name: str, before: list[str]) -> list[str]:
    """Return why the pass may not come after those ``before``."""
    rank = RANKS.get(PASSES[name].phase, max(RANKS.values()))
    late = [other for other in before if RANKS.get(PASSES[other].phase, -1) > rank and (other, name) not in ALLOWED]
    if late:
        return [f"step {number} ({name}): must come before {late[0]}: {REASONS[rank]}"]
    refused = [REFUSED[other, name] for other in before if (other, name) in REFUSED]
    return [f"step {number} ({name}): {refused[0]}"] if refused else []


def _toml(value: Any) -> str:
    """Return a value of a recipe in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = "".join(f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 or c in '"\\' else c for c in value)
        return f'"{escaped}"'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(str(key))} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if is_dataclass(value):
        return _toml({field.name: item for field in fields(value) if (item := getattr(value, field.name)) is not None})
    return repr(value)
