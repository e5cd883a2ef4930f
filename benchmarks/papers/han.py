"""Deep Compression (Han, Mao & Dally 2016, arXiv:1510.00149): its own format beside our file, layer by layer; bits and error.

    HASHPRESS_DATA=DIR python -m benchmarks.papers.han [STAGE ...]

Stages ``format`` (the paper's format, encoded and decoded again, on the very same pruned and shared weights as our file:
tables 4 and 5) and ``curve`` (error at 8 bits for convolutions and dense layers down to 4 and 2, k-means alone and with
the centroids fine-tuned: table 6, on the LeNets). The networks are those of ``benchmarks.spine`` in ``runs/spine``, or
in the folder that the variable SPINE names; what is missing there is trained. The pruned networks of the curve are made with the
recipe's own ``prune`` and kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hashpress.compress.passes import Finetune, Share
from hashpress.compress.recipe.load import load_recipe
from hashpress.core.model import HashModel
from hashpress.modelfile.file import load
from hashpress.modelfile.reader import read_dense, sections

from ..lib import hanformat
from ..lib.cells import SEED, Book, Output, Target, mnist, run, test_error
from ..lib.spine_models import WORK

BOOK = Book("han")
RECIPES = {"lenet300": "lenet-300", "lenet5": "lenet-5"}
GAPS = {"paper": {"conv": 8, "dense": 5}, "dense": {"conv": 4, "dense": 4}}  # bits: of its text, of its AlexNet table
BEST = range(3, 9)
HALF = "huffman_best_gaps, codebooks and biases in half precision"
CURVE = ((8, 8), (8, 5), (8, 4), (6, 4), (5, 3), (4, 2))  # bits of convolutions and of dense layers
TUNING = {"lenet300": {"epochs": 3, "lr": 0.001}, "lenet5": {"epochs": 1, "lr": 0.0005, "augment": "shift"}}
PAPER = {
    "note": "tables 1, 4, 5 and 6 from a full-text transcription of the paper; kept and bits in percent and bits",
    "lenet300": {
        "kept": {"ip1": 8, "ip2": 9, "ip3": 26},
        "weight_bits": 6,
        "gap_bits": 5,
        "fixed_percent": 3.1,
        "huffman_percent": 2.49,
        "rate": 40,
        "error": [1.64, 1.58],
    },
    "lenet5": {
        "kept": {"conv1": 66, "conv2": 12, "ip1": 8, "ip2": 19},
        "weight_bits": [8, 5],
        "gap_bits": 5,
        "fixed_percent": 3.05,
        "huffman_percent": 2.55,
        "rate": 39,
        "error": [0.80, 0.74],
    },
    "alexnet_table_6": {"8/5": 0.0, "8/4": 0.01, "4/2": 1.99},  # points of top-1 error; ours are on MNIST
}


def made(name: str) -> None:
    """Train and compress what is not there, as the spine does."""
    missing = [end for end in ("", "-small") if not (WORK / f"{name}-10{end}.safetensors").exists()]
    if missing:
        from .. import spine  # noqa: PLC0415  it loads the compiler

        WORK.mkdir(parents=True, exist_ok=True)
        spine.lenet(name)


def compressed_layers(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return indices, codebook (zero first) and bias of each layer of a model file, its dense weights taken apart."""
    dense = read_dense(path)
    layers = {}
    for name in [name for name, array in dense.items() if name.endswith(".weight") and array.ndim > 1]:
        values = np.unique(np.append(dense[name], 0.0))
        codebook = np.concatenate([[0.0], values[values != 0]]).astype(np.float32)
        order = np.argsort(codebook)
        indices = order[np.searchsorted(codebook, dense[name], sorter=order)]
        layers[name.removesuffix(".weight")] = indices, codebook, dense[name.removesuffix("weight") + "bias"]
    return layers


