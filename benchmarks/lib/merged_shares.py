"""How many parameters can go at the loss that Srinivas & Babu report: each network's best cell, in every way to merge."""

from __future__ import annotations

from typing import Any

from .results_io import Target

Cells = dict[str, dict[str, Any]]

PREFIX = {"lenet5": "", "caffe": "caffe-", "decayed": "decayed-"}
TRAINED = {
    "lenet5": "LeNet-5",
    "caffe": "LeNet-5 trained as in Caffe",
    "decayed": "LeNet-5 trained with ten times the weight decay",
}
WEIGHTS = ("paper", "joint")  # ways without data
FREE = (*WEIGHTS, "outputs-noise")
REFITTED = ("paper-refit", "joint-refit", "outputs-refit", "outputs-refit-10000", "both-outputs-refit")
WAYS = {  # what a line of the targets calls them
    "no data, the paper's saliency": ("paper",),
    "no data, biases compared by difference": ("joint",),
    "no data, chosen and fitted on noise": ("outputs-noise",),
    "fitted on training images": REFITTED[:-1],
    "channels of conv2 too, fitted on training images": ("both-outputs-refit", "both-weights-refit"),
}
POINTS = 0.71  # the paper's loss, percentage points
REMOVED = 83.0  # percent of all parameters


def at_the_papers_loss(cells: Cells) -> list[Target]:
    """Return how much every way to merge takes out of every network."""
    return [
        Target(
            f"parameters removed at the paper's loss, percent ({TRAINED[base]}, {what})",
            most(cells, base, *ways), ">=", REMOVED,
        )
        for base in PREFIX
        for what, ways in WAYS.items()
        if within(cells, base, *ways)
    ]  # fmt: skip


def within(cells: Cells, base: str, *names: str) -> list[tuple[float, str]]:
    """Return the shares of parameters removed, percent, and how, of cells within the paper's loss; 0 of all others."""
    prefix, found = PREFIX[base], []
    for name, cell in cells.items():
        way = name.removeprefix(prefix).split("-", 1)[-1]
        if name.startswith(prefix) and way in names:
            lost = round(cell["error"] - cells[f"{prefix}original"]["error"], 3)
            found.append((cell["removed_percent"] if lost <= POINTS else 0.0, way))
    return found


def most(cells: Cells, base: str, *names: str) -> float:
    """Return the largest share of parameters removed within the paper's loss, percent."""
    return max((percent for percent, _ in within(cells, base, *names)), default=0.0)
