"""Published systems, each composed in a screen from shared blocks: ``SYSTEMS[name](arch, classes, items, seed)``."""

from __future__ import annotations

from collections.abc import Callable

from ..objective import Objective
from .dlbhc import Dlbhc
from .dpsh import Dpsh
from .onehot import Onehot

SYSTEMS: dict[str, Callable[..., Objective]] = {
    "dpsh": Dpsh,
    "dlbhc": Dlbhc,
    "onehot": Onehot,
}
