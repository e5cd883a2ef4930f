"""Static memory planning: places in one workspace for buffers that are alive for parts of a program.

First fit, largest buffers first, as in Pisarchyk & Lee, "Efficient memory management for deep neural net inference"
(2020), where it is called greedy by size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Buffer:
    """Memory that is alive from step ``first_use`` to step ``last_use``, both included."""

    size_bytes: int
    first_use: int
    last_use: int

    def overlaps(self, other: Buffer) -> bool:
        """Whether there is a step in which both are alive."""
        return self.first_use <= other.last_use and other.first_use <= self.last_use


@dataclass(frozen=True)
class MemoryPlan:
    """Offsets in bytes by name, and the size of the workspace that holds all buffers."""

    offsets: Mapping[str, int]
    size_bytes: int


def plan_memory(buffers: Mapping[str, Buffer], align: int) -> MemoryPlan:
    """Return a place for every buffer, at multiples of ``align``; buffers alive in the same step do not overlap."""
    offsets: dict[str, int] = {}
    for name in sorted(buffers, key=lambda name: _priority(buffers[name])):
        buffer, start = buffers[name], 0
        taken = sorted(
            (offsets[other], offsets[other] + buffers[other].size_bytes)
            for other in offsets
            if buffers[other].overlaps(buffer)
        )
        for low, high in taken:
            if start + buffer.size_bytes <= low:
                break
            start = max(start, -(-high // align) * align)
        offsets[name] = start
    return MemoryPlan(offsets, max((offsets[name] + buffers[name].size_bytes for name in offsets), default=0))


def peak_live_bytes(buffers: Mapping[str, Buffer]) -> int:
    """Return the most bytes that are alive in one step: no plan can be smaller."""
    steps = {buffer.first_use for buffer in buffers.values()}  # the sum grows only where a buffer begins
    alive = ([b.size_bytes for b in buffers.values() if b.first_use <= step <= b.last_use] for step in steps)
    return max((sum(sizes) for sizes in alive), default=0)


def _priority(buffer: Buffer) -> tuple[int, int, int]:
    return (-buffer.size_bytes, buffer.first_use, buffer.last_use)
