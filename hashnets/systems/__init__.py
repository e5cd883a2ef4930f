"""Published systems, each composed in a screen from shared blocks: ``SYSTEMS[name](arch, classes, items, seed)``."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from ...core.errors import lookup
from ...core.plugins import import_name
from .base import Objective
from .dlbhc import Dlbhc
from .dpsh import Dpsh
from .onehot import Onehot

SYSTEMS: dict[str, Callable[..., Objective]] = {
    "dpsh": Dpsh,
    "dlbhc": Dlbhc,
    "onehot": Onehot,
}


def find_system(name: str, *, trust_code: bool = False) -> Callable[..., Objective]:
    """Return a system by name; one called ``module:Class`` is imported as code.

    Raises:
        InputError: an unknown system, or code that is not trusted.
    """
    if ":" in name:
        return import_name(name, "system", trust_code=trust_code)  # type: ignore[no-any-return]  # it is called so
    return lookup(SYSTEMS, name, "system")


def settings_of(system: str) -> tuple[str, ...]:
    """Return the names of a system's own settings, beside the four that every system takes."""
    return tuple(inspect.signature(SYSTEMS[system]).parameters)[4:]