def size(layer: tuple[np.ndarray, np.ndarray, np.ndarray], gap_bits: int, *, huffman: bool) -> dict[str, Any]:
    """Return the bytes of a layer in the paper's format after it has been decoded to the same values."""
    indices, codebook, bias = layer
    coded = hanformat.encode(indices, codebook, bias, gap_bits, huffman=huffman)
    weight, same = hanformat.decode(coded.content, indices.shape, len(bias))
    if not (np.array_equal(weight, codebook[indices]) and np.array_equal(same, bias)):
        raise SystemExit("the paper's format did not decode to the same weights")
    return {
        "bytes": len(coded.content),
        "fillers": coded.fillers,
        "gap": gap_bits,
        "weight_bits": round(coded.weight_bits / max(coded.entries, 1), 3),
        "gap_bits": round(coded.gap_bits / max(coded.entries, 1), 3),
        "table_bytes": coded.table_bits // 8,
    }


def table(name: str) -> dict[str, Any]:
    """Return the rows of the paper's table, with ours beside them."""
    made(name)
    path = WORK / f"{name}-10-small.safetensors"
    parts = sections(path)
    rows, paper = {}, PAPER[name]
    for layer, data in compressed_layers(path).items():
        indices, codebook, bias = data
        kind = "conv" if indices.ndim == 4 else "dense"
        named = [size(data, bits[kind], huffman=huffman) for bits in GAPS.values() for huffman in (False, True)]
        best = min((size(data, bits, huffman=True) for bits in BEST), key=lambda found: found["bytes"])
        whole = 4 * (indices.size + bias.size)
        ours = sum(part.bytes for part in parts if part.name.startswith(f"{layer}."))
        rows[layer] = {
            "weights": indices.size,
            "kept_percent": round(100 * float((indices != 0).mean()), 2),
            "codebook": len(codebook),
            "fp32_bytes": whole,
            "fixed": named[0],
            "huffman": named[1],
            "fixed_gaps_of_4": named[2],
            "huffman_gaps_of_4": named[3],
            "huffman_best_gaps": best,
            "ours_bytes": ours,
            "percent": {
                key: round(100 * count / whole, 3)
                for key, count in (
                    ("fixed", named[0]["bytes"]),
                    ("huffman", named[1]["bytes"]),
                    ("best", best["bytes"]),
                    ("ours", ours),
                )
            },
        }
    return {"layers": rows, "total": total(rows, path.stat().st_size), "paper": paper}


def total(rows: Mapping[str, Any], file_bytes: int) -> dict[str, Any]:
    """Return the sums; ours of layers alone, and of the whole file with everything that loading takes."""
    keys = ("fixed", "huffman", "fixed_gaps_of_4", "huffman_gaps_of_4", "huffman_best_gaps")
    whole = sum(row["fp32_bytes"] for row in rows.values())
    sums = {key: sum(row[key]["bytes"] for row in rows.values()) for key in keys}
    sums |= {"ours_layers": sum(row["ours_bytes"] for row in rows.values()), "ours_file": file_bytes}
    return {"fp32_bytes": whole, "bytes": sums, "rate": {key: round(whole / value, 2) for key, value in sums.items()}}


def formats() -> None:
    """Measure both networks and print the tables."""
    for name in RECIPES:
        show(name, BOOK.cell(f"format-{name}", lambda name=name: table(name)))


def show(name: str, value: Mapping[str, Any]) -> None:
    """Print a table like the paper's."""
    head = (
        "weights",
        "kept %",
        "w bits P+Q",
        "w bits P+Q+H",
        "gap P+Q",
        "gap P+Q+H",
        "P+Q %",
        "P+Q+H %",
        "best %",
        "ours %",
    )
    print(f"\n{name}\n{'layer':16}" + "".join(f"{title:>13}" for title in head))
    for layer, row in value["layers"].items():
        cells = [
            row["weights"], row["kept_percent"], row["fixed"]["weight_bits"], row["huffman"]["weight_bits"],
            row["fixed"]["gap_bits"], row["huffman"]["gap_bits"], *row["percent"].values(),
        ]  # fmt: skip
        print(f"{layer:16}" + "".join(f"{cell:>13}" for cell in cells))
    print("bytes", value["total"]["bytes"], "\nrate ", value["total"]["rate"])
    paper = value["paper"]
    print(
        f"paper: {paper['fixed_percent']} % (P+Q), {paper['huffman_percent']} % (P+Q+H), {paper['rate']}x; "
        f"error {paper['error'][0]} to {paper['error'][1]} %"
    )


