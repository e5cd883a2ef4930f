"""Settings of passes as they stand in a file: which exist, which types they take, everything wrong at once."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, Union, get_args, get_origin, get_type_hints

from ..core.errors import HashpressError, RecipeError

NAMES = {
    float: "a number",
    int: "a whole number",
    str: "a text",
    bool: "true or false",
    tuple: "a list",
    Mapping: "a table",
}
MANY = {float: "numbers", int: "whole numbers", str: "texts", bool: "truths"}


def problems_of(kind: type, given: Mapping[str, Any], where: str) -> list[str]:
    """Return everything that is wrong with ``given`` as the settings of the dataclass ``kind``."""
    problems = []
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}
    for name, value in given.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            have = f"there are: {', '.join(known)}" if known else "it has none"
            problems.append(f"{where}: unknown setting {name!r}{hint} ({have})")
            continue
        nested = _dataclass(hints[name])
        if nested is not None and isinstance(value, Mapping):
            problems += problems_of(nested, value, f"{where}: {name}")
        elif not fits(value, hints[name]):
            problems.append(f"{where}: {name} must be {_text(hints[name])}, found {str(value)[:60]!r}")
    needed = [f.name for f in known.values() if f.default is MISSING and f.default_factory is MISSING]
    problems += [f"{where}: {name} is missing" for name in needed if name not in given]
    if not problems:
        try:
            made(kind, given)
        except RecipeError as fault:
            problems += [f"{where}: {problem}" for problem in fault.problems]
        except HashpressError as fault:
            problems.append(f"{where}: {fault}")
    return problems


def check_types(where: str, settings: Any) -> None:
    """Ask the fields of a dataclass to be of their types, those of a pass that is built in Python, too.

    Raises:
        RecipeError: some are not.
    """
    hints = get_type_hints(type(settings))
    problems = [
        f"{where}: {field.name} must be {_text(hints[field.name])}, found {repr(value)[:60]}"
        for field in fields(settings)
        if not fits(value := getattr(settings, field.name), hints[field.name])
    ]
    if problems:
        raise RecipeError(problems)


def made(kind: type, given: Mapping[str, Any]) -> Any:
    """Return ``kind`` with the settings ``given``, lists as tuples."""
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def fits(value: object, hint: Any) -> bool:
    """Return whether a value of a file is of the annotated type; whole numbers count as numbers."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, choice) for choice in get_args(hint))
    if origin is tuple:
        return isinstance(value, list | tuple) and all(fits(item, get_args(hint)[0]) for item in value)
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(fits(item, get_args(hint)[1]) for item in value.values())
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is Any:
        return True
    return type(value) is hint


def _dataclass(hint: Any) -> type | None:
    return next(
        (choice for choice in (hint, *get_args(hint)) if isinstance(choice, type) and is_dataclass(choice)), None
    )


def _text(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_text(choice) for choice in get_args(hint) if choice is not type(None)))
    origin = get_origin(hint) or hint
    items = get_args(hint)[-1:] if origin is Mapping else get_args(hint)[:1] if origin is tuple else ()
    if items and items[0] in MANY:
        return f"{NAMES[origin]} of {MANY[items[0]]}"
    return NAMES.get(origin, "a table" if is_dataclass(origin) else str(getattr(origin, "__name__", origin)))
