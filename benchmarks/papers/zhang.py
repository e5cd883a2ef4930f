"""Response reconstruction (Zhang, Zou, He & Sun 2016, arXiv:1505.06798) on a VGG-style hash network.

    HASHPRESS_DATA=DIR python -m benchmarks.papers.zhang [STAGE ...]

Stages: ``checkpoint`` (fast: solvers side by side on a public ResNet-20, bit flips of a random 48-bit head, nothing is
trained), ``vgg11`` (trains VGG-11 of half width on CIFAR-10, an hour; then all solvers at 4x fewer MACs without training),
``tune11`` (4x after fine-tuning, an hour), ``early11`` (cut earlier, so that both train as long after it), ``long11``
(cut later, both train 59 epochs after it, two hours), ``vgg11-full`` and ``tune11-full`` (the same network at full
width, both train 22 epochs after the cut, five hours), ``vgg6`` and ``tune6`` (six convolutions of 0.65 million
parameters); ``speeds`` (2x, 3x and 5x), ``tune-more`` (other kinds and 5x). The networks and how they learn stand in
``benchmarks/lib/vggs.py``. Every cell is kept, so a run goes on where it stopped.
"""

from __future__ import annotations

import os
import re
import sys
import time
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from hashpress.compress.factorize.lowrank import LowRank
from hashpress.compress.fold import Fold
from hashpress.compress.observe.macs import count
from hashpress.core.data import Split, load_data
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.encoders.spec import CIFAR
from hashpress.hashnets.importers.recognise import import_checkpoint
from hashpress.hashnets.retrieval.bit_flips import bit_flips
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.hashnets.retrieval.evaluate import evaluate
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train

from ..lib.cells import SEED, Book, Output, Row, Target, run
from ..lib.hashing import hasher, judged
from ..lib.spine_models import ends_of
from ..lib.vggs import NETS

BOOK = Book("zhang")
IMAGES = 3000  # as many as the paper needs
KINDS: dict[str, dict[str, Any]] = {
    "filter": {"solver": "filter"},
    "linear": {"solver": "linear", "asymmetric": False},
    "linear-asymmetric": {"solver": "linear"},
    "nonlinear": {"asymmetric": False},
    "nonlinear-asymmetric": {},
    "asymmetric-3d": {"three_d": True},
}
PAPER: dict[str, dict[str, Any]] = {
    "VGG-16, ImageNet, top-5 points lost (table 7)": {
        "speedup": [3, 4, 5],
        "Jaderberg, their run": [2.3, 9.7, 29.7],
        "asymmetric 3d": [0.4, 0.9, 2.0],
        "asymmetric 3d, fine-tuned": [0.0, 0.3, 1.0],
        "source": "quoted by a public note, not checked against the paper",
    }
}
MAX_DROP = 0.01


def folder() -> Path:
    """Return the folder of the real data sets."""
    found = os.environ.get("HASHPRESS_DATA")
    if not found:
        sys.exit("this script needs HASHPRESS_DATA: a folder with cifar10-jpeg.tar.xz")
    return Path(found)


def cifar(options: str = "") -> Split:
    """Return CIFAR-10, protocol B."""
    return load_data(f"cifar10:{folder() / 'cifar10-jpeg.tar.xz'}{options}", protocol="B")


def checkpoint() -> None:
    """Compare the solvers on a trained network that we did not train; the fast part."""
    split = cifar("?limit=1500")
    source = folder().parent / "checkpoints" / "resnet20-12fca82f.th"
    model = Fold()(import_checkpoint(source, bits=48, seed=SEED))
    truth = outputs(model, split.queries.pixels)
    for speedup in (1.5, 2.0):
        for kind, settings in KINDS.items():

            def compute(speedup: float = speedup, settings: dict[str, Any] = settings) -> dict[str, Any]:
                begin = time.process_time()
                small = LowRank(speedup=speedup, images=200, **settings)(model, split, seed=SEED)
                seconds = time.process_time() - begin
                found = outputs(small, split.queries.pixels)
                return {
                    "macs_fewer": count(model).macs / count(small).macs,
                    "cpu_seconds": round(seconds, 1),
                    "flips": bit_flips(found, truth).rate,
                    "outputs_error": float(np.linalg.norm(found - truth) / np.linalg.norm(truth)),
                }

            BOOK.cell(f"checkpoint-{speedup:g}x-{kind}", compute)


def trained(name: str) -> HashModel:
    """Return a network with 48 bits as it is cut, but for its batch norms."""
    net = NETS[name]
    arch = default_arch(net.encoder, 48, CIFAR, **net.options)
    model = untrained(arch, seed=SEED, trust_code=True)
    for number, schedule in enumerate(net.alone, start=1):

        def make(path: Path, model: HashModel = model, schedule: Schedule = schedule) -> HashModel:
            return train(model, cifar(), "dlbhc", schedule, seed=SEED, checkpoint=path)

        model = BOOK.model(f"{net.kept}-alone-{number}", make)
    return [model, *ends_of(BOOK.model, f"{net.kept}-taught", model, net.taught)][-1]


def base(name: str, model: HashModel) -> dict[str, Any]:
    """Return the figures of the uncompressed network with 10,000 images stored."""
    itself = hasher(model)
    found = BOOK.cell(f"{name}-base", lambda: judged(itself, itself, asked=len(cifar().queries)))
    return found | {"macs": count(model).macs}


def compressed(name: str, model: HashModel, split: Split, kind: str, speedup: float) -> HashModel:
    """Return the network after one kind of reconstruction, kept."""
    work = LowRank(speedup=speedup, images=IMAGES, **KINDS[kind])
    return BOOK.model(f"{name}-{speedup:g}x-{kind}", lambda _: work(model, split, seed=SEED))


