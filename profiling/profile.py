"""Profiling of a bundle: latency in total and per layer, storage by class, memory, and quality if it is given."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..modelfile.reader import decoded_layers, read_manifest
from ..targets.bundle import open_bundle
from ..targets.devices.base import Deployment, Device
from ..targets.devices.local import LocalDevice
from . import machine
from .memory import memory_figures
from .metrics import METRICS
from .quality import quality_figures, require_same_network
from .report import Figure, Layer, Report
from .rounds import Row, disturbances, measure_processes
from .storage import MODEL_FILE, bundle_parts, storage_figures
from .uncertainty import Interval


def profile(
    bundle: str | os.PathLike[str],
    *,
    repeats: int = 50,
    warmup: int = 10,
    seconds: float = 5.0,
    threads: int = 1,
    processes: int = 3,
    quality: Mapping[str, Any] | None = None,
    baseline: str | os.PathLike[str] | None = None,
    device: Device | None = None,
) -> Report:
    """Return the report of a bundle on ``device``; ``quality`` is the JSON of an evaluation to include.

    Args:
        bundle: folder written by ``compile_model``.
        repeats: smallest number of timed runs, all processes together.
        warmup: runs before timing starts, in every process.
        seconds: time limit for more than ``repeats`` runs, all processes together.
        threads: threads of the runtime.
        processes: number of processes that measure the latency one after the other.
        quality: JSON of an evaluation, or None.
        baseline: another bundle that runs in turn with this one, or None; a budget's limits on growth hold against it.
        device: where to run; None is this machine.

    Raises:
        TargetError: a bundle is damaged or compiled for another machine.
        DeviceError: a bundle failed while running.
        ReportError: ``quality`` is the evaluation of another network.
    """
    path, device = Path(bundle), device or LocalDevice()
    about = dict(device.describe())  # before the measurement raises the load
    bundles = [path] if baseline is None else [path, Path(baseline)]
    with device.push(path, threads=threads) as deployment:
        deployment.verify()
        manifest, model = deployment.bundle.manifest, read_manifest(path / MODEL_FILE)
        if quality:
            require_same_network(quality, manifest)
        layers = _layers(deployment, repeats, device.kind)
        fresh = (
            deployment.footprint() if device.kind == "measured" else None
        )  # an emulator's memory is not the program's
    rows = measure_processes(
        bundles, device, processes=processes, repeats=repeats, warmup=warmup, seconds=seconds, threads=threads
    )
    timing = timing_of(rows[0])
    if baseline is not None:
        of = {"name": Path(baseline).resolve().name, "hashes": hashes_of(Path(baseline))}
        timing["baseline"] = of | timing_of(rows[1])
    parts = bundle_parts(path)
    figures = latency_figures(rows[0], device.kind)
    if fresh is not None:
        figures["latency.open"] = Figure(fresh.open_ms, "ms", "measured")
    figures |= storage_figures(parts) | _uncompressed(model["arch"])
    figures |= memory_figures(fresh, manifest["memory"])
    figures |= quality_figures(quality) if quality else {}
    return Report(
        name=path.resolve().name,
        target=str(manifest["target"]["name"]),
        device=device.name,
        figures={name: figures[name] for name in METRICS if name in figures},
        layers=layers,
        parts=tuple(parts),
        machine={**about, "threads": threads},
        noise=(*machine.noise(about, threads), *disturbances(rows[0], timing["between"] or 0.0)),
        versions=machine.versions(),
        quality=dict(quality or {}),
        history=tuple(model["history"]),
        decoded=decoded_layers(model),
        hashes=hashes_of(path),
        timing=timing,
    )


def latency_figures(rows: Sequence[Row], kind: str = "measured") -> dict[str, Figure]:
    """Return the figures ``latency.*`` of several processes: the fastest run of all, otherwise the median of processes.

    Times of an emulator are no times of a device: of these there is ``emulated.p50`` alone.
    """
    if kind != "measured":
        return {"emulated.p50": Figure(float(np.median([row["p50"] for row in rows])), "ms", kind)}
    figures = {
        f"latency.{name}": float(np.median([row[name] for row in rows])) for name in ("p50", "p90", "p99", "open")
    }
    figures["latency.min"] = min(float(row["min"]) for row in rows)
    return {name: Figure(time, "ms", "measured") for name, time in figures.items()}


def timing_of(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what the processes measured, and how far the median is known within and between them, as shares of it."""
    within = [row["spread"] for row in rows if row["spread"] is not None]
    between = Interval.of([row["p50"] for row in rows]).half_width if len(rows) > 1 else None
    return {"processes": list(rows), "within": float(np.median(within)) if within else None, "between": between}


def hashes_of(bundle: Path) -> dict[str, str]:
    """Return the SHA-256 of the files of a bundle by name, as its manifest has them."""
    return {name: str(entry["sha256"]) for name, entry in open_bundle(bundle).manifest["files"].items()}


def _layers(deployment: Deployment, repeats: int, kind: str) -> tuple[Layer, ...]:
    """Return the median time of each step, from runs of their own."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, *deployment.bundle.input_shape), dtype=np.uint8)
    single = deployment.bench_steps(pixels, max(repeats, 10))
    return tuple(Layer(name, Figure(float(np.median(samples)), "ms", kind)) for name, samples in single.items())


def _uncompressed(arch: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the float32 bytes of the original network; empty for imported encoders or without torch."""
    try:
        import torch  # noqa: PLC0415  # a device may have no torch

        from ..core.model import Arch  # noqa: PLC0415
        from ..hashnets.build import build  # noqa: PLC0415
    except ImportError:
        return {}
    if ":" in arch["encoder"]:
        return {}
    with torch.device("meta"):
        state = build(Arch.from_json(arch)).state_dict()
    size = sum(4 * value.numel() for value in state.values() if value.is_floating_point())
    return {"storage.fp32": Figure(size, "B", "static")}
