"""The result of computing the golden codes of a bundle."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verification:
    """How the golden codes came out; ``worst`` is the largest difference of an output from torch's."""

    bits: int
    differing: int
    worst: float
