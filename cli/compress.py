"""hashpress compress: compress a model with a recipe."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .console import console, print_json, progress, set_threads, warn

if TYPE_CHECKING:
    from ..compress.recipe.ledger import Ledger
    from ..compress.recipe.steps_as_text import StepTeller
    from ..core.data.split import Split

NAME = "compress"
EXAMPLES = options.examples(
    "compress base.safetensors --recipe deep-compression --data digits -o small.safetensors",
    "compress base.safetensors --recipe my.toml --data cifar10:cifar.tar.xz -o small.safetensors --resume",
    "compress base.safetensors --recipe my.toml --data digits --dry-run",
    "compress base.safetensors --recipe data-free -o small.safetensors",
)


def verb(
    *,
    context: typer.Context,
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
    restart: options.Restart = False,
    force: options.Force = False,
    device: options.Device = "cpu",
    seed: options.Seed = 0,
    trust_code: options.TrustCode = False,
    threads: options.Threads = 1,
    json: options.Json = False,
) -> None:
    """Run the passes of a recipe; write the compressed model file, and next to it the resolved recipe and the ledger.

    Every step says what it took and what it cost; with --data also in flipped bits and mAP, on at most 1,000 queries and
    4,000 database items. With --resume, an interrupted run, or one with an edited recipe, continues after the last
    unchanged step.
    """
    set_threads(threads)
    from ..core.errors import InputError
    from ..core.inputs import resized_as

    if output is None and not dry_run:
        raise InputError(
            "compress needs a path for the model file: give it with -o, or preview the steps with --dry-run"
        )
    if resume and restart:
        raise InputError("--resume goes on with an interrupted run and --restart discards it: give one of them")
    if output is not None and not dry_run:
        _check_outputs(output, model, recipe, data, force=force)
    from ..compress.recipe.load import load_recipe
    from ..core.data import load_data
    from ..hashnets.retrieval.query_leakage import leakage_warning
    from ..modelfile.file import load

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
            warn(leakage_warning(start, split))  # before hours of work, not after them
        if output is None or dry_run:
            _preview(plan.preview(start, split, seed=seed), json=json)
            return
        if resume and not output.exists() and not output.with_name(f"{output.name}.work").exists():
            warn(f"nothing to resume: no step of a run to {output} is kept; starting with the first")
        settings: dict[str, Any] = {"out": output, "seed": seed, "resume": resume, "restart": restart, "device": device}
        teller = _run(lambda **more: plan.run(start, split, **settings, **more), split, output, context, json=json)
    _end(teller, output, model, data, json=json)


def _check_outputs(output: Path, model: Path, recipe: str, data: str | None, *, force: bool) -> None:
    """Refuse outputs that would destroy something, before any work."""
    from ..core.outputs import MODEL, check_output, check_side_files

    inputs: list[tuple[str, str | Path | None]] = [("model", model), ("recipe", recipe), *options.data_inputs(data)]
    check_output(output, MODEL, inputs, force=force)
    check_side_files(output, ("recipe.toml", "ledger.json", "run.json"), inputs)


def _preview(ledger: Ledger, *, json: bool) -> None:
    if json:
        print_json({"path": None, "steps": ledger.to_json()})
    else:
        console().print(ledger.in_full(), markup=False, soft_wrap=True)


def _run(
    run: Callable[..., Any], split: Split | None, output: Path, context: typer.Context, *, json: bool
) -> StepTeller:
    """Run the passes; say what each step cost as it ends, and when interrupted, how to go on."""
    from ..compress.recipe.run import RunFiles
    from ..compress.recipe.steps_as_text import StepTeller
    from ..compress.recipe.workdir import kept
    from ..core.errors import InputError, InterruptedRunError

    out, work = console(json), RunFiles(output).work
    teller = StepTeller(
        None if split is None else split.for_settings, lambda step: out.print(str(step), markup=False, soft_wrap=True)
    )
    try:
        run(on_step=teller)
    except KeyboardInterrupt:
        found = kept(work)
        what = f"{work} keeps {found}; go on with: {options.again(context, '--resume')}" if found else "nothing is kept"
        raise InterruptedRunError(f"interrupted; {what}") from None
    except InputError as fault:
        if not teller.steps or not (found := kept(work)):
            raise
        raise InputError(f"{fault}; {work} keeps {found}: correct the cause and go on with --resume") from fault
    return teller


def _end(teller: StepTeller, output: Path, model: Path, data: str | None, *, json: bool) -> None:
    """Print the size of the result, and what the codes lost or how to measure that."""
    from ..core.units import format_bytes

    size, first, last = output.stat().st_size, teller.steps[0], teller.steps[-1]
    if json:
        done = {"finished_before": teller.nothing_done, "sample": teller.sample or None}
        print_json({"path": str(output), "bytes": size, **done, "steps": [step.to_json() for step in teller.steps]})
        return
    lines = ["nothing was left to do: an earlier run had finished every step"] if teller.nothing_done else []
    before = first.figures["bytes"]
    lines.append(f"{output}: {format_bytes(size)}, was {format_bytes(before)} ({before / size:.1f} times smaller)")
    measure = shlex.join(["hashpress", "evaluate", str(output), "--data", data or "SPEC", "--against", str(model)])
    if data is None:
        lines.append(f"no quality was measured, because no data set was given; measure it with: {measure}")
    elif "map" in first.figures and "map" in last.figures:
        change = last.figures["map"] - first.figures["map"]
        lines.append(
            f"mAP {first.figures['map']:.4f} -> {last.figures['map']:.4f} ({change:+.4f}), "
            f"{last.figures.get('flips', 0):.2%} of the bits flipped; {teller.sample}"
        )
        if not teller.on_all_items:
            lines.append(f"on all items: {measure}")
    else:
        lines.append(f"its quality is measured with: {measure}")
    console().print("\n".join(lines), markup=False, soft_wrap=True)
