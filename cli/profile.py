"""hashpress profile: measure a bundle on a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .console import console, print_json, progress, set_threads, warn

NAME = "profile"
EXAMPLES = options.examples(
    "profile small.bundle -o report.json",
    "profile small.bundle --quality quality.json -o report.json --json",
    "profile small.bundle --baseline base.bundle --processes 6 -o report.json",
    "profile small.bundle --noop",
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
    processes: Annotated[
        int,
        typer.Option("--processes", min=1, help="Number of processes that measure the latency, one after the other."),
    ] = 3,
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline",
            metavar="BUNDLE",
            help="Bundle to time in turn with this one, for limits such as latency.p50 = +5 %.",
        ),
    ] = None,
    noop: Annotated[
        bool, typer.Option("--noop", help="Compare the bundle with itself and print what this machine can resolve.")
    ] = False,
    device: Annotated[str, typer.Option("--device", metavar="KIND[:ADDRESS]", help="Device to measure on.")] = "local",
    threads: options.Threads = 1,
    json: options.Json = False,
) -> None:
    """Measure latency (total and per layer), storage by class and memory. Every figure has a kind, such as measured or static."""
    set_threads(threads)
    from ..core.errors import InputError
    from ..core.outputs import REPORT, check_output

    if output is not None:
        check_output(output, REPORT, [("bundle", bundle), ("evaluation", quality)], force=force)
    from ..profiling.noop import resolution
    from ..profiling.profile import profile
    from ..profiling.quality import load_evaluation, names_network
    from ..targets.devices.table import parse_device

    chosen = parse_device(device)
    timing: dict[str, Any] = {"repeats": repeats, "warmup": warmup, "seconds": seconds, "threads": threads}
    if noop:
        if quality or baseline or output:
            raise InputError("--noop compares the bundle with itself; it takes no --quality, --baseline or -o")
        with progress():
            resolved = resolution(bundle, processes=processes, device=chosen, **timing)
        if json:
            print_json(resolved.to_json())
        else:
            console().print(str(resolved), markup=False)
        return
    with progress():
        evaluation = load_evaluation(quality) if quality else None
        report = profile(bundle, processes=processes, quality=evaluation, baseline=baseline, device=chosen, **timing)
    if evaluation is not None and not names_network(evaluation):
        warn(
            f"{quality} does not say which model file it evaluated, so that it may be another network's; "
            f"write it again: hashpress evaluate ... -o {quality}"
        )
    if output:
        report.save(output)
    if json:
        print_json(report.to_json())
    else:
        console().print(str(report), markup=False)
