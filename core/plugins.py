"""Code of other people, named ``module:name``: imported only where that is allowed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .errors import HashpressError, InputError


def import_name(name: str, kind: str, *, trust_code: bool, error: type[HashpressError] = InputError) -> Any:
    """Return what ``name``, ``module:name``, names; ``kind`` says in errors what it should be.

    The current folder is searched too, after installed packages.

    Raises:
        HashpressError: ``error``, where code is not trusted or there is no such thing.
    """
    module, _, attribute = name.partition(":")
    if not trust_code:
        raise error(
            f"{kind} {name!r} would import and run code from module {module!r}; allow it with trust_code "
            "(--trust-code) if you know where it comes from"
        )
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        return reduce(getattr, attribute.split("."), import_module(module))
    except Exception as fault:  # whatever a module raises while it is imported
        raise error(f"{kind} {name!r} cannot be imported: {fault}") from fault


@contextmanager
def foreign_code(name: str, kind: str, error: type[HashpressError] = InputError) -> Iterator[None]:
    """Turn what code named ``module:name`` raises in this block into ``error``, in one line."""
    try:
        yield
    except HashpressError:
        raise
    except Exception as fault:  # whatever it raises
        line = (str(fault).strip().splitlines() or [""])[0]
        raise error(f"{kind} {name!r} failed: {type(fault).__name__}: {line[:200]}") from fault


def exists(name: str) -> bool:
    """Return whether there is a module of that name to import; nothing of it runs."""
    top = name.partition(":")[0].partition(".")[0]
    try:
        return bool(top) and find_spec(top) is not None
    except (ImportError, ValueError):
        return False
