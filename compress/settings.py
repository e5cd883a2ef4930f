"""Settings of passes as they stand in a file: which exist, which types they take, everything wrong at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

from ..core.errors import HashpressError, RecipeError
from ..core.settings import described, fits


def problems_of(kind: type, given: Mapping[str, Any], where: str) -> list[str]:
    """Return everything that is wrong with ``given`` as the settings of the dataclass ``kind``.

    What has a wrong name or type is left out when the others are tried on ``kind``; what it says of those left out is not
    repeated, since only their absence may be meant.
    """
    problems: list[str] = []
    wrong: set[str] = set()
    hints = get_type_hints(kind)
    known = {field.name: field for field in fields(kind)}
    for name, value in given.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            have = f"there are: {', '.join(known)}" if known else "it has none"
            problems.append(f"{where}: unknown setting {name!r}{hint} ({have})")
            wrong |= {name, *near}
            continue
        nested = _dataclass(hints[name])
        found = []
        if nested is not None and isinstance(value, Mapping):
            found = problems_of(nested, value, f"{where}: {name}")
        elif not fits(value, hints[name]):
            found = [f"{where}: {name} must be {described(hints[name])}, found {str(value)[:60]!r}"]
        problems += found
        if found:
            wrong.add(name)
    needed = [f.name for f in known.values() if f.default is MISSING and f.default_factory is MISSING]
    problems += [f"{where}: {name} is missing" for name in needed if name not in given]
    right = {name: value for name, value in given.items() if name in known and name not in wrong}
    if set(needed) <= set(right):
        problems += [f"{where}: {text}" for text in _tried(kind, right) if not wrong & set(re.findall(r"\w+", text))]
    return problems


def _tried(kind: type, given: Mapping[str, Any]) -> Sequence[str]:
    """Return what ``kind`` says of settings whose names and types are right."""
    try:
        made(kind, given)
    except RecipeError as fault:
        return fault.problems
    except HashpressError as fault:
        return [str(fault)]
    return []


def made(kind: type, given: Mapping[str, Any]) -> Any:
    """Return ``kind`` with the settings ``given``, lists as tuples."""
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def _dataclass(hint: Any) -> type | None:
    return next(
        (choice for choice in (hint, *get_args(hint)) if isinstance(choice, type) and is_dataclass(choice)), None
    )
