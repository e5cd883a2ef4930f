"""How long, how fast and with what a network is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ...core.errors import InputError, lookup
from ...core.model import Json
from ...core.settings import check_fields
from .augment import AUGMENTATIONS

OPTIMIZERS = {"sgd": "SGD with Nesterov momentum", "adam": "AdamW"}
DECAYS = {"cosine": "to zero along a half cosine", "step": "a tenth at 1/2 and again at 3/4", "constant": "none"}
PRECISIONS = {"float32": "single precision", "bfloat16": "convolutions and products in bfloat16, fast on recent CPUs"}


RANGES = {
    "epochs": (0, 10**6),
    "batch": (1, 10**6),
    "weight_decay": (0, 1000),
    "head_lr": (0, 10**6),
    "clip": (0, 10**9),
}


@dataclass(frozen=True)
class Schedule:
    """The settings of one training run.

    ``warmup`` is the share of all steps in which the rate rises linearly from zero. ``head_lr`` multiplies the rate of
    the hash layer and of the system's own layers. ``weight_decay`` spares biases, batch norms and other vectors.
    ``clip`` bounds the norm of the network's gradient; 0 does not.

    Raises:
        InputError: a setting is out of range.
    """

    epochs: int = 10
    batch: int = 128
    lr: float = 0.01
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay: str = "cosine"
    warmup: float = 0.05
    head_lr: float = 1.0
    augment: str = "none"
    clip: float = 1.0
    precision: str = "float32"

    def __post_init__(self) -> None:
        check_fields("schedule", self)
        problems = []
        for name, known, kind in (
            ("optimizer", OPTIMIZERS, "optimizer"),
            ("decay", DECAYS, "decay"),
            ("augment", AUGMENTATIONS, "augmentation"),
            ("precision", PRECISIONS, "precision"),
        ):
            try:
                lookup(known, getattr(self, name), kind)
            except InputError as fault:
                problems.append(str(fault))
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if not least <= value <= most:
                bound = f"at most {most:,}" if value > most else f"at least {least}"
                problems.append(f"{name} must be {bound}, got {value}")
        problems += [
            f"{name} must be in [0, 1), got {getattr(self, name)}"
            for name in ("momentum", "warmup")
            if not 0 <= getattr(self, name) < 1
        ]
        if not 0 < self.lr < math.inf:
            problems.append(f"lr must be positive, got {self.lr}")
        if problems:
            raise InputError(f"schedule: {'; '.join(problems)}")

    def rate(self, step: int, steps: int) -> float:
        """Return the factor on ``lr`` at ``step`` of ``steps``."""
        rise = round(self.warmup * steps)
        if step < rise:
            return (step + 1) / (rise + 1)
        if self.decay == "constant":
            return 1.0
        share = (step - rise) / max(steps - rise, 1)
        if self.decay == "step":
            return 1.0 if share < 0.5 else 0.1 if share < 0.75 else 0.01
        return 0.5 * (1 + math.cos(math.pi * share))

    def to_json(self) -> dict[str, Json]:
        """Return the settings as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Schedule:
        """Return the schedule with these settings.

        Raises:
            InputError: a setting that does not exist or is out of range.
        """
        for name in value:
            lookup(cls.__dataclass_fields__, name, "setting of the schedule")
        return cls(**value)
