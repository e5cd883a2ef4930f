"""Published systems, each composed in a screen from shared blocks: ``SYSTEMS[name](arch, classes, items, seed)``."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from ...core.errors import lookup
from ...core.plugins import import_name
from .base import Objective
from .pairwise.cnnh import Cnnh, CnnhPlus
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
from .unsupervised.bdnn import ShBdnn, UhBdnn
from .unsupervised.bihalf import BiHalfHashing
from .unsupervised.deep_hashing import Dh, Sdh
from .unsupervised.deepbit import DeepBit
from .unsupervised.itq import Itq
from .unsupervised.lsh import Lsh
from .unsupervised.pca_rotation import PcaRotation
from .unsupervised.semantic import SemanticHashing

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
    "cnnh": Cnnh,
    "cnnh-plus": CnnhPlus,
    "lsh": Lsh,
    "pca-rotation": PcaRotation,
    "itq": Itq,
    "bihalf": BiHalfHashing,
    "uh-bdnn": UhBdnn,
    "sh-bdnn": ShBdnn,
    "dh": Dh,
    "sdh": Sdh,
    "deepbit": DeepBit,
    "semantic-hashing": SemanticHashing,
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
