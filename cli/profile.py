"""hashpress profile: measure a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import console, print_json, progress, set_threads

NAME = "profile"
EXAMPLES = options.examples(
    "profile small.bundle -o report.json", "profile small.bundle --quality quality.json -o report.json --json"
)


def verb(
    *,
    bundle: options.BundleFolder,
    quality: Annotated[
        Path | None, typer.Option("--quality", metavar="FILE", help="Written by hashpress evaluate -o.")
    ] = None,
    output: options.MaybeOutput = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="At least so many runs; more until stable.")] = 50,
    warmup: Annotated[int, typer.Option("--warmup", min=0, help="Runs before the clock starts.")] = 10,
    seconds: Annotated[float, typer.Option("--seconds", min=0.0, help="At most so long, beyond --repeats.")] = 5.0,
    device: Annotated[str, typer.Option("--device", metavar="KIND[:ADDRESS]", help="Where to measure.")] = "local",
    threads: options.Threads = 1,
    json: options.Json = False,
) -> None:
    """Measure latency (whole and per layer), storage by class and memory; every figure carries its kind."""
    set_threads(threads)
    from ..profiling.profile import profile
    from ..profiling.quality import load_evaluation
    from ..targets.devices.table import parse_device

    where = parse_device(device)
    with progress():
        known = load_evaluation(quality) if quality else None
        report = profile(
            bundle, repeats=repeats, warmup=warmup, seconds=seconds, threads=threads, quality=known, device=where
        )
    if output:
        report.save(output)
    if json:
        print_json(report.to_json())
    else:
        console().print(str(report), markup=False)
