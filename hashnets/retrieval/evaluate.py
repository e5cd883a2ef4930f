"""How well the codes of a network retrieve: one call, one value that says under which protocol it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from ...core.data.items import Items
from ...core.data.split import Split
from ...core.device import open_device
from ...core.errors import InputError
from ...core.model import HashModel, Json
from .bit_flips import Flips, bit_flips
from .codes import outputs, pack
from .metrics import (
    Counts,
    average_precision,
    average_precision_bounds,
    count,
    curve,
    precision_at,
    precision_within,
)
from .published_map import published

RADIUS = 2


@dataclass(frozen=True)
class AtK:
    """Figures of the first ``k`` results, expected over ties; ``published_*`` divide by the relevant items found."""

    k: int
    map: float  # over min(R, k)
    precision: float
    published_map: float
    published_lowest: float
    published_highest: float
    published_shuffled: float


@dataclass(frozen=True)
class Quality:
    """Retrieval figures of one network (or of queries from one and a database from another) under one protocol."""

    data: str
    protocol: str
    digest: str  # of the split
    queries: int
    database: int
    bits: int
    asymmetric: bool
    map: float  # expected over ties, full list
    map_lowest: float
    map_highest: float
    precision_radius_2: float  # an empty ball counts as 0
    empty_radius_2: float  # share of queries with an empty ball
    unanswerable: int  # queries without any relevant item; they count as 0 everywhere
    at: tuple[AtK, ...]
    curve_precision: tuple[float, ...]  # within radius 0..bits
    curve_recall: tuple[float, ...]

    def to_json(self) -> dict[str, Json]:
        """Return plain JSON values."""
        value = asdict(self)
        return {name: list(part) if isinstance(part, tuple) else part for name, part in value.items()}

    @classmethod
    def from_json(cls, value: dict[str, Json]) -> Quality:
        """Return the figures that :meth:`to_json` wrote."""
        tuples = {name: tuple(value[name]) for name in ("curve_precision", "curve_recall")}
        return cls(**{**value, **tuples, "at": tuple(AtK(**entry) for entry in value["at"])})

    def __str__(self) -> str:
        kind = "asymmetric" if self.asymmetric else "symmetric"
        lines = [
            f"{self.data}, protocol {self.protocol}: {self.queries:,} queries, {self.database:,} database, "
            f"{self.bits} bits, {kind}",
            f"  mAP                {self.map:.4f}  (orders of ties: {self.map_lowest:.4f} to {self.map_highest:.4f})",
        ]
        for at in (at for at in self.at if at.k <= self.database):
            lines += [
                f"  mAP@{at.k:<14} {at.map:.4f}  (published convention {at.published_map:.4f}, "
                f"{at.published_lowest:.4f} to {at.published_highest:.4f})",
                f"  P@{at.k:<16} {at.precision:.4f}",
            ]
        lines.append(f"  P@radius 2         {self.precision_radius_2:.4f}  ({self.empty_radius_2:.1%} of balls empty)")
        if self.unanswerable:
            lines.append(f"  {self.unanswerable:,} queries have no relevant item and count as 0")
        return "\n".join(lines)


def evaluate(
    model: HashModel,
    split: Split,
    *,
    against: HashModel | None = None,
    at: Sequence[int] = (100, 1000),
    seed: int = 0,
    device: str = "cpu",
) -> Quality:
    """Return the quality of ``model`` on ``split``; the database is hashed by ``against`` when that is given.

    Raises:
        InputError: codes of different length, items that a network does not take, or no such device.
    """
    place = open_device(device)
    model, against = model.on(place), against and against.on(place)
    if against is not None and against.arch.bits != model.arch.bits:
        raise InputError(f"the database would have {against.arch.bits} bits and the queries {model.arch.bits}")
    queries_nb = pack(outputs(model, split.queries.values))
    database_nb = pack(outputs(against or model, split.database.values))
    return quality(queries_nb, database_nb, model.arch.bits, split, at=at, seed=seed, asymmetric=against is not None)


def quality(
    queries_nb: np.ndarray,
    database_nb: np.ndarray,
    bits: int,
    split: Split,
    *,
    at: Sequence[int] = (100, 1000),
    seed: int = 0,
    asymmetric: bool = False,
) -> Quality:
    """Return the quality of packed codes, wherever they come from: a network, a bundle, a device.

    Raises:
        InputError: as many codes as there are no items for, or a ``k`` below 1.
    """
    width = (bits + 7) // 8
    for what, codes_nb, items in (("query", queries_nb, split.queries), ("database", database_nb, split.database)):
        if codes_nb.shape != (len(items), width) or not len(items):
            raise InputError(
                f"{len(items):,} {what} codes of {bits} bits are ({len(items)}, {width}), found {codes_nb.shape}"
            )
    if any(k < 1 for k in at):
        raise InputError(f"results are counted from 1, got k in {tuple(at)}")
    counts = count(queries_nb, database_nb, bits, split.relevance())
    lowest, highest = average_precision_bounds(counts)
    precision, recall = curve(counts)
    return Quality(
        data=split.name,
        protocol=split.protocol,
        digest=split.digest,
        queries=len(queries_nb),
        database=len(database_nb),
        bits=bits,
        asymmetric=asymmetric,
        map=float(average_precision(counts).mean()),
        map_lowest=float(lowest.mean()),
        map_highest=float(highest.mean()),
        precision_radius_2=float(precision_within(counts, RADIUS).mean()),
        empty_radius_2=float((counts.items[:, : RADIUS + 1].sum(1) == 0).mean()),
        unanswerable=int((counts.possible == 0).sum()),
        at=tuple(_at(counts, k, seed) for k in at),
        curve_precision=tuple(map(float, precision)),
        curve_recall=tuple(map(float, recall)),
    )


def _at(counts: Counts, k: int, seed: int) -> AtK:
    others = published(counts, k, seed)
    return AtK(
        k=k,
        map=float(average_precision(counts, k).mean()),
        precision=float(precision_at(counts, k).mean()),
        published_map=float(others.expected.mean()),
        published_lowest=float(others.lowest.mean()),
        published_highest=float(others.highest.mean()),
        published_shuffled=float(others.shuffled.mean()),
    )


__all__ = ["AtK", "Flips", "Quality", "bit_flips", "evaluate", "quality"]


def error_rate(model: HashModel, items: Items) -> float:
    """Return the share of ``items``, of one class each, whose largest output is not their class."""
    return float(np.mean(outputs(model, items.values).argmax(axis=1) != items.labels))
