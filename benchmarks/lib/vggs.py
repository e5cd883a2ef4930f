"""Networks of VGG's kind for ``benchmarks.papers.zhang``: what each is, how it learns before it is cut, and how both train after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hashpress.compress.passes import Finetune
from hashpress.hashnets.training.schedule import Schedule

from .spine_models import LEARN

STILL = Schedule(epochs=3, lr=0.01, precision="bfloat16")
SHIFTS = LEARN(epochs=26, lr=0.05, augment="flip-crop", distill=5.0)  # all beside the ResNet-56 of ``spine_models``
LAST = (
    LEARN(epochs=3, lr=0.01, augment="flip", distill=5.0),
    LEARN(epochs=4, lr=0.01, augment="none", distill=1.0),
    LEARN(epochs=8, lr=0.01, augment="none", distill=0.0),
)
SHORT = (replace(SHIFTS, epochs=12), LAST[1], replace(LAST[2], epochs=6))
EARLY, MORE = (replace(SHIFTS, epochs=18),), (replace(SHIFTS, epochs=14),)


def shifted(epochs: int) -> Schedule:
    """Return how a network begins, alone."""
    return Schedule(epochs=epochs, lr=0.05, augment="flip-crop", precision="bfloat16")


def with_norms(*phases: Finetune) -> tuple[Finetune, ...]:
    """Return the phases with batch norms where they were folded away."""
    return tuple(replace(learn, norms=True) for learn in phases)


@dataclass(frozen=True)
class Net:
    """A network of VGG's kind: how it learned before the cut, and how it and what is left of it train after it."""

    words: str
    kept: str  # the beginning of its files' names
    encoder: str
    alone: tuple[Schedule, ...]
    taught: tuple[Finetune, ...]
    after: tuple[Finetune, ...]
    left: tuple[Finetune, ...]
    about: str
    options: Mapping[str, Any] = field(default_factory=dict)  # of the encoder
    alike: bool = False  # both learn beside the network that was cut, not beside the ResNet-56


NETS = {
    "vgg6": Net(
        "six convolutions of VGG's kind",
        "vgg6",
        "nets:vgg_style",
        (shifted(14), STILL),
        (
            LEARN(epochs=6, lr=0.02, augment="flip-crop", distill=5.0),
            LEARN(epochs=2, lr=0.01, augment="none", distill=1.0),
            SHIFTS,
        ),
        LAST,
        (replace(SHIFTS, epochs=18), *LAST),
        "51 epochs before the cut; after it what is left has 18 with shifts, then both the same 15",
    ),
    "vgg11": Net(
        "VGG-11 of half width",
        "vgg11",
        "nets:vgg11",
        (shifted(2),),
        (*EARLY, *MORE),
        LAST,
        with_norms(replace(SHIFTS, epochs=18), *LAST),
        "34 epochs before the cut; after it what is left has 18 with shifts, then both the same 15",
    ),
    "vgg11-early": Net(
        "VGG-11 of half width, cut early",
        "vgg11",
        "nets:vgg11",
        (shifted(2),),
        EARLY,
        (*MORE, *LAST),
        with_norms(*MORE, *LAST),
        "20 epochs before the cut; after it both have the same 29",
    ),
    "vgg11-long": Net(
        "VGG-11 of half width, both trained long",
        "vgg11",
        "nets:vgg11",
        (shifted(2),),
        (*EARLY, *MORE),
        (*EARLY, SHIFTS, *LAST),
        with_norms(*EARLY, SHIFTS, *LAST),
        "34 epochs before the cut; after it both have the same 59",
    ),
    "vgg11-full": Net(
        "VGG-11 of full width",
        "vgg11-full",
        "nets:vgg11",
        (shifted(26),),
        (),
        SHORT,
        with_norms(*SHORT),
        "26 epochs alone before the cut; after it both have the same 22 beside the network that was cut",
        {"share": 1.0},
        alike=True,
    ),
}
