"""Recipes: passes with their settings, in a valid order."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from ...core.data.images import Split
from ...core.errors import HashpressError, RecipeError, lookup
from ...core.model import HashModel, Json
from ...core.plugins import import_name
from ...core.settings import made, problems_of
from ..base import Pass, settings_of
from ..passes import PASSES
from .ledger import Ledger
from .order import order_violation
from .preview import preview
from .run import OnStep, compress

MEASURES = {
    "flips": "share of code bits that differ from the uncompressed network's",
    "map": "mean average precision, symmetric and against the uncompressed database",
    "error": "share of wrong classes, for codes that are classes",
}


@dataclass(frozen=True)
class Recipe:
    """Passes by name with their settings, as stored in a TOML file; nothing is checked before :meth:`check`.

    A custom pass is named ``module:Class``. Its class is one of ``classes``, or is imported with ``trust_code``.
    """

    entries: tuple[Mapping[str, Json], ...]
    about: str = ""
    measure: tuple[str, ...] = ("flips",)
    name: str = "recipe"
    trust_code: bool = False
    classes: Mapping[str, type[Pass]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, *passes: Pass, about: str = "", measure: tuple[str, ...] = ("flips",)) -> Recipe:
        """Return a recipe of the given passes."""
        classes = {name_of(type(item)): type(item) for item in passes}
        entries = tuple({"name": name_of(type(item)), **settings_of(item)} for item in passes)
        return cls(entries, about, measure, classes=classes)

    def problems(self) -> list[str]:
        """Return all problems, one line each."""
        found: list[str] = []
        for name in self.measure:
            found += _refusal(lambda name=name: lookup(MEASURES, name, "measure"), self.name)
        if not self.entries:
            found.append(f"{self.name}: no pass; write [[pass]] and a name")
        before: list[type[Pass]] = []
        for number, entry in enumerate(self.entries, start=1):
            where, name = f"step {number}", entry.get("name")
            if not isinstance(name, str):
                found.append(f"{where}: no name (there are: {', '.join(PASSES)})")
                continue
            unknown = _refusal(lambda name=name: self._class(name), where)
            found += unknown
            if not unknown:
                kind, where = self._class(name), f"{where} ({name})"
                found += problems_of(kind, _settings(entry), where)
                found += [f"{where}: {why}"] if (why := order_violation(kind, before)) else []
                before.append(kind)
        return found

    def check(self) -> None:
        """Check the recipe.

        Raises:
            RecipeError: All problems together.
        """
        problems = self.problems()
        if problems:
            raise RecipeError(problems)

    def passes(self) -> list[tuple[str, Pass]]:
        """Return the passes with their names.

        Raises:
            RecipeError: All problems together.
        """
        self.check()
        names = [str(entry["name"]) for entry in self.entries]
        return [
            (name, made(self._class(name), _settings(entry))) for name, entry in zip(names, self.entries, strict=True)
        ]

    def _class(self, name: str) -> type[Pass]:
        """Return the class of a pass by name.

        Raises:
            RecipeError: There is no such pass, or it would have to be imported and ``trust_code`` is not set.
        """
        if ":" not in name:
            return lookup(PASSES, name, "pass", RecipeError)
        kind = self.classes.get(name) or import_name(name, "pass", trust_code=self.trust_code, error=RecipeError)
        if not (isinstance(kind, type) and issubclass(kind, Pass)):
            raise RecipeError(f"pass {name!r} is a {type(kind).__name__}, a subclass of hashpress.Pass was expected")
        return kind

    def preview(self, model: HashModel, split: Split | None = None, *, seed: int = 0) -> Ledger:
        """Return the decision of each pass and the file size after it, without any training."""
        return preview(model, self.passes(), split, seed=seed, measure=self.measure)

    def run(
        self,
        model: HashModel,
        split: Split | None = None,
        *,
        out: str | os.PathLike[str] | None = None,
        seed: int = 0,
        resume: bool = False,
        restart: bool = False,
        device: str = "cpu",
        on_step: OnStep | None = None,
    ) -> HashModel:
        """Return ``model`` after all passes. See :func:`compress` for files, resuming, the device and errors."""
        return compress(
            model, self, split, out=out, seed=seed, resume=resume, restart=restart, device=device, on_step=on_step
        )

    def to_toml(self) -> str:
        """Return the recipe as TOML with all settings."""
        head = f"about = {_toml(self.about)}\nmeasure = {_toml(list(self.measure))}"
        return "\n\n".join([head, *self.steps()]) + "\n"

    def steps(self) -> list[str]:
        """Return each pass as a TOML table with all settings."""
        return [_written(name, item) for name, item in self.passes()]


def name_of(kind: type[Pass]) -> str:
    """Return the name of a class of passes in recipes: its registered name, or ``module:Class``."""
    return kind.name if PASSES.get(kind.name) is kind else f"{kind.__module__}:{kind.__qualname__}"


def _written(name: str, item: Pass) -> str:
    resolved = {field.name: getattr(item, field.name) for field in fields(item)}
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


def _toml(value: Any) -> str:
    """Return a value as TOML."""
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
