"""What is frozen: the trained networks that everything starts from, and the runs of ``hashpress compress`` on them.

Shipped recipes run with their own passes and settings but for the training, which :func:`shortened` cuts; the generator
and the tests run what it returns. All runs take one thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import hashpress as hp

EPOCHS = 2  # of every training that a shipped recipe asks for, at most
STEPS = 12  # of every training that asks for steps, at most
SHORT = {"epochs": EPOCHS, "steps": STEPS}


@dataclass(frozen=True)
class Start:
    """A network that was trained on the embedded digits by Adam, with narrower layers than the encoder has."""

    encoder: str
    bits: int
    system: str
    widths: tuple[int, ...]
    epochs: int
    data: str = "digits"
    lr: float = 0.003
    share: float = 0.01  # as of a run
    seed: int = 0
    slow: bool = False

    def trained(self) -> hp.HashModel:
        """Return the network, trained anew."""
        split = hp.load_data(self.data)
        arch = hp.default_arch(self.encoder, self.bits, hp.ImageInput.of(split), widths=list(self.widths))
        schedule = hp.Schedule(epochs=self.epochs, lr=self.lr, optimizer="adam")
        return hp.train(hp.untrained(arch, seed=self.seed), split, self.system, schedule, seed=self.seed)


@dataclass(frozen=True)
class Run:
    """One compression: a shipped recipe by its name, or ``passes`` of its own.

    ``share`` is how many of the codes' bits may differ on a processor whose arithmetic is another than that of the
    machine that wrote the files: three to eight times what was measured with other kernels (``ATEN_CPU_CAPABILITY=default
    ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE OPENBLAS_CORETYPE=NEHALEM``), never under 1 in 100.
    """

    start: str
    recipe: str = ""
    passes: tuple[Mapping[str, Any], ...] = ()
    data: str = "digits?limit=200"
    share: float = 0.01
    seed: int = 0
    slow: bool = False

    def plan(self) -> hp.Recipe:
        """Return the recipe that runs."""
        if self.passes:
            return hp.Recipe(self.passes)
        recipe = hp.load_recipe(self.recipe)
        return replace(recipe, entries=tuple(shortened(entry) for entry in recipe.entries))


def shortened(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a pass with at most EPOCHS epochs and STEPS steps where it, or its ``finetune``, trains."""
    if isinstance(entry.get("finetune"), Mapping):
        return {**entry, "finetune": _cut(entry["finetune"])}
    return _cut(entry) if entry["name"] == "finetune" else dict(entry)


def _cut(training: Mapping[str, Any]) -> dict[str, Any]:
    return {key: min(value, SHORT[key]) if key in SHORT else value for key, value in training.items()}


STARTS = {
    "lenet300-dpsh": Start("lenet300", 16, "dpsh", (128, 64), 12, share=0.03),
    "lenet300-dlbhc": Start("lenet300", 16, "dlbhc", (128, 64), 12, seed=1),
    "lenet300-classes": Start("lenet300", 10, "onehot", (128, 64), 12),
    "lenet5-classes": Start("lenet5", 10, "onehot", (8, 16, 64), 12, "digits?size=16"),
    "smallconv-dlbhc": Start("smallconv", 24, "dlbhc", (16, 16, 24, 64), 16, share=0.02, slow=True),
    "resnet20-dpsh": Start("resnet20", 12, "dpsh", (8, 12, 16), 12, share=0.06, slow=True),
}

RECIPES = {
    "cp-fast": Run("smallconv-dlbhc", "cp-fast", slow=True),
    "data-free": Run("smallconv-dlbhc", "data-free"),
    "deep-compression": Run("smallconv-dlbhc", "deep-compression", seed=4),
    "deep-fried": Run("lenet300-dlbhc", "deep-fried", share=0.02, seed=2),
    "fastest": Run("smallconv-dlbhc", "fastest"),
    "hashednet": Run("lenet300-dpsh", "hashednet", seed=3),
    "int8": Run("resnet20-dpsh", "int8"),
    "lenet-300": Run("lenet300-classes", "lenet-300"),
    "lenet-5": Run("lenet5-classes", "lenet-5", data="digits?size=16&limit=200", share=0.03),
    "one-shot": Run("lenet300-dpsh", "one-shot"),
    "qcnn": Run("lenet5-classes", "qcnn", data="digits?size=16&limit=200"),
    "resnet-20": Run("resnet20-dpsh", "resnet-20", share=0.12, slow=True),
    "smallest": Run("smallconv-dlbhc", "smallest"),
}


