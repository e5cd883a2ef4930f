"""Sensitivity analysis: bit flips against bytes and multiply-accumulates saved, for every pass on one layer at a time.

The cost is the rate of flipped bits against the original network (no labels needed), also weighted by the margin
|output|. Allocation over layers starts from these curves; they do not include interactions between layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ...core.data.images import Split
from ...core.data.protocols import HOLD_OUT, hold_out
from ...core.errors import HashpressError, InputError, lookup
from ...core.model import HashModel, Json
from ...core.progress import track
from ...hashnets.repeatable import check_repeatable
from ...hashnets.retrieval.codes import outputs
from ...modelfile.file import coded
from ...modelfile.layers.int8 import Quantized
from ..base import Context
from ..channels.graph import channels
from ..observe.macs import count
from ..passes import PASSES
from ..select import skipped, weighted
from .probes import AMOUNTS, RISING, USUAL, WHAT, settings_for

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Point:
    """One layer under one pass: bytes and multiply-accumulates of the whole network, and the change of the codes."""

    name: str  # of the pass
    layer: str
    amount: float
    bytes: int
    macs: int
    flips: float  # share of all bits
    weighted: float  # |output| of flipped bits over |output| of all


@dataclass(frozen=True)
class Sensitivity:
    """All points, the figures of the original network, and the reasons for missing points."""

    bytes: int
    macs: int
    images: int
    points: tuple[Point, ...]
    skipped: Mapping[str, str]  # "pass layer" -> reason, with the amounts where others have points

    def to_json(self) -> dict[str, Json]:
        """Return plain JSON values."""
        return {
            "bytes": self.bytes,
            "macs": self.macs,
            "images": self.images,
            "points": [asdict(point) for point in self.points],
            "skipped": dict(self.skipped),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Sensitivity:
        """Return the result of :meth:`to_json` as an object."""
        points = tuple(Point(**point) for point in value["points"])
        return cls(value["bytes"], value["macs"], value["images"], points, value["skipped"])

    def curves(self) -> dict[str, dict[str, list[Point]]]:
        """Return the points by pass and layer."""
        points: dict[str, dict[str, list[Point]]] = {}
        for point in self.points:
            points.setdefault(point.name, {}).setdefault(point.layer, []).append(point)
        return points

    def rows(self, name: str) -> tuple[list[str], list[list[str]]]:
        """Return a table of one pass: its columns, and flips (%) and bytes saved (%) of each layer at each amount."""
        layers = self.curves()[name]
        amounts = sorted({point.amount for points in layers.values() for point in points}, reverse=name not in RISING)
        table = []
        for layer, points in layers.items():
            by = {point.amount: point for point in points}
            cells = [self._cell(by[amount]) if amount in by else "" for amount in amounts]
            table.append([layer, *cells])
        return ["layer", *(f"{WHAT[name]} {amount:g}" for amount in amounts)], table

    def _cell(self, point: Point) -> str:
        saved = 100 * (1 - point.bytes / self.bytes)
        text = f"{100 * point.flips:.2f} / {saved:.1f}"
        return text + (f" / {100 * (1 - point.macs / self.macs):.1f}" if point.macs < self.macs else "")

    def __str__(self) -> str:
        lines = [
            f"{self.bytes:,} bytes, {self.macs:,} MACs, {self.images} images; cells: bits flipped % / bytes saved %"
        ]
        for name in self.curves():
            columns, table = self.rows(name)
            sizes = [max(len(row[place]) for row in (columns, *table)) for place in range(len(columns))]
            lines += ["", name]
            lines += [
                "  ".join(cell.rjust(size) for cell, size in zip(r, sizes, strict=True)) for r in (columns, *table)
            ]
        lines += [f"skipped: {what}: {reason}" for what, reason in self.skipped.items()]
        return "\n".join(lines)


def sensitivity(
    model: HashModel,
    split: Split,
    *,
    passes: Sequence[str] = USUAL,
    layers: Sequence[str] = (),
    images: int = 500,
    seed: int = 0,
) -> Sensitivity:
    """Return the curves of ``passes`` for ``layers`` (by default all plain layers), measured on held-out training images.

    These are ``images`` of the validation part of ``split``; without one, ``images`` of the training images (at most one in
    five) are held out from the passes. Curves are for choosing settings, and settings are not chosen on queries.

    Raises:
        InputError: There is no pass, an unknown pass or layer, or a network that answers differently each time.
    """
    known, others = weighted(model.net), skipped(model.net)
    _check(passes, layers, {**known, **others})
    check_repeatable(model, split)
    couplings = channels(model)
    if split.held_out is None and len(split.train) > 1:
        split, _ = hold_out(split, min(images, max(1, len(split.train) // HOLD_OUT)), seed)
    pixels = split.for_settings.queries.values
    pixels = pixels[np.sort(np.random.default_rng(seed).permutation(len(pixels))[:images])]
    before, sizes = outputs(model, pixels), tensor_bytes(model.net)
    macs = count(model).macs
    points: list[Point] = []
    reasons: dict[tuple[str, str], dict[float, str]] = {}
    chosen = [(name, layer) for name in passes for layer in layers or (*known, *others)]
    jobs = [(name, layer, amount) for name, layer in chosen if layer in known for amount in AMOUNTS[name]]
    for name, layer, amount in track(jobs, "probing"):
        try:
            changed = _changed(model, split, name, layer, settings_for(name, layer, amount, couplings), seed)
            after = outputs(changed, pixels)
            flipped = (after >= 0) != (before >= 0)
            margins = np.abs(before).astype(np.float64)
            size, price = sum(tensor_bytes(changed.net, model.net, sizes).values()), count(changed).macs
        except Exception as fault:  # one probe that fails in whatever way must not cost the others
            own = isinstance(fault, HashpressError)
            text = str(fault) if own else f"{type(fault).__name__}: {fault}".splitlines()[0][:200]
            reasons.setdefault((name, layer), {})[amount] = text
        else:
            weight = float((margins * flipped).sum() / max(margins.sum(), 1e-30))
            points.append(Point(name, layer, amount, size, price, float(flipped.mean()), weight))
    unprobed = {
        f"{name} {layer}": others[layer] if layer in others else _reason(name, reasons[name, layer])
        for name, layer in chosen
        if layer in others or (name, layer) in reasons
    }
    return Sensitivity(sum(sizes.values()), macs, len(pixels), tuple(points), unprobed)


def _check(passes: Sequence[str], layers: Sequence[str], known: Mapping[str, Any]) -> None:
    """Raise InputError with all problems of the names."""
    problems = [] if passes else [f"no pass to probe was named (there are: {', '.join(AMOUNTS)})"]
    for names, table, kind in ((passes, AMOUNTS, "pass to probe"), (layers, known, "layer")):
        for name in names:
            try:
                lookup(table, name, kind)
            except InputError as fault:
                problems.append(str(fault))
    if problems:
        raise InputError("; ".join(problems))


def _changed(
    model: HashModel, split: Split, name: str, layer: str, settings: Mapping[str, Any], seed: int
) -> HashModel:
    """Return the model after a pass.

    Raises:
        InputError: The pass changed nothing, or used another setting than requested.
    """
    changed, decision = PASSES[name](**settings).run(model, Context(split, seed))
    edits = changed.edits[len(model.edits) :]
    if not edits:
        reasons = decision.data["skipped"]
        raise InputError(reasons.get(layer) or reasons.get("*") or "nothing would change")
    for edit in edits:
        if isinstance(edit, Quantized) and edit.bits != settings["bits"][edit.layer]:
            raise InputError(f"the pass keeps it at {edit.bits} bits")
    return changed


def _reason(name: str, reasons: Mapping[float, str]) -> str:
    """Return the reasons of a layer, with amounts unless one reason holds for all."""
    amounts: dict[str, list[str]] = {}
    for amount, reason in reasons.items():
        amounts.setdefault(reason, []).append(f"{amount:g}")
    if len(amounts) == 1 and len(reasons) == len(AMOUNTS[name]):
        return next(iter(amounts))
    return "; ".join(f"{WHAT[name]} {', '.join(where)}: {reason}" for reason, where in amounts.items())


@torch.no_grad()
def tensor_bytes(net: torch.nn.Module, known: torch.nn.Module | None = None, sizes: Settings = {}) -> dict[str, int]:  # noqa: B006  # never changed
    """Return the encoded bytes of each tensor of the state; unchanged tensors (equal to ``known``) are taken from ``sizes``."""
    old = {} if known is None else known.state_dict()
    reasons = {}
    for name, tensor in net.state_dict().items():
        if name in sizes and tensor.shape == old[name].shape and torch.equal(tensor, old[name]):
            reasons[name] = sizes[name]
            continue
        array = tensor.detach().cpu().contiguous().numpy()
        stream = coded(array)
        reasons[name] = array.nbytes if stream is None else len(stream.payload)
    return reasons
