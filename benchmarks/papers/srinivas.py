"""Data-free merging (Srinivas & Babu 2015, arXiv:1507.06149): the 500 neurons of LeNet-5's dense layer.

    HASHPRESS_DATA=DIR python benchmarks/papers/srinivas.py [STAGE ...]

Stages ``sizes`` (error at every size: the paper's distance, ours, both with least squares on 1,000 images, the choice by
outputs on 1,000 and 10,000, magnitude and random removal beside them), ``both`` (channels of conv2 too) and ``cutoff``
(how many the histogram's mode takes). One neuron is 811 of 431,080 parameters.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from cells import RECALLED, SEED, Book, Row, Target, classifier, empty, mnist, run, test_error
from hashpress.compress.channels import channels
from hashpress.compress.narrowing import cut
from hashpress.compress.passes.merge import Merge
from hashpress.compress.passes.narrow import Narrow
from hashpress.core.model import HashModel, Step
from hashpress.hashnets.schedule import Schedule

BOOK = Book("srinivas")
SCHEDULE = Schedule(epochs=12, batch=128, lr=0.02, clip=1.0)
COUNTS = (420, 450, 400, 440, 460, 100, 200, 300, 350, 430, 470)
IMAGES = 1000
LAYER = "encoder.fc1"
PAPER: dict[str, Any] = {
    "note": RECALLED,
    "removed": 420,
    "accuracy_before": 99.06,
    "accuracy_after": 98.35,
    "naive": 96.5,
    "random": 87.0,
}
WHY = "another network; where random removal loses more too, its neurons are less alike than the paper's"
POINTS = 0.71  # the paper's loss, percentage points
REMOVED = 83.0  # percent of all parameters


def base() -> HashModel:
    """Return the trained LeNet-5."""
    return BOOK.model("lenet5", partial(classifier, empty("lenet5"), SCHEDULE))


def random_removal(model: HashModel, count: int) -> HashModel:
    """Return the model without ``count`` neurons drawn at random."""
    found = channels(model)
    labels = np.random.default_rng(SEED).permutation(found.layers[LAYER].outputs)[:count]
    net = model.copied_net()
    edits = cut(net, found, np.sort(labels))
    return model.edited(net, edits, Step("random", {"count": count}, SEED))


def variants(count: int) -> dict[str, Any]:
    """Return the ways to remove ``count`` neurons."""
    share = {LAYER: count / 500}
    others = ("encoder.conv1", "encoder.conv2", "head")
    return {
        "paper": Merge(share=share),
        "joint": Merge(share=share, distance="joint"),
        "paper-refit": Merge(share=share, refit=IMAGES),
        "joint-refit": Merge(share=share, distance="joint", refit=IMAGES),
        "outputs-refit": Merge(share=share, by="outputs", refit=IMAGES),
        "outputs-refit-10000": Merge(share=share, by="outputs", refit=10 * IMAGES),
        "magnitude": Narrow(ratio=count / 500, least=0.0, skip=others),
        "magnitude-refit": Narrow(ratio=count / 500, least=0.0, skip=others, refit=True, images=IMAGES),
    }


def measured(model: HashModel, small: HashModel) -> dict[str, Any]:
    """Return the figures of one cell."""
    before, after = (sum(value.numel() for value in one.net.parameters()) for one in (model, small))
    return {"error": test_error(small), "parameters": after, "removed_percent": round(100 * (1 - after / before), 2)}


def sizes() -> None:
    """Remove neurons in every way, at every size."""
    model, split = base(), mnist()
    BOOK.cell("original", lambda: measured(model, model))
    for count in COUNTS:
        for name, how in variants(count).items():
            BOOK.cell(f"{count}-{name}", lambda how=how: measured(model, how(model, split, seed=SEED)))
        BOOK.cell(f"{count}-random", lambda count=count: measured(model, random_removal(model, count)))


def both() -> None:
    """Remove channels of the second convolution with the neurons: every channel gone takes 16 inputs of each neuron."""
    model, split = base(), mnist()
    for channels_left, neurons_left in ((30, 100), (25, 100), (35, 80), (30, 80), (20, 60)):
        share = {"encoder.conv2": 1 - channels_left / 50, LAYER: 1 - neurons_left / 500}
        for by in ("outputs", "weights"):
            how = Merge(share=share, kinds=("conv", "dense"), by=by, distance="joint", refit=IMAGES)
            BOOK.cell(
                f"{channels_left}x{neurons_left}-both-{by}-refit",
                lambda how=how: measured(model, how(model, split, seed=SEED)),
            )


def cutoffs() -> None:
    """Let the histogram decide."""
    model, split = base(), mnist()
    for name, how in (
        ("paper", Merge()),
        ("joint", Merge(distance="joint")),
        ("paper-half", Merge(caution=0.5)),
        ("joint-refit", Merge(distance="joint", refit=IMAGES)),
    ):
        BOOK.cell(
            f"cutoff-{name}",
            lambda how=how: (
                measured(model, small := how(model, split, seed=SEED))
                | {"neurons_removed": small.history[-1].after["layers"][LAYER]["removed"]}
            ),
        )


def finish() -> None:
    """Write the table."""
    cells = BOOK.found()
    if "original" not in cells:
        return
    error = cells["original"]["error"]

    def most(*names: str) -> float:
        """Return the largest share of parameters removed within the paper's loss."""
        kept = [
            cell["removed_percent"]
            for name, cell in cells.items()
            if name.split("-", 1)[-1] in names and cell["error"] - error <= POINTS
        ]
        return max(kept, default=0.0)

    pairs = [
        cells[f"{count}-{name}"]["error"] - cells[f"{count}-{name}-refit"]["error"]
        for count in COUNTS
        for name in ("paper", "joint")
        if f"{count}-{name}-refit" in cells and f"{count}-{name}" in cells
    ]
    targets = [
        Target("parameters removed at the paper's loss, no data, percent", most("paper", "joint"), ">=", REMOVED),
        Target(
            "parameters removed at the paper's loss, with refit, percent",
            most("paper-refit", "joint-refit"),
            ">=",
            REMOVED,
        ),
        Target(
            "parameters removed at the paper's loss, neurons and channels chosen on 1,000 images, percent",
            most("outputs-refit", "outputs-refit-10000", "both-outputs-refit"),
            ">=",
            REMOVED,
        ),
    ]
    if pairs:
        targets.append(Target("least gain of the refit over merging alone at any size, points", min(pairs), ">=", 0.0))
    BOOK.publish(PAPER, targets, rows(error))


