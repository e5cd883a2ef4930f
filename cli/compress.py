"""hashpress compress: run a recipe on a model."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options
from .console import console, print_json, progress, set_threads, table

NAME = "compress"
EXAMPLES = options.examples(
    "compress base.safetensors --recipe deep-compression --data digits -o small.safetensors",
    "compress base.safetensors --recipe my.toml --data cifar10:cifar.tar.xz -o small.safetensors --resume",
    "compress base.safetensors --recipe my.toml --data digits -o small.safetensors --dry-run",
)


def verb(
    *,
    model: options.Model,
    output: options.Output,
    recipe: Annotated[
        str, typer.Option("--recipe", metavar="FILE|NAME", help="A TOML file, or a name from: hashpress ls recipes.")
    ],
    data: options.Data = "digits",
    protocol: options.Protocol = None,
    dry_run: options.DryRun = False,
    resume: options.Resume = False,
    seed: options.Seed = 0,
    trust_code: options.TrustCode = False,
    threads: options.Threads = 1,
    json: options.Json = False,
) -> None:
    """Run the passes of a recipe, write the entropy-coded model file and the resolved recipe beside it."""
    set_threads(threads)
    from ..compress.modelfile import load
    from ..compress.recipe import compress, load_recipe
    from ..core.data import load_data
    from ..core.units import format_bytes
    from ..profiling.contents import pairs

    plan = load_recipe(recipe)
    plan.check()
    start = load(model, trust_code=trust_code)
    with progress():
        split = load_data(data, protocol=protocol, seed=seed)
        if dry_run:
            console(json).print(plan.preview(start, split), markup=False)
            return
        done = compress(start, plan, split, out=output, seed=seed, resume=resume)
    steps = [step.to_json() for step in done.history[len(start.history) :]]
    if json:
        print_json({"path": str(output), "bytes": output.stat().st_size, "steps": steps})
        return
    rows = [(step["name"], *(pairs(step.get(side, {})) for side in ("before", "after"))) for step in steps]
    console().print(table("", ("step", "before", "after"), rows))
    console().print(f"{output}: {format_bytes(output.stat().st_size)}")
