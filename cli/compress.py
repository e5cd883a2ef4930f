"""hashpress compress: compress a model with a recipe."""

from __future__ import annotations

from json import loads
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import console, print_json, progress, set_threads, warn

NAME = "compress"
EXAMPLES = options.examples(
    "compress base.safetensors --recipe deep-compression --data digits -o small.safetensors",
    "compress base.safetensors --recipe my.toml --data cifar10:cifar.tar.xz -o small.safetensors --resume",
    "compress base.safetensors --recipe my.toml --data digits --dry-run",
    "compress base.safetensors --recipe data-free -o small.safetensors",
)


def verb(
    *,
    model: options.Model,
    recipe: Annotated[
        str, typer.Option("--recipe", metavar="FILE|NAME", help="TOML file, or name from: hashpress ls recipes.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="PATH", help="Model file to write; not needed with --dry-run."),
    ] = None,
    data: options.MaybeData = None,
    protocol: options.Protocol = None,
    dry_run: options.DryRun = False,
    resume: options.Resume = False,
    device: options.Device = "cpu",
    seed: options.Seed = 0,
    trust_code: options.TrustCode = False,
    threads: options.Threads = 1,
    json: options.Json = False,
) -> None:
    """Run the passes of a recipe; write the compressed model file, and next to it the resolved recipe and the ledger.

    With --resume, an interrupted run, or one with an edited recipe, continues after the last unchanged step.
    """
    set_threads(threads)
    from ..compress.recipe.ledger import Ledger, Line
    from ..compress.recipe.load import compress, load_recipe
    from ..core.data import load_data
    from ..core.errors import InputError
    from ..core.inputs import resized_as
    from ..core.units import format_bytes
    from ..hashnets.retrieval.query_leakage import seen
    from ..modelfile.file import load

    if output is None and not dry_run:
        raise InputError(
            "compress needs a path for the model file: give it with -o, or preview the steps with --dry-run"
        )
    plan = load_recipe(recipe, trust_code=trust_code)
    plan.check()
    start = load(model, trust_code=trust_code)
    with progress():
        split = (
            None
            if data is None
            else load_data(resized_as(data, start.arch.input), protocol=protocol, trust_code=trust_code)
        )
        if split is not None:
            warn(seen(start, split))  # before hours of work, not after them
        if output is None or dry_run:
            ledger = plan.preview(start, split, seed=seed)
        else:
            compress(start, plan, split, out=output, seed=seed, resume=resume, device=device)
            lines = loads(output.with_name(f"{output.name}.ledger.json").read_text(encoding="utf-8"))
            ledger = Ledger(tuple(Line(**line) for line in lines))
    if json:
        print_json({"path": None if dry_run else str(output), "steps": ledger.to_json()})
        return
    text = ledger.in_full() if dry_run else str(ledger)
    console().print(text, markup=False, soft_wrap=True)
    if output is not None and not dry_run:
        console().print(f"{output}: {format_bytes(output.stat().st_size)}", markup=False)
