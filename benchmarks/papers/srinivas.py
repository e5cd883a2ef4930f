"""Data-free merging (Srinivas & Babu 2015, arXiv:1507.06149): the 500 neurons of LeNet-5's dense layer.

    HASHPRESS_DATA=DIR python -m benchmarks.papers.srinivas [STAGE ...]

Stages ``bases`` (networks: trained as usual, as in Caffe, and with weight decay 5e-3 and lr 0.05, by which initial values
shrink to a thousandth, set for that reason and not tuned), ``sizes``, ``caffe`` and ``decayed`` (error of each at every
size: the paper's distance, ours, both with least squares on 1,000 images, the choice by outputs on 1,000 and 10,000 and on
noise, magnitude and random removal beside them), ``both`` (channels of conv2 too), ``cutoff`` (how many the histogram's
mode takes) and ``networks`` (sixteen networks like ``decayed``, each from another seed: what the least squares gain on
average, where one network's gain is less than an image of 10,000). One neuron is 811 of 431,080 parameters.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import numpy as np
from hashpress.compress.channels.graph import channels
from hashpress.compress.channels.merge import Merge
from hashpress.compress.channels.narrow import Narrow
from hashpress.compress.channels.neurons import neurons_of
from hashpress.compress.channels.removal import cut
from hashpress.compress.channels.similarity import SMALLEST
from hashpress.core.model import HashModel, Step
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.hashnets.training.schedule import Schedule

from ..lib.caffe_lenet import train_as_caffe
from ..lib.cells import RECALLED, SEED, Book, Output, Row, Target, classifier, empty, mnist, run
from ..lib.merged_shares import FREE, POINTS, PREFIX, REFITTED, TRAINED, WEIGHTS, at_the_papers_loss, most

BOOK = Book("srinivas")
SCHEDULE = Schedule(epochs=12, batch=128, lr=0.02, clip=1.0)
DECAYED = Schedule(epochs=12, batch=128, lr=0.05, weight_decay=5e-3, clip=1.0, precision="bfloat16")
BASES = {"lenet5": SCHEDULE, "decayed": DECAYED}
COUNTS = (420, 450, 400, 440, 460, 100, 200, 300, 350, 430, 470)
DECAYED_COUNTS = (420, 450, 460, 300, 400, 440, 470, 200, 100)
IMAGES = 1000
DRAWN = 5000
NETWORKS = 16
LAYER = "encoder.fc1"
PAPER: dict[str, Any] = {
    "note": RECALLED,
    "removed": 420,
    "accuracy_before": 99.06,
    "accuracy_after": 98.35,
    "naive": 96.5,
    "random": 87.0,
}
WHY = {
    "lenet5": "its neurons still are 3/4 of their random initial values, hence nearly orthogonal",
    "caffe": "initial values are still 2/3 of the neurons; removal at random or by size comes nearer to the paper than elsewhere",
    "decayed": "decay wiped the initial values out; what was learned lies in few directions, which random removal may miss",
}


def base(name: str = "lenet5", seed: int = SEED) -> HashModel:
    """Return a trained LeNet-5."""
    make = partial(classifier, empty("lenet5", seed=seed), BASES[name], seed=seed) if name in BASES else train_as_caffe
    return BOOK.model(f"{name}-{seed}" if seed else name, make)


def random_removal(model: HashModel, count: int) -> HashModel:
    """Return the model without ``count`` neurons drawn at random."""
    found = channels(model)
    labels = np.random.default_rng(SEED).permutation(found.layers[LAYER].outputs)[:count]
    net = model.copy_net()
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
        "outputs-noise": Merge(share=share, by="outputs", refit=DRAWN, images="noise"),
        "magnitude": Narrow(ratio=count / 500, least=0.0, skip=others),
        "outputs-refit-10000": Merge(share=share, by="outputs", refit=10 * IMAGES),
        "magnitude-refit": Narrow(ratio=count / 500, least=0.0, skip=others, refit=True, images=IMAGES),
    }


def measured(model: HashModel, small: HashModel) -> dict[str, Any]:
    """Return the figures of one cell; ``output_error`` is relative to the variance of the outputs."""
    test = mnist().queries
    before, after = (outputs(one, test.pixels) for one in (model, small))
    sizes = [sum(value.numel() for value in one.net.parameters()) for one in (model, small)]
    return {
        "error": round(100 * float(np.mean(after.argmax(axis=1) != test.labels)), 3),
        "parameters": sizes[1],
        "removed_percent": round(100 * (1 - sizes[1] / sizes[0]), 2),
        "output_error": float(np.square(after - before).mean() / (before - before.mean(axis=0)).var()),
    }


def alike(model: HashModel) -> dict[str, float]:
    """Return how much neurons have in common: quantiles over neurons of the largest cosine with another."""
    neurons = neurons_of(model.net, channels(model), LAYER)
    weight = neurons.weight / np.maximum(neurons.norms, SMALLEST)[:, None]
    cosines = weight @ weight.T
    np.fill_diagonal(cosines, -1)
    found = np.quantile(cosines.max(axis=1), (0.1, 0.5, 0.9))
    names = ("nearest_cosine_tenth", "nearest_cosine_median", "nearest_cosine_nine_tenths")
    return dict(zip(names, map(float, found), strict=True))


def sizes() -> None:
    """Remove neurons in every way, at every size."""
    removals("lenet5", COUNTS, tuple(variants(0)))


def decayed() -> None:
    """Remove neurons of the network whose initial values were forgotten."""
    removals("decayed", DECAYED_COUNTS, tuple(variants(0))[:7])


def as_caffe() -> None:
    """Remove neurons of the network trained as in Caffe."""
    removals("caffe", (420, 300), tuple(variants(0))[:7])


def removals(name: str, counts: tuple[int, ...], ways: tuple[str, ...]) -> None:
    """Compute the cells of one base."""
    model, split, prefix = base(name), mnist(), PREFIX[name]
    BOOK.cell(f"{prefix}alike", lambda: alike(model))
    BOOK.cell(f"{prefix}original", lambda: measured(model, model))
    for count in counts:
        for way in ways:
            how = variants(count)[way]
            BOOK.cell(f"{prefix}{count}-{way}", lambda how=how: measured(model, how(model, split, seed=SEED)))
        BOOK.cell(f"{prefix}{count}-random", lambda count=count: measured(model, random_removal(model, count)))


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


def networks() -> None:
    """Ask what the refit gains on average, with each distance at every size."""
    for count in DECAYED_COUNTS:
        for way in WEIGHTS:
            BOOK.cell(f"mean-{count}-{way}", lambda count=count, way=way: gained(count, way))


def gained(count: int, way: str) -> dict[str, Any]:
    """Return mean errors with and without refit, and the mean of what it gains with its standard error, in points."""
    errors = np.array(
        [
            [
                measured(model, variants(count)[name](model, mnist(), seed=SEED))["error"]
                for name in (way, f"{way}-refit")
            ]
            for model in (base("decayed", seed) for seed in range(NETWORKS))
        ]
    )
    gains = errors[:, 0] - errors[:, 1]
    return {
        "error": round(float(errors[:, 0].mean()), 4),
        "error_refitted": round(float(errors[:, 1].mean()), 4),
        "gain": round(float(gains.mean()), 5),
        "gain_standard_error": round(float(gains.std(ddof=1)) / NETWORKS**0.5, 5),
    }


def finish(output: Output) -> None:
    """Write the table."""
    cells = BOOK.found()
    targets = at_the_papers_loss(cells)
    for way, which in (("paper", "the paper's distance"), ("joint", "joint distance")):
        for key, what in (("error", "error, points"), ("output_error", "squared error of the outputs, relative")):
            gains = [
                round(bare[key] - fitted[key], 7)
                for name, bare in cells.items()
                if name.endswith(way) and (fitted := cells.get(f"{name}-refit")) and key in bare and key in fitted
            ]
            if gains:
                name = f"least gain of the refit at any size, {which}: {what}"
                targets.append(Target(name, min(gains), ">=", 1e-6))
        means = [cell["gain"] for name, cell in cells.items() if re.fullmatch(rf"mean-\d+-{way}", name)]
        if means:
            name = f"least gain of the refit at any size, {which}: error, points, mean of {NETWORKS} networks"
            targets.append(Target(name, min(means), ">=", 1e-6))
    settings = {name: schedule.to_json() for name, schedule in BASES.items()}
    BOOK.publish(output, PAPER, targets, [row for name in PREFIX for row in rows(name)], settings=settings)


def rows(base: str) -> list[Row]:
    """Return the paper's cells beside those of one of our networks."""
    prefix, trained, why, cells = PREFIX[base], TRAINED[base], WHY[base], BOOK.found()
    error = BOOK.value(f"{prefix}original", "error")

    def lost(cell: str) -> float | None:
        found = BOOK.value(prefix + cell, "error")
        return None if None in (found, error) else round(found - error, 2)

    made = [
        Row(f"{trained}, accuracy", "%", PAPER["accuracy_before"], None if error is None else round(100 - error, 2))
    ]
    for what, key, name in (
        ("merged, no data", "accuracy_after", "paper"),
        ("merged, no data, biases compared by difference", None, "joint"),
        ("chosen and fitted on 5,000 images of noise, no data", None, "outputs-noise"),
        ("smallest weights", "naive", "magnitude"),
        ("at random", "random", "random"),
        ("merged, least squares on 1,000 images", None, "paper-refit"),
        ("chosen by outputs on 1,000 images, least squares", None, "outputs-refit"),
    ):
        found, published = lost(f"420-{name}"), round(PAPER["accuracy_before"] - PAPER[key], 2) if key else None
        note = why if key and found is not None else ""
        made.append(Row(f"{trained}, 420 of 500 neurons removed, {what}", "points lost", published, found, note))
    for what, ways in (("likeness of weights", WEIGHTS), ("no data", FREE), ("with refit", REFITTED)):
        name = f"{trained}, parameters removed within {POINTS} points, {what}"
        made.append(Row(name, "%", None, None if error is None else most(cells, base, *ways)))
    near = BOOK.value(f"{prefix}alike", "nearest_cosine_median")
    made.append(Row(f"{trained}, largest cosine of a neuron with another", "median", None, near))
    if not prefix:
        cutoff = BOOK.value("cutoff-paper", "neurons_removed")
        made.append(Row(f"{trained}, neurons that the histogram's mode removes", "of 500", None, cutoff))
        made.append(Row(f"{trained}, at that cutoff", "points lost", None, lost("cutoff-paper")))
    return made


if __name__ == "__main__":
    run(
        {
            "bases": lambda: [base(name) for name in PREFIX],
            "sizes": sizes,
            "decayed": decayed,
            "caffe": as_caffe,
            "both": both,
            "cutoff": cutoffs,
            "networks": networks,
        },
        finish,
    )
