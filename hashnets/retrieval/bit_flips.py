"""Which bits of the codes another network, or another arithmetic, turns over, and how near zero they were.

Needs no labels: the reference outputs of the uncompressed network are the truth, |output| is the margin of a bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...core.errors import InputError
from ...core.model import Json

EDGES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, float("inf"))


@dataclass(frozen=True)
class Margin:
    """Outputs of the reference with ``low <= |output| < high``, and how many of them flipped."""

    low: float
    high: float
    outputs: int
    flipped: int


@dataclass(frozen=True)
class Flips:
    """Flipped bits of ``items`` codes against a reference."""

    items: int
    bits: int
    flipped: int
    items_changed: int  # codes with at least one flipped bit
    weighted_rate: float  # flipped margins over all margins: a flip far from zero counts more
    per_bit: tuple[float, ...]  # share of the items whose bit k flipped
    margins: tuple[Margin, ...]
    flipped_margins: np.ndarray = field(repr=False, compare=False)  # ascending |reference output| of the flipped bits

    @property
    def rate(self) -> float:
        """Flipped bits over all bits."""
        return self.flipped / max(1, self.items * self.bits)

    @property
    def largest_margin(self) -> float:
        """The largest |reference output| among the flipped bits, 0 without flips."""
        return float(self.flipped_margins[-1]) if self.flipped else 0.0

    def below(self, margin: float) -> int:
        """Return how many of the flipped bits had a reference output nearer to zero than ``margin``."""
        return int(np.searchsorted(self.flipped_margins, margin))

    def to_json(self) -> dict[str, Json]:
        """Return plain JSON values; the open end of the last margin is null."""
        return {
            "items": self.items,
            "bits": self.bits,
            "flipped": self.flipped,
            "rate": self.rate,
            "items_changed": self.items_changed,
            "weighted_rate": self.weighted_rate,
            "largest_margin": self.largest_margin,
            "per_bit": list(self.per_bit),
            "margins": [
                {
                    "low": m.low,
                    "high": m.high if np.isfinite(m.high) else None,
                    "outputs": m.outputs,
                    "flipped": m.flipped,
                }
                for m in self.margins
            ],
        }

    def __str__(self) -> str:
        worst = max(range(self.bits), key=self.per_bit.__getitem__)
        changed = self.items_changed / max(1, self.items)
        lines = [
            f"{self.rate:.3%} of the bits flipped ({self.flipped:,} of {self.items * self.bits:,}), "
            f"in {changed:.2%} of {self.items:,} codes",
            f"worst bit {worst}: {self.per_bit[worst]:.3%}; largest margin of a flipped bit {self.largest_margin:.3g}",
        ]
        lines += [
            f"  |output| {m.low:>7g} to {m.high:<7g} {m.outputs:>12,} bits, {m.flipped / m.outputs:8.3%} flipped"
            for m in self.margins
            if m.outputs
        ]
        return "\n".join(lines)


def bit_flips(outputs: np.ndarray, reference: np.ndarray) -> Flips:
    """Compare the codes of two (N, bits) arrays of outputs for the same inputs in the same order.

    Raises:
        InputError: arrays of different or other shapes.
    """
    if outputs.shape != reference.shape or outputs.ndim != 2 or not outputs.size:
        raise InputError(
            f"outputs to compare are (N, bits) of the same inputs, found {outputs.shape}, {reference.shape}"
        )
    flipped = (outputs >= 0) != (reference >= 0)
    margin = np.abs(reference)
    edges = np.array(EDGES, dtype=np.float64)
    every, _ = np.histogram(margin, edges)
    those, _ = np.histogram(margin[flipped], edges)
    return Flips(
        items=len(outputs),
        bits=outputs.shape[1],
        flipped=int(flipped.sum()),
        items_changed=int(flipped.any(1).sum()),
        weighted_rate=float(margin[flipped].sum(dtype=np.float64) / (margin.sum(dtype=np.float64) or 1.0)),
        per_bit=tuple(float(share) for share in flipped.mean(0)),
        margins=tuple(
            Margin(low, high, int(n), int(f)) for low, high, n, f in zip(EDGES, EDGES[1:], every, those, strict=False)
        ),
        flipped_margins=np.sort(margin[flipped]),
    )
