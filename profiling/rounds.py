"""Latency in several processes: every process opens the bundles anew and runs them in turn.

One process is no sample of the time that a network takes: memory lands elsewhere in the next one. A comparison of two
networks is the ratio of their times in the same process, in which they take turns, so that load and clock hit both.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ..core.progress import track
from ..targets.devices.base import Deployment, Device
from ..targets.devices.fresh import module_answer
from ..targets.devices.local import LocalDevice
from .clock import Timing, median_spread

BLOCK = 5  # runs of one bundle before it is the other's turn
TOLERANCE = 0.02
MAX_RUNS = 5000
_SECONDS = 600

Row = dict[str, Any]  # what one process measured of one bundle


def measure_processes(
    bundles: Sequence[Path],
    device: Device,
    *,
    processes: int,
    repeats: int,
    warmup: int,
    seconds: float,
    threads: int = 1,
    what: str = "timing",
) -> list[list[Row]]:
    """Return for every bundle what each process measured: milliseconds, runs and signs of a disturbed measurement.

    Args:
        bundles: one or more bundles; within a process they take turns, and the first to begin changes with the process.
        device: where to run; processes are those of this machine, on another device every round opens the bundle anew.
        processes: number of processes, one after the other.
        repeats: smallest number of runs of a bundle in all processes together.
        warmup: untimed runs of each bundle in every process.
        seconds: time for more runs in all processes together.
        threads: threads of the runtime.
        what: text of the progress bar.

    Raises:
        DeviceError: a process failed or timed out.
    """
    own = type(device) is LocalDevice
    settings: dict[str, Any] = {
        "repeats": -(-repeats // processes),
        "warmup": warmup,
        "seconds": seconds / processes,
        "threads": threads,
    }
    rows: list[list[Row]] = [[] for _ in bundles]
    for number in track(range(processes), what):
        turn = number % len(bundles)
        order = [*range(turn, len(bundles)), *range(turn)]
        chosen = [bundles[place] for place in order]
        found = _child(chosen, settings) if own else _one_by_one(chosen, device, settings)
        for place, row in zip(order, found, strict=True):
            rows[place].append(row)
    return rows


def _one_by_one(bundles: Sequence[Path], device: Device, settings: Mapping[str, Any]) -> list[Row]:
    """Return what a device measures of one bundle after the other: it runs one job at a time."""
    return [one_process([bundle], device, **settings)[0] for bundle in bundles]


def one_process(
    bundles: Sequence[Path], device: Device, *, repeats: int, warmup: int, seconds: float, threads: int
) -> list[Row]:
    """Return what this process measures of every bundle, opened now and run in turn."""
    before, preempted = device.describe(), _preempted()
    deployments, rows = [], list[Row]()
    with ExitStack() as stack:
        for bundle in bundles:
            start = time.perf_counter()
            deployments.append(stack.enter_context(device.push(bundle, threads=threads)))
            rows.append({"open": (time.perf_counter() - start) * 1e3})
        samples = take_turns(deployments, repeats, warmup, seconds)
    after = device.describe()
    for row, times in zip(rows, samples, strict=True):
        timing, half = Timing.of(times, TOLERANCE), len(times) // 2
        row |= {"min": timing.min_ms, "p50": timing.p50_ms, "p90": timing.p90_ms, "p99": timing.p99_ms}
        drift = float(np.median(times[half:]) / np.median(times[:half])) if half else 1.0
        spread = timing.spread if np.isfinite(timing.spread) else None
        row |= {"runs": timing.runs, "spread": spread, "drift": drift}
        row |= {"mhz": [before.get("mhz"), after.get("mhz")], "celsius": [before.get("celsius"), after.get("celsius")]}
        row["preempted"] = _preempted() - preempted
    return rows


def take_turns(deployments: Sequence[Deployment], repeats: int, warmup: int, seconds: float) -> list[list[float]]:
    """Return milliseconds of every deployment, in blocks of runs whose order rotates, until medians are known or time is up."""
    pixels = [
        np.random.default_rng(0).integers(0, 256, (1, *deployment.bundle.input_shape), dtype=np.uint8)
        for deployment in deployments
    ]
    if warmup:
        for deployment, image in zip(deployments, pixels, strict=True):
            deployment.bench(image, 1, warmup)
    samples: list[list[float]] = [[] for _ in deployments]
    deadline, turn, check_at = time.perf_counter() + seconds, 0, max(repeats, 1)
    while True:
        runs = min(BLOCK, max(1, check_at - len(samples[0])))
        for place in range(len(deployments)):
            chosen = (place + turn) % len(deployments)
            samples[chosen].extend(map(float, deployments[chosen].bench(pixels[chosen], runs)))
        turn += 1
        done = len(samples[0])
        if done < repeats:
            continue
        late = time.perf_counter() >= deadline
        if late or done >= MAX_RUNS:
            return samples
        if done >= check_at:  # sorting after every block would disturb the measurement
            if all(median_spread(np.sort(times)) <= TOLERANCE for times in samples):
                return samples
            check_at = done + max(BLOCK, done // 4)


def disturbances(rows: Sequence[Row], between: float) -> list[str]:
    """Return signs that the times of several processes are unreliable, one sentence each."""
    reasons = []
    if between > 0.05:
        reasons.append(
            f"processes differ: the median is known to {100 * between:.2g} % only; measure in more --processes"
        )
    slowed = [row["drift"] for row in rows if row["drift"] > 1.1]
    if len(slowed) > len(rows) / 2:
        reasons.append(f"runs became {100 * (max(slowed) - 1):.0f} % slower within a process: throttled or disturbed")
    clocks = [row["mhz"] for row in rows if all(row["mhz"])]
    if any(after < 0.9 * before for before, after in clocks):
        lowest = min(after for _, after in clocks)
        reasons.append(f"the clock frequency fell to {lowest} MHz during the measurement: throttled")
    often = sum(row["preempted"] for row in rows) / max(sum(row["runs"] for row in rows), 1)
    if often > 0.2:
        reasons.append(f"other processes took the processor {often:.1f} times per run")
    return reasons


def _child(bundles: Sequence[Path], settings: Mapping[str, Any]) -> list[Row]:
    """Return what a fresh process without torch measures."""
    given = json.dumps({"bundles": [str(bundle) for bundle in bundles], **settings})
    limit = _SECONDS + 2 * settings["seconds"] * len(bundles)
    what = f"times {bundles[0]}"
    return list(module_answer("profiling.rounds_child", [given], what, settings["threads"], limit))


def _preempted() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
