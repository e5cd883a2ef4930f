"""Recipes by name or file."""

from __future__ import annotations

import os
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from ...core.errors import RecipeError, lookup
from .recipe import Recipe
from .run import compress

MAX_BYTES = 1 << 20


def named_recipes() -> list[str]:
    """Return the names of the recipes included in hashpress."""
    folder = resources.files(__package__.rpartition(".")[0]) / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_recipe(recipe: str | os.PathLike[str], *, trust_code: bool = False) -> Recipe:
    """Return the recipe of a TOML file or of a name, with or without the prefix ``recipe:``.

    The passes are not checked; call :meth:`Recipe.check` for all problems. With ``trust_code``, passes named
    ``module:Class`` are imported.

    Raises:
        RecipeError: There is no such file or name, or the file is not TOML.
    """
    text = os.fspath(recipe)
    name = text.removeprefix("recipe:")
    path = Path(name)
    if path.suffix == ".toml" or (name == text and path.exists()):  # a file of a recipe's name does not hide it
        try:
            content = path.read_bytes()
        except OSError as fault:
            raise RecipeError(f"cannot read recipe {path}: {fault.strerror}") from fault
        return parse(content, str(path), trust_code=trust_code)
    lookup(dict.fromkeys(named_recipes()), name, "recipe (a name, or a file ending in .toml)", RecipeError)
    return parse((resources.files(__package__.rpartition(".")[0]) / "recipes" / f"{name}.toml").read_bytes(), name)


def parse(content: bytes, name: str, *, trust_code: bool = False) -> Recipe:
    """Return the recipe in the bytes of a TOML file.

    Raises:
        RecipeError: The content is not TOML, or has other keys than about, measure and pass.
    """
    if len(content) > MAX_BYTES:
        raise RecipeError(f"{name}: {len(content)} bytes are no recipe")
    try:
        table: dict[str, Any] = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as fault:
        raise RecipeError(f"{name}: not TOML: {fault}") from fault
    problems = [f"{name}: unknown key {key!r} (there are: about, measure, pass)" for key in table if key not in KEYS]
    problems += [
        f"{name}: {key} must be {what}" for key, (fit, what) in KEYS.items() if key in table and not fit(table[key])
    ]
    if problems:
        raise RecipeError(problems)
    measure = tuple(table.get("measure", ["flips"]))
    return Recipe(tuple(table.get("pass", [])), table.get("about", ""), measure, name, trust_code)


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


KEYS = {
    "about": (lambda value: isinstance(value, str), "a text"),
    "measure": (_texts, "a list of texts"),
    "pass": (_tables, "a list of tables: write [[pass]]"),
}

__all__ = ["Recipe", "compress", "load_recipe", "named_recipes", "parse"]
