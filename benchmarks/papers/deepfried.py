"""Deep Fried Convnets (Yang et al. 2015, arXiv:1412.7149): LeNet on MNIST, and the dense layers of an AlexNet hash network.

    HASHPRESS_DATA=DIR python -m benchmarks.papers.deepfried [STAGE ...]

Stages ``lenet`` (dense, 500 outputs), ``1024`` and ``2048`` (outputs of the Fastfood layer in its place), each also
with ``-dropout`` (half of the layer's outputs dropped in training, twice the rate), ``-dropouts`` (a quarter of its
inputs too), ``-shift`` (images shifted, twice the rate), ``-shift-long`` (twice the epochs, too), ``-affine`` (images
turned, scaled, sheared and shifted, twice the rate and epochs), ``-norm`` (as ``-shift``, with batch norms that are
folded away after training), ``-relu`` (with ReLU after the convolutions, too), ``-relu-long`` (twice the epochs,
too) or ``-caffe`` (the solver of Caffe's example); a suffix ``-seed1`` and so on is another start. Nets are compared
that were trained alike. ``alexnet``: CIFAR-10 at 64x64, half an hour. As in the paper the networks train from scratch
with Fastfood in place; the last layer stays dense.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from statistics import mean
from types import MappingProxyType
from typing import Any, NamedTuple

from hashpress.compress.finetune.finetune import Finetune
from hashpress.compress.fold import Fold
from hashpress.compress.structured.fastfood import Fastfood
from hashpress.core.data import Split, load_data
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.evaluate import evaluate
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train

from ..lib.caffe_lenet import as_caffe, caffe_lenet
from ..lib.cells import RECALLED, SEED, Book, Output, Row, Target, classifier, empty, mnist, run, test_error

BOOK = Book("deepfried")
SCHEDULE = Schedule(epochs=20, batch=128, lr=0.001, optimizer="adam", weight_decay=0.0)
ALEXNET = Schedule(epochs=10, batch=256, lr=0.02, augment="flip-crop", precision="bfloat16")
PAPER = {
    "lenet": {"error": 0.87, "weights": 430_500},
    "1024": {"error": 0.83, "weights": 38_812, "note": "the paper has 0.83 to 0.86"},
    "2048": {"error": 0.90, "weights": 52_124, "note": "the paper has 0.90 to 0.92"},
}
DROPPING, NORMED = "nets:lenet5_dropout", "nets:lenet5_norm"


class Recipe(NamedTuple):
    """How a net trains: in which shape, with which options of it, what multiplies the rate."""

    words: str
    encoder: str = "lenet5"
    options: Mapping[str, Any] = MappingProxyType({})
    faster: float = 1.0
    augment: str = "none"
    epochs: int = SCHEDULE.epochs
    caffe: bool = False  # by Caffe's own solver

    @property
    def schedule(self) -> Schedule:
        """The whole schedule."""
        return replace(SCHEDULE, epochs=self.epochs, lr=self.faster * SCHEDULE.lr, augment=self.augment)


RECIPES = {
    "": Recipe("no dropout"),
    "-dropout": Recipe("dropout of features", DROPPING, {"dropout": 0.5}, faster=2.0),
    "-dropouts": Recipe("dropout of features and inputs", DROPPING, {"dropout": 0.5, "early": True}, faster=2.0),
    "-shift": Recipe("images shifted by up to two pixels", faster=2.0, augment="shift"),
    "-shift-long": Recipe(
        "images shifted by up to two pixels, twice the epochs", faster=2.0, augment="shift", epochs=40
    ),
    "-affine": Recipe("images turned, scaled, sheared and shifted", faster=2.0, augment="affine", epochs=40),
    "-norm": Recipe("images shifted, batch norms that are folded away", NORMED, faster=2.0, augment="shift"),
    "-relu": Recipe(
        "images shifted, batch norms that are folded away, ReLU after the convolutions",
        NORMED, {"active": True}, faster=2.0, augment="shift",
    ),
    "-relu-long": Recipe(
        "images shifted, batch norms that are folded away, ReLU after the convolutions, twice the epochs",
        NORMED, {"active": True}, faster=2.0, augment="shift", epochs=40,
    ),
    "-caffe": Recipe("Caffe's solver", caffe=True),
}  # fmt: skip
NETS = {"lenet": 500, "1024": 1024, "2048": 2048}  # outputs of the dense or the Fastfood layer
SEEDS = (0, 1, 2)
SMALL = "1024"  # the net of the claim: eleven times fewer weights
MAX_POINTS = 0.1
MIN_RATIO = 11.0


def weights(model: HashModel) -> int:
    """Return the number of values without biases, as the paper counts."""
    return sum(value.numel() for name, value in model.net.named_parameters() if not name.endswith("bias"))


def figures(name: str, model: HashModel) -> dict[str, Any]:
    """Return error and sizes of a cell."""
    return {"error": test_error(model), "weights": weights(model), "file_bytes": BOOK.bytes(name)}


def cell_name(net: str, recipe: str, seed: int) -> str:
    """Return the name of a cell, which is also its stage."""
    return f"{net}{recipe}{f'-seed{seed}' if seed else ''}"


def untrained_net(net: str, recipe: str, seed: int) -> HashModel:
    """Return LeNet, dense or with Fastfood, in the shape of a recipe."""
    how, widths = RECIPES[recipe], (20, 50, NETS[net])
    if how.caffe:
        model = caffe_lenet(seed=seed, widths=widths)
    else:
        model = empty(how.encoder, seed=seed, widths=widths, **how.options)
    return model if net == "lenet" else Fastfood(precision="float32")(model, seed=seed)


def trained_net(net: str, recipe: str, seed: int) -> HashModel:
    """Return LeNet, dense or with Fastfood, trained by one recipe from one start, without norms; it is kept."""
    how = RECIPES[recipe]

    def make(checkpoint: Path) -> HashModel:
        model = untrained_net(net, recipe, seed)
        if how.caffe:
            return as_caffe(model, seed=seed)
        trained = classifier(model, how.schedule, checkpoint, seed=seed)
        return Fold()(trained) if how.encoder == NORMED else trained

    return BOOK.model(cell_name(net, recipe, seed), make)


def lenet(net: str, recipe: str, seed: int) -> None:
    """Train LeNet and measure it."""
    name = cell_name(net, recipe, seed)
    BOOK.cell(name, lambda: figures(name, trained_net(net, recipe, seed)))


def taught(net: str, recipe: str, seed: int) -> None:
    """Train the same, with the convolutions of the trained dense LeNet, to give its classes as well as the labels."""
    name = cell_name(net, f"{recipe}-taught", seed)

    def make(checkpoint: Path) -> HashModel:
        reference = trained_net("lenet", recipe, seed)
        model = untrained_net(net, recipe, seed)
        convolutions = {key: value for key, value in reference.net.state_dict().items() if "conv" in key}
        model.net.load_state_dict(convolutions, strict=False)
        names = ("epochs", "batch", "lr", "optimizer", "weight_decay", "augment")
        schedule = {key: getattr(RECIPES[recipe].schedule, key) for key in names}
        learn = Finetune(**schedule, system="onehot", settings={"weight": 0.0}, match="classes")
        work = checkpoint.with_suffix(".work")
        work.mkdir(exist_ok=True)
        return learn(model, mnist(), seed=seed, reference=reference, work=work)

    BOOK.cell(name, lambda: figures(name, BOOK.model(name, make)))


def errors(net: str, recipe: str) -> dict[int, float]:
    """Return the test errors of the starts that ran."""
    found = {seed: BOOK.value(cell_name(net, recipe, seed), "error") for seed in SEEDS}
    return {seed: error for seed, error in found.items() if error is not None}


@cache
def cifar10() -> Split:
    """Return CIFAR-10 at 64x64, protocol B."""
    return load_data(f"cifar10:{os.environ['HASHPRESS_DATA']}/cifar10-jpeg.tar.xz?size=64", protocol="B")


def fresh() -> HashModel:
    """Return an AlexNet with 48 bits for images of 64x64."""
    split = cifar10()
    arch = default_arch("alexnet", 48, ImageInput.of(split))
    return untrained(arch, seed=SEED)


def learned(name: str, make: Callable[[], HashModel]) -> HashModel:
    """Return a network trained on CIFAR-10, kept."""
    return BOOK.model(name, lambda path: train(make(), cifar10(), "dlbhc", ALEXNET, seed=SEED, checkpoint=path))


def dense() -> HashModel:
    """Return the trained AlexNet hash network with dense layers."""
    return learned("alexnet", fresh)


def alexnet() -> None:
    """Train an AlexNet hash network with dense layers and with Fastfood layers, and compare mAP."""

    def measured(name: str, trained: HashModel) -> dict[str, Any]:
        values = sum(
            v.numel() for k, v in trained.net.named_parameters() if "classifier" in k and not k.endswith("bias")
        )
        return {"map": evaluate(trained, cifar10()).map, "dense_values": values, "file_bytes": BOOK.bytes(name)}

    BOOK.cell("alexnet", lambda: measured("alexnet", dense()))
    fastfood = partial(Fastfood(), seed=SEED)
    BOOK.cell(
        "alexnet-fastfood",
        lambda: measured("alexnet-fastfood", learned("alexnet-fastfood", lambda: fastfood(fresh()))),
    )


def compared(net: str) -> list[Target]:
    """Return how far a net with Fastfood is behind the dense one, both trained alike, and the mean over the ways of training.

    Cells of other starts than both have are left out.
    """
    name, targets, gaps = f"Deep Fried LeNet, {net}: error increase, points", [], []
    for recipe, how in RECIPES.items():
        fried, dense = errors(net, recipe), errors("lenet", recipe)
        starts = sorted(fried.keys() & dense.keys())
        if starts:
            means = [mean(column[seed] for seed in starts) for column in (fried, dense)]
            many = f"mean of {len(starts)} starts" if len(starts) > 1 else "one start"
            what = f"{name}, both trained with {how.words}, {many}"
            gaps.append(means[0] - means[1])
            targets.append(Target(what, round(gaps[-1], 3), "<=", MAX_POINTS))
    if len(gaps) > 1:
        words = f"{name}, mean of {len(gaps)} ways of training"
        targets.append(Target(words, round(mean(gaps), 3), "<=", MAX_POINTS))
    return targets


def publish(output: Output) -> None:
    """Write the table and the targets, as far as their cells are there."""
    found, targets = BOOK.found(), [*compared("1024"), *compared("2048")]
    if {"lenet", SMALL} <= found.keys():
        ratio = found["lenet"]["weights"] / found[SMALL]["weights"]
        targets.append(Target("Deep Fried LeNet: fewer weights by", round(ratio, 2), ">=", MIN_RATIO))
    if {"alexnet", "alexnet-fastfood"} <= found.keys():
        ratio = found["alexnet"]["dense_values"] / found["alexnet-fastfood"]["dense_values"]
        targets.append(Target("Deep Fried AlexNet: fc6 and fc7 smaller by", round(ratio, 1), ">=", 100))
    rows = []
    for net, cells in PAPER.items():
        name = "MNIST, LeNet" if net == "lenet" else f"MNIST, LeNet, Fastfood of {net} outputs"
        for recipe in (*RECIPES, *(f"{recipe}-taught" for recipe in RECIPES)):
            if ours := errors(net, recipe):
                why = [cells.get("note", "") if not recipe else "", f"starts: {', '.join(map(str, ours.values()))}"]
                published = None if recipe else cells["error"]
                taught_by = ", taught by the dense LeNet" if recipe.endswith("-taught") else ""
                what = f"{name}, {RECIPES[recipe.removesuffix('-taught')].words}{taught_by}"
                rows.append(
                    Row(what, "% error", published, round(mean(ours.values()), 3), "; ".join(filter(None, why)))
                )
        rows.append(Row(name, "weights", cells["weights"], BOOK.value(net, "weights")))
    rows.append(
        Row("AlexNet hash network, CIFAR-10 at 64x64, Fastfood", "mAP", None, BOOK.value("alexnet-fastfood", "map"))
    )
    BOOK.publish(
        output, {key: {**row, "source": RECALLED} for key, row in PAPER.items()}, targets, rows,
        settings={"schedule": SCHEDULE.to_json(), "alexnet": ALEXNET.to_json(), "ways": list(RECIPES)},
        settings_tried=f"at least {len(RECIPES)} ways of training, compared on the test images; all are in values",
    )  # fmt: skip


STAGES = {
    cell_name(net, recipe, seed): partial(lenet, net, recipe, seed)
    for seed in SEEDS
    for net in NETS
    for recipe in RECIPES
}
STAGES |= {
    cell_name(SMALL, f"{recipe}-taught", seed): partial(taught, SMALL, recipe, seed)
    for seed in SEEDS
    for recipe, how in RECIPES.items()
    if how.encoder != NORMED and not how.caffe
}
STAGES |= {"alexnet": alexnet}

if __name__ == "__main__":
    run(STAGES, publish)
