"""Published systems, each composed in a screen from shared blocks: ``SYSTEMS[name](arch, classes, items, seed)``."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from .base import Objective
from .dlbhc import Dlbhc
from .dpsh import Dpsh
from .onehot import Onehot

SYSTEMS: dict[str, Callable[..., Objective]] = {
    "dpsh": Dpsh,
    "dlbhc": Dlbhc,
    "onehot": Onehot,
}


def settings_of(system: str) -> tuple[str, ...]:
    """Return the names of a system's own settings, beside the four that every system takes."""
    return tuple(inspect.signature(SYSTEMS[system]).parameters)[4:]
