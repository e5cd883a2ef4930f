"""Product quantization beside scalar sharing on a 48-bit ResNet-20 (Wu et al. 2016; PQF, Martinez et al. 2021): bytes and mAP.

    HASHPRESS_DATA=DIR python -m benchmarks.papers.pqf [STAGE ...]

Stages ``share`` (codebooks of 3 to 5 bits; then a rising price on bits) and ``pq`` (sub-vectors of 2 and 4 channels with
error correction, and with a better order of the channels first); nothing is trained. The network is the one of
``benchmarks.spine``, sizes are those of whole files, first layer and head are treated like the others. The curves are drawn in
``results/pqf.svg``.
"""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
from hashpress.compress.passes import ProductQuantize, Share
from hashpress.core.model import HashModel
from hashpress.modelfile.file import file_size
from hashpress.modelfile.layers.densify import densified
from matplotlib.figure import Figure

from ..lib.cells import SEED, Book, Output, Row, run
from ..lib.hashing import cifar10, hasher, judged, resnet20

BOOK = Book("pqf")
SHARED: dict[str, Any] = {
    **{f"share-{bits}bit": Share(bits=bits) for bits in (3, 4, 5)},
    **{f"share-scaled-{bits}bit": Share(bits=bits, scaled=True) for bits in (3, 4, 5)},
    **{
        f"share-price-{lam:g}": Share(bits=5, scaled=True, lam=lam, importance="outputs")
        for lam in (0.2, 0.1, 0.05, 0.02)
    },
}
SIZES = ((4, 16), (2, 16), (4, 64), (2, 64), (4, 256))  # channels a sub-vector, codewords
QUANTIZED: dict[str, Any] = {
    f"pq-{kind}{width}x{entries}": ProductQuantize(width=width, entries=entries, permute=permute)
    for kind, permute in (("", False), ("permuted-", True))
    for width, entries in SIZES
}
SOURCE = "README of uber-research/permute-quantize-finetune"
PAPER = {
    "PQF, ResNet-18, ImageNet": {"times_smaller": [29, 43], "top1": [66.74, 63.33], "of": 69.76, "source": SOURCE},
    "PQF, ResNet-50, ImageNet": {"times_smaller": [19, 31], "top1": [75.04, 72.18], "of": 76.15, "source": SOURCE},
}


def measured(kinds: dict[str, Any]) -> None:
    """Compress in every way."""
    model = resnet20()
    reference = hasher(model)
    BOOK.cell("original", lambda: {"bytes": file_size(model), **judged(reference, reference)})
    for name, work in kinds.items():

        def compute(work: Any = work) -> dict[str, Any]:
            small: HashModel = work(model, cifar10(), seed=SEED)
            return {"bytes": file_size(small), **judged(hasher(densified(small)), reference)}

        BOOK.cell(name, compute)


def family(name: str) -> str:
    """Return the name of a cell without its size."""
    return name.rstrip("0123456789.bitx").rstrip("-")


def draw(found: dict[str, Any], output: Output) -> None:
    """Draw mAP against kilobytes, a line a family."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for name, cell in found.items():
        if name != "original":
            lines.setdefault(family(name), []).append((cell["bytes"] / 1000, cell["map"]))
    with mpl.rc_context({"svg.hashsalt": "hashpress", "font.size": 8}):
        figure = Figure(figsize=(6.0, 4.0), layout="constrained")
        axes = figure.subplots()
        for name, points in lines.items():
            axes.plot(*zip(*sorted(points), strict=True), marker="o", ms=3, lw=1, label=name)
        axes.axhline(found["original"]["map"], color="black", lw=0.5)
        axes.set(xlabel="kilobytes of the file", ylabel="mAP", ylim=(0.5, None))
        axes.grid(visible=True, lw=0.3)
        axes.legend()
        figure.savefig(output.folder / "pqf.svg", metadata={"Date": None})


def publish(output: Output) -> None:
    """Write the table and the picture."""
    found = BOOK.found()
    if "original" in found:
        draw(found, output)
    why = "neither that network nor ImageNet is at hand"
    rows = [
        Row("PQF, ResNet-18, ImageNet, 29 times smaller", "% top-1", 66.74, None, why, SOURCE),
        Row("PQF, ResNet-50, ImageNet, 19 times smaller", "% top-1", 75.04, None, why, SOURCE),
    ]
    settings = {"share": list(SHARED), "pq": list(QUANTIZED)}
    BOOK.publish(output, PAPER, [], rows, settings=settings)


STAGES = {"share": lambda: measured(SHARED), "pq": lambda: measured(QUANTIZED)}

if __name__ == "__main__":
    run(STAGES, publish)
