"""What this machine can resolve: a bundle compared with itself, as a latency gate compares two."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputError
from ..core.units import format_ms
from ..targets.devices.base import Device
from ..targets.devices.local import LocalDevice
from .rounds import disturbances, measure_processes
from .uncertainty import Interval


@dataclass(frozen=True)
class Resolution:
    """Times of one bundle opened twice in each of several processes; ``ratio`` is the one's time by the other's."""

    p50_ms: float
    processes: int
    runs: int
    ratio: Interval
    between: float  # half width of the interval of the median over the processes, as a share
    within: float  # median half width of the interval of a process's median, as a share
    noise: tuple[str, ...]

    @property
    def smallest(self) -> float:
        """The smallest difference that such a measurement tells from none, as a share."""
        return max(abs(self.ratio.high - 1), abs(1 - self.ratio.low))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "noise": list(self.noise), "smallest": self.smallest}

    def __str__(self) -> str:
        lines = [
            f"the bundle against itself: {self.processes} processes, {self.runs} runs, median {format_ms(self.p50_ms)}",
            f"  ratio    {self.ratio.middle:.4f}  (95 %: {self.ratio.low:.4f} to {self.ratio.high:.4f})",
            f"  between processes  +-{100 * self.between:.2g} %",
            f"  within a process   +-{100 * self.within:.2g} %",
            f"differences of less than {100 * self.smallest:.2g} % are not resolved on this machine as it is now",
        ]
        return "\n".join([*lines, *(f"noisy: {reason}" for reason in self.noise)])


def resolution(
    bundle: str | os.PathLike[str],
    *,
    processes: int = 5,
    repeats: int = 50,
    warmup: int = 10,
    seconds: float = 5.0,
    threads: int = 1,
    device: Device | None = None,
) -> Resolution:
    """Return what a comparison with ``bundle`` resolves, from interleaved rounds with itself; settings as of ``profile``.

    Raises:
        InputError: fewer than two processes, which have no spread.
        TargetError: the bundle is damaged or compiled for another machine.
        DeviceError: the bundle failed while running.
    """
    if processes < 2:
        raise InputError(f"a spread needs at least two processes, found {processes}; give --processes 5")
    path = Path(bundle)
    one, two = measure_processes(
        [path, path],
        device or LocalDevice(),
        processes=processes,
        repeats=repeats,
        warmup=warmup,
        seconds=seconds,
        threads=threads,
        what="comparing with itself",
    )
    times = [row["p50"] for row in one], [row["p50"] for row in two]
    between = Interval.of(times[0]).half_width
    spreads = [row["spread"] for row in one if row["spread"] is not None]
    return Resolution(
        p50_ms=float(np.median(times[0])),
        processes=processes,
        runs=sum(row["runs"] for row in (*one, *two)),
        ratio=Interval.of(np.divide(*times).tolist()),
        between=between,
        within=float(np.median(spreads)) if spreads else float("nan"),
        noise=tuple(disturbances(one, between)),
    )