@cache
def pruned(name: str) -> HashModel:
    """Return the network after the recipe's prune pass, retrained."""
    made(name)
    item = next(item for kind, item in load_recipe(RECIPES[name]).passes() if kind == "prune")

    def cut(work: Path) -> HashModel:
        work.mkdir(parents=True, exist_ok=True)
        return item(load(WORK / f"{name}-10.safetensors"), mnist(), seed=SEED, work=work)

    return BOOK.model(f"{name}-pruned", cut)


def point(name: str, conv: int, dense: int, *, tuned: bool) -> dict[str, Any]:
    """Return the error at these bits; 2^bits values besides zero."""
    model = Share(bits={"conv": conv, "dense": dense}, codebook="float32")(pruned(name), seed=SEED)
    if tuned:
        tuning = Finetune(system="onehot", match="classes", **TUNING[name])
        model = tuning(model, mnist(), seed=SEED, reference=load(WORK / f"{name}-10.safetensors"))
    return {"error": test_error(model)}


def curve() -> None:
    """Measure error against bits, all points of k-means alone first."""
    for name in RECIPES:
        BOOK.cell(f"curve-{name}-dense", lambda name=name: {"error": test_error(load(WORK / f"{name}-10.safetensors"))})
        BOOK.cell(f"curve-{name}-pruned", lambda name=name: {"error": test_error(pruned(name))})
        for tuned in (False, True):
            for conv, dense in CURVE:
                if name == "lenet300" and (conv, dense) not in {(8, 8), (8, 5), (8, 4), (5, 3), (4, 2)}:
                    continue  # it has no convolutions: the same again
                label = f"curve-{name}-{conv}-{dense}-{'tuned' if tuned else 'kmeans'}"
                BOOK.cell(label, lambda a=(name, conv, dense), tuned=tuned: point(*a, tuned=tuned))


def half_precision(cell: Mapping[str, Any]) -> int:
    """Return the bytes of the paper's format with its best gaps, two instead of four for each codeword and bias, as ours has."""
    layers = cell["layers"].values()
    numbers = sum(layer["codebook"] + layer["fp32_bytes"] // 4 - layer["weights"] for layer in layers)
    return int(cell["total"]["bytes"]["huffman_best_gaps"]) - 2 * numbers


def finish(output: Output) -> None:
    """Write the table."""
    cells = BOOK.found()
    targets = []
    for name in RECIPES:
        if f"format-{name}" not in cells:
            continue
        sums = cells[f"format-{name}"]["total"]["bytes"]
        sums |= {HALF: half_precision(cells[f"format-{name}"])}
        for key in ("huffman", "huffman_best_gaps", HALF):
            ratio = round(sums["ours_file"] / sums[key], 4)
            targets.append(Target(f"{name}: bytes of our whole file over the paper's format ({key})", ratio, "<=", 1.0))
        full, few = (cells.get(f"curve-{name}-{bits}-tuned") for bits in ("8-8", "8-4"))
        if full and few:
            points = round(few["error"] - full["error"], 3)
            targets.append(Target(f"{name}: error at 8/4 bits above that at 8/8, tuned, points", points, "<=", 0.1))
    if targets:
        BOOK.publish(output, PAPER, targets, settings={"recipes": RECIPES, "tuning": TUNING})


if __name__ == "__main__":
    run({"format": formats, "curve": curve}, finish)
