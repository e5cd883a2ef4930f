"""Fields of the dataclasses that users fill: of which types they are, and plain values in place of numpy's."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from inspect import isabstract
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from .errors import HashpressError, InputError, RecipeError

Json = Any  # what json.dumps takes and json.loads gives back unchanged

NAMES = {
    float: "a number",
    int: "a whole number",
    str: "a text",
    bool: "true or false",
    tuple: "a list",
    Mapping: "a table",
}
MANY = {float: "numbers", int: "whole numbers", str: "texts", bool: "truths"}


def as_one_error(problems: Sequence[str]) -> InputError:
    """Return one error of several problems."""
    return InputError("; ".join(problems))


def check_fields(where: str, settings: Any, fault: Callable[[Sequence[str]], HashpressError] = as_one_error) -> None:
    """Make the fields of a frozen dataclass plain, lists tuples where those are meant, and ask them to be of their types.

    Raises:
        HashpressError: what ``fault`` makes of all that is wrong.
    """
    hints, problems = get_type_hints(type(settings)), []
    for field in fields(settings):
        hint, value = hints[field.name], plain(getattr(settings, field.name))
        if isinstance(value, list) and any(get_origin(choice) is tuple for choice in (hint, *get_args(hint))):
            value = tuple(value)
        object.__setattr__(settings, field.name, value)
        if not fits(value, hint):
            problems.append(f"{where}: {field.name} must be {described(hint)}, found {repr(value)[:60]}")
    if problems:
        raise fault(problems)


def plain(value: Any) -> Any:
    """Return numbers and arrays of numpy as Python's own, also within lists and tables."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(item) for item in value)
    return value


def fits(value: object, hint: Any) -> bool:
    """Return whether a value is of the annotated type; whole numbers count as numbers."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, choice) for choice in get_args(hint))
    if origin is tuple:
        return isinstance(value, list | tuple) and all(fits(item, get_args(hint)[0]) for item in value)
    if origin is not None and issubclass(origin, Mapping):
        key, item = get_args(hint)
        return isinstance(value, Mapping) and all(fits(k, key) and fits(v, item) for k, v in value.items())
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is Any:
        return True
    wide = isinstance(hint, type) and (is_dataclass(hint) or isabstract(hint))
    return isinstance(value, hint) if wide else type(value) is hint


def described(hint: Any) -> str:
    """Return the annotated type in words."""
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(described(choice) for choice in get_args(hint) if choice is not type(None)))
    origin = get_origin(hint) or hint
    items = get_args(hint)[-1:] if origin is Mapping else get_args(hint)[:1] if origin is tuple else ()
    if items and items[0] in MANY:
        return f"{NAMES[origin]} of {MANY[items[0]]}" + " by name" * (origin is Mapping)
    return NAMES.get(origin, str(getattr(origin, "__name__", origin)))


def problems_of(kind: type, settings: Mapping[str, Any], where: str) -> list[str]:
    """Return everything that is wrong with ``settings`` as those of the dataclass ``kind``.

    What has a wrong name or type is left out when the others are tried on ``kind``; what it says of those left out is not
    repeated, since only their absence may be meant.
    """
    problems: list[str] = []
    wrong: set[str] = set()
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}
    for name, value in settings.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            have = f"there are: {', '.join(known)}" if known else "it has none"
            problems.append(f"{where}: unknown setting {name!r}{hint} ({have})")
            wrong |= {name, *near}
            continue
        nested = _dataclass(hints[name])
        wrong_here = []
        if nested is not None and isinstance(value, Mapping):
            wrong_here = problems_of(nested, value, f"{where}: {name}")
        elif not fits(value, hints[name]):
            wrong_here = [f"{where}: {name} must be {described(hints[name])}, found {str(value)[:60]!r}"]
        problems += wrong_here
        if wrong_here:
            wrong.add(name)
    needed = [f.name for f in known.values() if f.default is MISSING and f.default_factory is MISSING]
    problems += [f"{where}: {name} is missing" for name in needed if name not in settings]
    right = {name: value for name, value in settings.items() if name in known and name not in wrong}
    if set(needed) <= set(right):
        problems += [f"{where}: {text}" for text in _tried(kind, right) if not wrong & set(re.findall(r"\w+", text))]
    return problems


def _tried(kind: type, settings: Mapping[str, Any]) -> Sequence[str]:
    """Return what ``kind`` says of settings whose names and types are right."""
    try:
        made(kind, settings)
    except RecipeError as fault:
        return fault.problems
    except HashpressError as fault:
        return [str(fault)]
    return []


def made(kind: type, settings: Mapping[str, Any]) -> Any:
    """Return ``kind`` with ``settings``, lists as tuples."""
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()})


def _dataclass(hint: Any) -> type | None:
    return next(
        (choice for choice in (hint, *get_args(hint)) if isinstance(choice, type) and is_dataclass(choice)), None
    )
