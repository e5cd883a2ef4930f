"""Half of ResNet-20's multiplications taken out by channels: mAP after fine-tuning, and what it gains on this machine.

    HASHPRESS_DATA=DIR python -m benchmarks.narrow [STAGE ...]

The network is the one of ``benchmarks.spine`` (48 bits, CIFAR-10, protocol B). Stages: ``scores`` (one cut by every score, bits
flipped before any training, on training images), ``tune`` (the cut by code-aware scores, widths in multiples of the
vector length, fine-tuned beside a ResNet-56), ``longer`` (the whole network trained as long as what the cut left, for
comparison), ``latency`` (both networks side by side through bundles). Cells are kept in ``runs/papers``, networks in
``runs/spine``.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hashpress.compress.channels.narrow import Narrow, places
from hashpress.compress.observe.macs import count
from hashpress.core.model import HashModel
from hashpress.hashnets.retrieval.bit_flips import bit_flips
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.hashnets.retrieval.evaluate import evaluate
from hashpress.targets.compile import compile_model
from hashpress.targets.runtime import Runtime

from .latency import in_turn
from .lib.cells import SEED, Book, Output, Target, run
from .lib.spine_models import LEARN, cifar10, kept, resnet20, taught

BOOK = Book("narrow")
SCORES = ("l1", "l2", "bn", "taylor", "code")
MACS = 0.5
CUT = Narrow(macs=MACS, score="code", multiple=8, images=1024)
SHIFTS = LEARN(epochs=46, lr=0.05, augment="flip-crop", distill=5.0)
LAST = (
    LEARN(epochs=4, lr=0.01, augment="flip", distill=5.0),
    LEARN(epochs=3, lr=0.01, augment="none", distill=1.0),
    LEARN(epochs=7, lr=0.01, augment="none", distill=0.0),
)
TAUGHT = (replace(SHIFTS, epochs=14), replace(SHIFTS, epochs=34), SHIFTS, *LAST)  # 94 with shifts; the whole one had 52
MIXED = {4: 0.25, 6: 0.75}  # the ends that know unseen images best and that give the purest codes
LONGER, LONGER_MIXED = (SHIFTS, *LAST), {2: 0.25, 4: 0.75}  # of the whole network: 98 with shifts, the same ends
MAX_DROP = 0.01


def scores() -> None:
    """Compare the scores at the same share of multiplications, without training."""
    model, train = resnet20(), cifar10().train
    pixels = train.select(places(train, 2000, SEED))[:]
    truth = outputs(model, pixels)
    for score in SCORES:

        def compute(score: str = score) -> dict[str, Any]:
            small = Narrow(macs=0.8, score=score, images=1024)(model, cifar10(), seed=SEED)
            found = bit_flips(outputs(small, pixels), truth).rate
            return {"macs": count(small).macs / count(model).macs, "flips": found}

        BOOK.cell(f"score-{score}", compute)


def tuned() -> HashModel:
    """Return the cut network after training, kept in ``runs/spine``."""
    cut = kept("resnet20-48-cut", lambda _: CUT(resnet20(), cifar10(), seed=SEED))
    return taught("resnet20-48-half", cut, TAUGHT, MIXED)


def tune() -> None:
    """Train what the cut left and measure it on the real queries."""

    def compute() -> dict[str, Any]:
        before, after = resnet20(), tuned()
        full, half = evaluate(before, cifar10()), evaluate(after, cifar10())
        return {
            "macs_fewer": count(before).macs / count(after).macs,
            "parameters": sum(value.numel() for value in after.net.parameters()),
            "map": half.map,
            "map_before": full.map,
            "drop": full.map - half.map,
        }

    BOOK.cell("tune", compute)


def longer() -> None:
    """Train the whole network until it has seen as many shifts as what the cut left, and compare with that."""

    def compute() -> dict[str, Any]:
        found = evaluate(taught("resnet20-48-longer", resnet20(), LONGER, LONGER_MIXED), cifar10()).map
        return {"map": found, "drop": found - evaluate(tuned(), cifar10()).map}

    BOOK.cell("longer", compute)


def latency() -> None:
    """Time the bundles of both networks in turn, one thread."""

    def compute() -> dict[str, Any]:
        torch.set_num_threads(1)
        with tempfile.TemporaryDirectory() as folder:
            calls = {}
            for name, model in {"half": tuned(), "full": resnet20()}.items():
                runtime = Runtime(compile_model(model, "host", Path(folder) / name).path)
                image = np.random.default_rng(SEED).standard_normal((1, *model.arch.input.shape), dtype=np.float32)
                calls[name] = partial(runtime.outputs, image)
            return in_turn(calls)

    BOOK.cell("latency", compute)


def finish(output: Output) -> None:
    """Write the result file with the cells that are there."""
    cells = BOOK.found()
    flips = {score: cells[f"score-{score}"]["flips"] for score in SCORES if f"score-{score}" in cells}
    targets = []
    if "tune" in cells:
        targets.append(Target("narrow, ResNet-20: fewer MACs, times", cells["tune"]["macs_fewer"], ">=", 1 / MACS))
        targets.append(Target("narrow 2x, ResNet-20, fine-tuned: mAP drop", cells["tune"]["drop"], "<=", MAX_DROP))
    if "longer" in cells:
        name = "narrow 2x, ResNet-20, fine-tuned: mAP drop against the whole network trained as long"
        targets.append(Target(name, cells["longer"]["drop"], "<=", MAX_DROP))
    if "latency" in cells:
        ratio = cells["latency"]["ratio"]
        targets.append(Target("narrow 2x, ResNet-20: latency over the full network's", ratio, "<=", 0.9))
    if len(flips) == len(SCORES):
        others = min(value for score, value in flips.items() if score != "code")
        targets.append(Target("narrow by code against the best other score, flips", flips["code"] - others, "<=", 0.0))
    settings = {"cut": asdict(CUT), "mixed": MIXED, "phases": [asdict(learn) for learn in TAUGHT]}
    BOOK.publish(output, {"note": "no paper: the limits are ours"}, targets, settings=settings)


if __name__ == "__main__":
    run({"scores": scores, "tune": tune, "longer": longer, "latency": latency}, finish)
