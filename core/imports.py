"""Somebody's own code by name, ``module:name``: imported only where the caller trusts it."""

from __future__ import annotations

from functools import reduce
from importlib import import_module
from typing import Any

from .errors import HashpressError, InputError


def imported(name: str, what: str, *, trust_code: bool, error: type[HashpressError] = InputError) -> Any:
    """Return what ``module:name`` names; ``what`` it is for (``encoder``, ``pass``) is said in errors.

    Raises:
        HashpressError: an ``error``: code is not trusted, or there is no such module or name.
    """
    module, _, path = name.partition(":")
    if not trust_code:
        raise error(
            f"{what} {name!r} would import and run code from module {module!r}; allow it with trust_code "
            "(--trust-code) if you know where it comes from"
        )
    try:
        return reduce(getattr, path.split("."), import_module(module))
    except (ImportError, AttributeError, ValueError) as fault:
        raise error(f"{what} {name!r} cannot be imported: {fault}") from fault
