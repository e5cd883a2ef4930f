"""Profiling of a bundle: latency in total and per layer, storage by class, memory, and quality if it is given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..modelfile.reader import decoded_layers, read_manifest
from ..targets.devices.base import Deployment, Device
from ..targets.devices.local import LocalDevice
from . import machine
from .clock import measure_samples
from .memory import memory_figures
from .metrics import METRICS
from .quality import quality_figures
from .report import Figure, Layer, Report
from .storage import MODEL_FILE, bundle_parts, storage_figures


def profile(
    bundle: str | os.PathLike[str],
    *,
    repeats: int = 50,
    warmup: int = 10,
    seconds: float = 5.0,
    threads: int = 1,
    quality: Mapping[str, Any] | None = None,
    device: Device | None = None,
) -> Report:
    """Return the report of a bundle on ``device``; ``quality`` is the JSON of an evaluation to include.

    Args:
        bundle: folder written by ``compile_model``.
        repeats: smallest number of timed runs.
        warmup: runs before timing starts.
        seconds: time limit for more than ``repeats`` runs.
        threads: threads of the runtime.
        quality: JSON of an evaluation, or None.
        device: where to run; None is this machine.

    Raises:
        TargetError: the bundle is damaged or compiled for another machine.
        DeviceError: the bundle failed while running.
    """
    path, device = Path(bundle), device or LocalDevice()
    about = dict(device.describe())  # before the measurement raises the load
    with device.push(path, threads=threads) as deployment:
        deployment.verify()
        manifest, model = deployment.bundle.manifest, read_manifest(path / MODEL_FILE)
        figures, layers = _latency(deployment, repeats, warmup, seconds, device.kind)
        fresh = (
            deployment.footprint() if device.kind == "measured" else None
        )  # an emulator's memory is not the program's
    if fresh is not None:
        figures["latency.open"] = Figure(fresh.open_ms, "ms", "measured")
    parts = bundle_parts(path)
    figures |= storage_figures(parts) | _uncompressed(model["arch"]) | memory_figures(fresh, manifest["memory"])
    figures |= quality_figures(quality) if quality else {}
    return Report(
        name=path.resolve().name,
        target=str(manifest["target"]["name"]),
        device=device.name,
        figures={name: figures[name] for name in METRICS if name in figures},
        layers=layers,
        parts=tuple(parts),
        machine={**about, "threads": threads},
        noise=tuple(machine.noise(about, threads)),
        versions=machine.versions(),
        quality=dict(quality or {}),
        history=tuple(model["history"]),
        decoded=decoded_layers(model),
    )


def _latency(
    deployment: Deployment, repeats: int, warmup: int, seconds: float, kind: str
) -> tuple[dict[str, Figure], tuple[Layer, ...]]:
    """Return the latency figures for one image and the median time of each layer."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, *deployment.bundle.input_shape), dtype=np.uint8)
    deployment.bench(pixels, 1, warmup)
    timing = measure_samples(lambda runs: deployment.bench(pixels, runs), min_runs=repeats, seconds=seconds)
    times = {"min": timing.min_ms, "p50": timing.p50_ms, "p90": timing.p90_ms, "p99": timing.p99_ms}
    if kind == "measured":
        figures = {f"latency.{name}": Figure(time, "ms", kind) for name, time in times.items()}
    else:
        figures = {"emulated.p50": Figure(timing.p50_ms, "ms", kind)}
    single = deployment.bench_steps(pixels, max(repeats, 10))
    layers = (Layer(name, Figure(float(np.median(samples)), "ms", kind)) for name, samples in single.items())
    return figures, tuple(layers)


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