def rows(error: float) -> list[Row]:
    """Return the paper's cells beside ours; ``error`` is that of the whole network, percent."""

    def lost(cell: str) -> float | None:
        found = BOOK.value(cell, "error")
        return None if found is None else round(found - error, 2)

    made = [Row("LeNet-5, accuracy", "%", PAPER["accuracy_before"], round(100 - error, 2))]
    for what, key, name in (
        ("merged, no data", "accuracy_after", "paper"),
        ("smallest weights", "naive", "magnitude"),
        ("at random", "random", "random"),
        ("merged, least squares on 1,000 images", None, "paper-refit"),
        ("chosen by outputs on 1,000 images, least squares", None, "outputs-refit"),
    ):
        found, published = lost(f"420-{name}"), round(PAPER["accuracy_before"] - PAPER[key], 2) if key else None
        why = WHY if key and found is not None else ""
        made.append(Row(f"420 of 500 neurons removed, {what}", "points lost", published, found, why))
    cutoff = BOOK.value("cutoff-paper", "neurons_removed")
    made.append(Row("neurons that the histogram's mode removes", "of 500", None, cutoff))
    return [*made, Row("at that cutoff", "points lost", None, lost("cutoff-paper"))]


if __name__ == "__main__":
    run({"sizes": sizes, "both": both, "cutoff": cutoffs}, finish)