def one(start: str, name: str, /, *, fold: bool = False, **settings: Any) -> Run:
    """Return a run of one pass, perhaps behind ``fold``."""
    passes = ({"name": name, **settings},)
    return Run(start, passes=({"name": "fold"}, *passes) if fold else passes)


_CONV, _DENSE, _RESNET = "smallconv-dlbhc", "lenet300-dpsh", "resnet20-dpsh"
RANKS = {"encoder.conv2": 6, "encoder.fc1": 8}
SOME = {"encoder.layer3.0.conv1": 6}
PASSES = {  # every kind of edit, and every form in which it stands in a file
    "folded": one(_RESNET, "fold"),
    "pruned": one(_DENSE, "prune", density=0.3),
    "pruned-obs": one(_CONV, "prune", density=0.4, compensate="obs"),
    "pruned-global": one(_RESNET, "prune", fold=True, density=0.5, scope="global"),
    "shared": one(_DENSE, "share", bits=4, start="linear"),
    "shared-scaled": one(_CONV, "share", bits=4, scaled=True, lam=0.05, importance="outputs"),
    "shared-float32": one(_DENSE, "share", bits=3, start="forgy", codebook="float32"),
    "narrowed-repadded": one(_RESNET, "narrow", fold=True, ratio=0.3),
    "narrowed-norms": one(_RESNET, "narrow", ratio=0.2, images=100),
    "merged": one(_DENSE, "merge", share=0.2, refit=200),
    "factored-cp3": one(_CONV, "cp", order=3, rank=8),
    "factored-cp3-bias": one(_RESNET, "cp", order=3, rank=SOME, data=True, images=100),
    "factored-cp4": one(_CONV, "cp", order=4, rank=8),
    "factored-tucker2": one(_CONV, "cp", order="tucker", energy=0.8),
    "factored-lowrank": one(_CONV, "lowrank", ranks=RANKS, images=200),
    "factored-lowrank3d": one(_CONV, "lowrank", speedup=2.5, three_d=True, images=200),
    "hashed": one(_CONV, "hashed", share={"*": 0.25, "head": 0.5}),
    "hashed-float32": one(_DENSE, "hashed", start="random", precision="float32"),
    "fastfood": one(_CONV, "fastfood"),
    "fastfood-float32": one(_DENSE, "fastfood", precision="float32"),
    "pq": one(_CONV, "pq", width={"conv": 4, "dense": 4}, entries=16, samples=100, sweeps=1),
    "pq-permuted": one(_DENSE, "pq", width=4, entries=16, sweeps=0, permute=True),
    "pq-priced": one(_DENSE, "pq", width=4, entries=32, samples=300, sweeps=2, lam=0.01, precision="float32"),
    "int8-alone": one(_CONV, "int8"),
    "int8-residual": Run(
        _RESNET,
        passes=({"name": "fold"}, {"name": "int8", "bits": {"conv": 6, "*": 8}, "images": 100}),
        slow=True,
    ),
    "int8-obs": one(_DENSE, "int8", bits=4, rounding="obs"),
    "int8-learned": one(_DENSE, "int8", bits=4, rounding="learned", steps=60),
    "thresholds": one(_DENSE, "thresholds", sure=0.5),
    "pruned-shared": Run(
        _DENSE,
        passes=({"name": "prune", "density": 0.5}, {"name": "share", "bits": 4, "scaled": True, "lam": 0.02}),
    ),
    "shared-folded": Run(
        _RESNET,
        passes=({"name": "share", "bits": 4, "scaled": True, "lam": 0.02}, {"name": "fold"}),
    ),
    "narrowed-factored-int8": Run(
        _CONV,
        passes=(
            {"name": "narrow", "ratio": 0.2, "score": "code", "refit": True},
            {"name": "lowrank", "ranks": RANKS, "solver": "filter"},
            {"name": "int8"},
        ),
    ),
}

RUNS = {**RECIPES, **PASSES}
