"""Published systems, each composed in a screen from shared blocks: ``SYSTEMS[name](arch, classes, items, seed)``."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from ...core.errors import lookup
from ...core.plugins import import_name
from .base import Objective
from .pairwise.dch import Dch
from .pairwise.dhn import Dhn
from .pairwise.dpsh import Dpsh
from .pairwise.dsdh import Dsdh
from .pairwise.dsh import Dsh
from .pairwise.hashnet import HashNetLoss
from .pointwise.csq import Csq
from .pointwise.dlbhc import Dlbhc
from .pointwise.greedyhash import GreedyHash
from .pointwise.onehot import Onehot
from .pointwise.orthohash import OrthoHash
from .pointwise.ssdh import Ssdh
from .triplet.dsprh import Dsprh
from .triplet.dtsh import Dtsh
from .triplet.hinge import Triplet

SYSTEMS: dict[str, Callable[..., Objective]] = {
    "dpsh": Dpsh,
    "dlbhc": Dlbhc,
    "onehot": Onehot,
    "ssdh": Ssdh,
    "greedyhash": GreedyHash,
    "csq": Csq,
    "orthohash": OrthoHash,
    "dhn": Dhn,
    "dsh": Dsh,
    "hashnet": HashNetLoss,
    "dch": Dch,
    "dsdh": Dsdh,
    "triplet": Triplet,
    "dtsh": Dtsh,
    "dsprh": Dsprh,
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
