"""CP of convolution kernels (Lebedev et al. 2015, arXiv:1412.6553; Phan et al. 2020; Kim et al. 2016).

    HASHPRESS_DATA=DIR python -m benchmarks.papers.lebedev [STAGE ...]

Stages: ``kernel`` (memory and time on 512x512x3x3, a process per cell), ``norms`` (error-preserving correction and the
three fits on the trained kernels of a ResNet-20), ``lenet5``, ``smallconv``, ``resnet20`` (MACs against mAP of cp, tucker
and lowrank, before and after fine-tuning; these train and take hours; ResNet-20 is the network of ``benchmarks.spine``). Every cell
is kept, so a run goes on where it stopped; the curves are drawn in ``results/lebedev.svg``.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from hashpress.compress.factorize.cp import Cp
from hashpress.compress.factorize.lowrank import LowRank
from hashpress.compress.factorize.tensors import cpd, epc, kruskal
from hashpress.compress.factorize.tensors.algebra import khatri_rao
from hashpress.compress.finetune.finetune import Finetune
from hashpress.compress.fold import Fold
from hashpress.compress.observe.macs import count
from hashpress.core.data import Split
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.importers.recognise import import_checkpoint
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train
from hashpress.modelfile.layers.factored import group_kernels
from matplotlib.figure import Figure

from ..lib.cells import RECALLED, SEED, Book, Output, Row, Target, mnist, run
from ..lib.hashing import hasher, judged
from ..lib.spine_models import LEARN, cifar10, ends_of, resnet20

BOOK = Book("lebedev")
RANK = 384  # 395,000 of 2,359,296 parameters: six times fewer
PAPER = {
    "character net, layers 2 and 3 at rank 64": {"speedup": 8.5, "accuracy": [91, 90], "source": "abstract"},
    "AlexNet conv2": {"speedup": 4, "top5_points": 1, "source": "abstract"},
    "stable CP, ResNet-18": {"macs": 3.09, "top1_points": 0.69, "source": RECALLED},
    "Tucker-2, VGG-16": {"macs": 4.93, "top5_points": 0.5, "source": RECALLED},
}
NETS = {
    "lenet5": Schedule(epochs=10, lr=0.02, precision="bfloat16"),
    "smallconv": Schedule(epochs=12, lr=0.02, augment="flip-crop", precision="bfloat16"),
    "resnet20": None,
}
TAUGHT = (  # beside the ResNet-56, as the network of ``zhang``
    LEARN(epochs=6, lr=0.02, augment="flip-crop", distill=5.0),
    LEARN(epochs=2, lr=0.01, augment="none", distill=1.0),
)
SHARES, SPEEDUPS = (0.7, 0.45, 0.25), (1.4, 2.2, 4.0)
METHODS: dict[str, list[Any]] = {
    "cp4": [Cp(order=4, share=share) for share in SHARES],
    "cp3": [Cp(order=3, share=share) for share in SHARES],
    "cp3-data": [Cp(order=3, share=share, data=True) for share in SHARES],
    "cp3-without-epc": [Cp(order=3, share=share, epc=False) for share in SHARES],
    "tucker": [Cp(order="tucker", share=share) for share in SHARES],
    "tucker-data": [Cp(order="tucker", share=share, data=True) for share in SHARES],
    "lowrank": [LowRank(speedup=speedup) for speedup in SPEEDUPS],
}
BEST = ("cp3-data", "tucker-data", "lowrank")  # the others are measured before training only
TUNED = {"lenet5": (*BEST, "cp4"), "smallconv": BEST, "resnet20": BEST}
RECOVER = partial(Finetune, lr=0.0003, match="codes", precision="bfloat16", reference_precision="bfloat16")
EPOCHS = {"lenet5": 2, "smallconv": 1, "resnet20": 1}


def folder() -> Path:
    """Return the folder of the real data sets."""
    found = os.environ.get("HASHPRESS_DATA")
    if not found:
        sys.exit("this script needs HASHPRESS_DATA: a folder with mnist/ and cifar10-jpeg.tar.xz")
    return Path(found)


def checkpoint20() -> HashModel:
    """Return the public ResNet-20 with norms folded and an untrained head."""
    return Fold()(import_checkpoint(folder().parent / "checkpoints" / "resnet20-12fca82f.th", bits=48, seed=SEED))


def big_kernel() -> np.ndarray:
    """Return a 512x512x3x3 kernel with the decaying spectrum of trained ones (no such network is at hand) and noise."""
    random = np.random.default_rng(SEED)
    scale = np.arange(1, 601) ** -0.5
    sides = [random.standard_normal((size, 600)) / np.sqrt(size) for size in (512, 512, 9)]
    smooth = (sides[0] * scale) @ khatri_rao(sides[1:]).T
    noise = random.standard_normal(smooth.shape)
    return (smooth + 0.3 * np.linalg.norm(smooth) / np.linalg.norm(noise) * noise).reshape(512, 512, 3, 3)


def measure(order: int, fit: str) -> dict[str, Any]:
    """Decompose the big kernel in this process and say what it took."""
    kernel = big_kernel()
    tensor = kernel if order == 4 else kernel.reshape(512, 512, 9)
    begin = time.perf_counter()
    sweeps = {"als": 60, "nls": 12, "greedy": 15}[fit]
    found = cpd.fit(tensor, RANK, fit, seed=SEED, starts=1, sweeps=sweeps)
    fitted = time.perf_counter() - begin
    small = epc.correct(tensor, found.factors, found.error * 1.01 * float(np.linalg.norm(tensor)), sweeps=15)
    return {
        "order": order,
        "fit": fit,
        "rank": RANK,
        "parameters": int(sum(factor.size for factor in found.factors)),
        "error": found.error,
        "largest_term": found.degeneracy,
        "sweeps": found.sweeps,
        "seconds_fit": round(fitted, 1),
        "seconds": round(time.perf_counter() - begin, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "corrected_error": kruskal.error(tensor, small),
        "corrected_norm_factor": _squares(found.factors) / _squares(small),
    }


def kernel() -> None:
    """Measure memory and time, every cell in a process of its own."""
    for order, fit in ((4, "als"), (3, "als"), (4, "nls"), (3, "nls"), (3, "greedy")):

        def compute(order: int = order, fit: str = fit) -> dict[str, Any]:
            line = [sys.executable, "-m", "benchmarks.papers.lebedev", "--measure", str(order), fit]
            return json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout.splitlines()[-1])

        BOOK.cell(f"kernel-{order}-{fit}", compute)


def _squares(factors: kruskal.Factors) -> float:
    return float(np.sum(kruskal.term_norms(factors) ** 2))


def norms() -> None:
    """Compare fits, and correct the best of them at exactly the same error, on every 3x3 kernel of the last stage."""
    model = checkpoint20()
    for path in (f"encoder.layer3.{block}.conv{number}" for block in range(3) for number in (1, 2)):
        weights = group_kernels(model.net.get_submodule(path))[0]  # type: ignore[arg-type]
        tensor = weights.reshape(*weights.shape[:2], -1)

        def compute(tensor: np.ndarray = tensor) -> dict[str, Any]:
            norm = float(np.linalg.norm(tensor))
            fits = {name: cpd.fit(tensor, 64, name, seed=SEED, sweeps=60) for name in cpd.METHODS}
            bad = fits["nls"]
            further = cpd.nls(tensor, bad.factors, 60)[0]
            good = epc.correct(tensor, further, bad.error * norm)
            alone = epc.correct(tensor, bad.factors, bad.error * norm)
            return {
                "errors": {name: found.error for name, found in fits.items()},
                "largest_term": {name: found.degeneracy for name, found in fits.items()},
                "corrected_error": kruskal.error(tensor, good),
                "corrected_largest_term": kruskal.degeneracy(tensor, good),
                "norm_factor": _squares(bad.factors) / _squares(good),  # of 60 further sweeps and the correction
                "norm_factor_of_the_correction_alone": _squares(bad.factors) / _squares(alone),
                "sensitivity_factor": kruskal.sensitivity(bad.factors) / kruskal.sensitivity(good),
            }

        BOOK.cell(f"norms-{path}", compute)


def data(name: str) -> Split:
    """Return the data of a network."""
    return mnist() if name == "lenet5" else cifar10()


def trained(name: str) -> HashModel:
    """Return the 48-bit network, norms folded."""
    schedule = NETS[name]
    if schedule is None:
        return Fold()(resnet20())

    def make(checkpoint: Path) -> HashModel:
        arch = default_arch(name, 48)
        start = untrained(arch, seed=SEED)
        return train(start, data(name), "dlbhc", schedule, seed=SEED, checkpoint=checkpoint)

    model = BOOK.model(name, make)
    return Fold()(ends_of(BOOK.model, f"{name}-taught", model, TAUGHT)[-1] if name == "smallconv" else model)


def curves(name: str) -> None:
    """Measure MACs against mAP for every method and level: all queries, a database of 10,000 training images."""
    model, split = trained(name), data(name)
    before, recover = count(model), RECOVER(epochs=EPOCHS[name])
    wanted = {len(split.queries): outputs(model, split.queries.pixels)}  # what the network itself gives, once

    def reference(pixels: np.ndarray) -> np.ndarray:
        return wanted[len(pixels)]

    def judge(small: HashModel) -> dict[str, Any]:
        return judged(hasher(small), reference, asked=len(split.queries), data=lambda: split)

    base = BOOK.cell(f"{name}-base", lambda: {"macs": before.macs, "map": judge(model)["map"]})

    def compute(method: str, level: int) -> dict[str, Any]:
        begin = time.process_time()
        small = METHODS[method][level](model, split, seed=SEED)
        seconds = time.process_time() - begin
        found, after = judge(small), {}
        if method in TUNED[name]:
            work = BOOK.folder / f"{name}-{method}-{level}"
            work.mkdir(exist_ok=True)
            tuned = judge(recover(small, split, seed=SEED, reference=model, work=work))
            after = {"drop_tuned": round(base["map"] - tuned["map"], 5), "flips_tuned": tuned["flips_percent"] / 100}
        return {
            "macs_fewer": before.macs / count(small).macs,
            "parameters_fewer": before.parameters / count(small).parameters,
            "processor_seconds": round(seconds, 1),
            "flips": found["flips_percent"] / 100,
            "drop": round(base["map"] - found["map"], 5),
            **after,
        }

    for method in sorted(METHODS, key=[*BEST, *METHODS].index):
        for level in range(len(SHARES)):
            BOOK.cell(f"{name}-{method}-{level}", partial(compute, method, level))


def draw(found: dict[str, Any], output: Output) -> None:
    """Draw mAP against the share of MACs that is left, a panel a network; dashed before fine-tuning."""
    there = [name for name in NETS if any(cell.startswith(f"{name}-") and cell != f"{name}-base" for cell in found)]
    if not there:
        return
    with mpl.rc_context({"svg.hashsalt": "hashpress", "font.size": 8}):
        figure = Figure(figsize=(5.0 * len(there), 4.0), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(there), squeeze=False)[0], there, strict=True):
            top = found[f"{name}-base"]["map"]
            for color, method in enumerate(METHODS):
                cells = [cell for level in range(len(SHARES)) if (cell := found.get(f"{name}-{method}-{level}"))]
                for key, style in (("drop", "--"), ("drop_tuned", "-")):
                    line = [(1 / cell["macs_fewer"], top - cell[key]) for cell in cells if key in cell]
                    if line:
                        label = f"{method}, fine-tuned" if key == "drop_tuned" else method
                        axes.plot(
                            *zip(*line, strict=True), style, color=f"C{color}", marker="o", ms=3, lw=1, label=label
                        )
            axes.axhline(top, color="black", lw=0.5)
            axes.set(title=name, xlabel="share of the MACs", ylabel="mAP")
            axes.grid(visible=True, lw=0.3)
            axes.legend(fontsize=6)
        figure.savefig(output.folder / "lebedev.svg", metadata={"Date": None})


def publish(output: Output) -> None:
    """Write the tables and the targets, as far as their cells are there."""
    found = BOOK.found()
    targets = []
    for name, cell in found.items():
        if name.startswith("kernel-"):
            targets.append(Target(f"CP {name}, 512x512x3x3: GB of memory", round(cell["peak_bytes"] / 1e9, 3), "<=", 2))
            targets.append(Target(f"CP {name}, 512x512x3x3: minutes", round(cell["seconds"] / 60, 2), "<=", 5))
    for words, key in (
        ("alone", "norm_factor_of_the_correction_alone"),
        ("after 60 further sweeps", "norm_factor"),
    ):
        factors = [cell[key] for name, cell in found.items() if name.startswith("norms-") and key in cell]
        if factors:
            line = f"EPC {words}: squared norms at equal error, least factor over six kernels"
            targets.append(Target(line, round(min(factors), 4), ">=", 2))
    rows = [
        Row(what, unit, value, None, "that network and its data are not at hand", source)
        for what, unit, value, source in (
            ("36 characters, layers 2 and 3 at rank 64", "x faster at 1 point", 8.5, "abstract"),
            ("AlexNet, conv2, 1 point of top-5", "x faster", 4.0, "abstract"),
            ("stable CP, ResNet-18, 0.69 points of top-1", "x fewer MACs", 3.09, RECALLED),
            ("Tucker-2, VGG-16, 0.5 points of top-5", "x fewer MACs", 4.93, RECALLED),
        )
    ]
    draw(found, output)
    settings = {"shares": SHARES, "speedups": SPEEDUPS, "epochs": EPOCHS}
    BOOK.publish(output, PAPER, targets, rows, settings=settings)


STAGES = {"kernel": kernel, "norms": norms, **{name: partial(curves, name) for name in NETS}}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(int(sys.argv[2]), sys.argv[3])))
    else:
        run(STAGES, publish)
