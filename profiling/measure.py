"""Measure one bundle: its latency as a whole and by layer, its bytes by class, its memory, beside a known quality."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..compress.reader import read_dense, read_manifest
from ..core.errors import InputError
from ..targets.bundle import open_bundle
from ..targets.runtime import Runtime
from . import machine
from .clock import measure
from .memory import fresh_process, memory_figures
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
) -> Report:
    """Return the report of a bundle on this machine; ``quality`` is an assessment's JSON, carried along.

    Raises:
        TargetError: the bundle is broken or compiled for another machine.
        DeviceError: it failed while running.
    """
    path = Path(bundle)
    manifest = open_bundle(path).manifest
    about = machine.describe()  # before our own work raises the load
    parts = bundle_parts(path)
    figures, layers = _latency(path, repeats, warmup, seconds, threads)
    fresh = fresh_process(path, threads=threads)
    figures |= {"latency.open": Figure(fresh["open_ms"], "ms", "measured")}
    figures |= storage_figures(parts)
    figures |= {"storage.fp32": Figure(_fp32(path / MODEL_FILE), "B", "static")}
    figures |= memory_figures(fresh, _planned(manifest))
    figures |= quality_figures(quality) if quality else {}
    return Report(
        name=path.resolve().name,
        target=str(manifest["target"]["name"]),
        device="local",
        figures=figures,
        layers=layers,
        parts=tuple(parts),
        machine={**about, "threads": threads},
        noise=tuple(machine.noise(about, threads)),
        versions=machine.versions(),
        quality=dict(quality or {}),
        history=tuple(read_manifest(path / MODEL_FILE)["history"]),
    )
