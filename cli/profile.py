"""hashpress profile: measure a bundle on a device."""

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
        Path | None,
        typer.Option("--quality", metavar="FILE", help="Evaluation to include, written by hashpress evaluate -o."),
    ] = None,
    output: options.MaybeOutput = None,
    force: options.Force = False,
    repeats: Annotated[
        int,
        typer.Option(
            "--repeats", min=1, max=10**6, help="Minimum number of timed runs; more until the median is stable."
        ),
    ] = 50,
    warmup: Annotated[int, typer.Option("--warmup", min=0, max=10**6, help="Number of untimed runs before.")] = 10,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.0, max=86400.0, help="Time limit for runs beyond --repeats, in seconds.")
    ] = 5.0,
    device: Annotated[str, typer.Option("--device", metavar="KIND[:ADDRESS]", help="Device to measure on.")] = "local",
    threads: options.Threads = 1,
    json: options.Json = False,
) -> None:
    """Measure latency (total and per layer), storage by class and memory. Every figure has a kind, such as measured or static."""
    set_threads(threads)
    from ..core.outputs import REPORT, check_output

    if output is not None:
        check_output(output, REPORT, [("bundle", bundle), ("evaluation", quality)], force=force)
    from ..profiling.profile import profile
    from ..profiling.quality import load_evaluation
    from ..targets.devices.table import parse_device

    target_device = parse_device(device)
    with progress():
        evaluation = load_evaluation(quality) if quality else None
        report = profile(
            bundle,
            repeats=repeats,
            warmup=warmup,
            seconds=seconds,
            threads=threads,
            quality=evaluation,
            device=target_device,
        )
    if output:
        report.save(output)
    if json:
        print_json(report.to_json())
    else:
        console().print(str(report), markup=False)