def without_training(name: str, *speedups: float) -> None:
    """Measure all kinds at some speeds, without training: all queries, 10,000 images stored."""
    model, split = Fold()(trained(name)), cifar()
    before = base(name, model)

    def compute(kind: str, speedup: float) -> dict[str, Any]:
        small = compressed(name, model, split, kind, speedup)
        found = judged(hasher(small), hasher(model), asked=len(split.queries))
        return {
            "macs_fewer": before["macs"] / count(small).macs,
            "drop": before["map"] - found["map"],
            "flips": found["flips_percent"] / 100,
        }

    for speedup in speedups:
        for kind in KINDS:
            BOOK.cell(f"{name}-{speedup:g}x-{kind}", partial(compute, kind, speedup))


def tune(name: str, *cells: tuple[str, float]) -> None:
    """Measure what fine-tuning gives back, beside the whole network that goes on learning too."""
    net, split, before = NETS[name], cifar(), trained(name)
    model = Fold()(before)
    learned = partial(ends_of, BOOK.model, beside=(lambda: before) if net.alike else None)

    def longer() -> HashModel:
        return Fold()(learned(f"{name}-whole", before, net.after)[-1])

    whole = BOOK.cell(f"{name}-whole-tuned", lambda: {"map": evaluate(longer(), split).map})

    def compute(kind: str, speedup: float) -> dict[str, Any]:
        cut = compressed(name, model, split, kind, speedup)
        small = learned(f"{name}-{speedup:g}x-{kind}-taught", cut, net.left)[-1]
        found = evaluate(small, split).map
        return {"macs_fewer": count(model).macs / count(small).macs, "map": found, "drop": whole["map"] - found}

    for kind, speedup in cells:
        BOOK.cell(f"{name}-{speedup:g}x-{kind}-tuned", partial(compute, kind, speedup))


def publish(output: Output) -> None:
    """Write the tables and the targets, as far as their cells are there."""
    found = BOOK.found()
    targets = []
    for speedup in ("1.5x", "2x"):
        flips = {kind: found.get(f"checkpoint-{speedup}-{kind}", {}).get("flips") for kind in KINDS}
        if None not in flips.values():
            gap = min(flips["filter"] - flips["linear"], flips["linear"] - flips["nonlinear-asymmetric"])
            targets.append(
                Target(f"lowrank {speedup}, ResNet-20: least gap of the paper's ordering, flips", gap, ">=", 0.0)
            )
    for name, net in NETS.items():
        drops = {kind: found.get(f"{name}-4x-{kind}", {}).get("drop") for kind in KINDS}
        if None not in drops.values():
            gap = min(drops["filter"] - drops["linear"], drops["linear"] - drops["nonlinear-asymmetric"])
            targets.append(Target(f"lowrank 4x, {net.words}: least gap of the paper's ordering, mAP", gap, ">=", 0.0))
            line = f"lowrank 4x, {net.words}, no training: mAP drop, mean of {len(drops)} kinds"
            targets.append(Target(line, mean(drops.values()), "<=", MAX_DROP))
        tuned = [cell["drop"] for cell_name, cell in found.items() if re.fullmatch(f"{name}-4x-.*-tuned", cell_name)]
        if tuned:
            kinds = f", mean of {len(tuned)} kinds" if len(tuned) > 1 else ""
            line = f"lowrank 4x, {net.words}, fine-tuned: mAP drop{kinds}"
            targets.append(Target(line, mean(tuned), "<=", MAX_DROP))
    source = "quoted by a public note"
    rows = [
        Row(f"VGG-16, ImageNet, {name}, {speed}x", "points of top-5", lost, None, "no ImageNet here", source)
        for table in PAPER.values()
        for name in ("asymmetric 3d", "asymmetric 3d, fine-tuned")
        for speed, lost in zip(table["speedup"], table[name], strict=True)
    ]
    for name, net in NETS.items():
        rows += [
            Row(f"{net.words}, CIFAR-10, {kind}, 4x", "mAP lost", None, BOOK.value(f"{name}-4x-{kind}", "drop"))
            for kind in KINDS
            if f"{name}-4x-{kind}" in found
        ]
        lost = BOOK.value(f"{name}-4x-asymmetric-3d-tuned", "drop")
        what = f"{net.words}, CIFAR-10, asymmetric 3d, fine-tuned, 4x"
        rows.append(Row(what, "mAP lost", None, lost, net.about))
    settings = {name: {"about": net.about, "encoder": net.encoder} for name, net in NETS.items()}
    BOOK.publish(output, PAPER, targets, rows, settings=settings)


STAGES = {
    "checkpoint": checkpoint,
    "vgg11": partial(without_training, "vgg11", 4.0),
    "tune11": partial(tune, "vgg11", ("asymmetric-3d", 4.0)),
    "early11": partial(tune, "vgg11-early", ("asymmetric-3d", 4.0)),
    "long11": partial(tune, "vgg11-long", ("asymmetric-3d", 4.0)),
    "vgg11-full": partial(without_training, "vgg11-full", 4.0),
    "tune11-full": partial(tune, "vgg11-full", ("asymmetric-3d", 4.0)),
    "vgg6": partial(without_training, "vgg6", 4.0),
    "tune6": partial(tune, "vgg6", ("asymmetric-3d", 4.0)),
    "speeds": partial(without_training, "vgg6", 2.0, 3.0, 5.0),
    "tune-more": partial(
        tune,
        "vgg6",
        ("asymmetric-3d", 5.0),
        *((kind, speedup) for speedup in (4.0, 5.0) for kind in ("nonlinear-asymmetric", "filter")),
    ),
}

if __name__ == "__main__":
    run(STAGES, publish)
