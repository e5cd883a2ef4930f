"""hashpress sensitivity: measure how sensitive each layer is to each pass."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import console, print_json, progress, set_threads, table, warn

NAME = "sensitivity"
EXAMPLES = options.examples(
    "sensitivity model.safetensors --data digits",
    "sensitivity model.safetensors --data cifar10:cifar.tar.xz --passes narrow,int8 --plot curves.svg -o curves.json",
)


def verb(
    *,
    model: options.Model,
    data: options.Data = "digits",
    protocol: options.Protocol = None,
    passes: Annotated[
        str,
        typer.Option(
            "--passes",
            metavar="NAMES",
            help="Comma-separated: prune, share, int8, narrow, merge, lowrank, cp, pq, hashed, fastfood.",
        ),
    ] = "prune,share,int8",
    layers: Annotated[str, typer.Option("--layers", metavar="NAMES", help="Comma-separated layers; default all.")] = "",
    images: Annotated[
        int, typer.Option("--images", min=1, help="Number of held-out training images on which bit flips are counted.")
    ] = 500,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Draw the curves (.svg, .png or .pdf).")
    ] = None,
    output: options.MaybeOutput = None,
    force: options.Force = False,
    seed: options.Seed = 0,
    trust_code: options.TrustCode = False,
    threads: options.Threads = 1,
    json: options.Json = False,
) -> None:
    """Apply every pass to one layer at a time and measure bytes, MACs and bit flips."""
    set_threads(threads)
    from json import dumps

    from ..compress.sensitivity.plot import format_of
    from ..compress.sensitivity.plot import plot as draw
    from ..compress.sensitivity.sensitivity import sensitivity
    from ..core.data import load_data
    from ..core.files import atomic_write
    from ..core.inputs import resized_as
    from ..hashnets.retrieval.query_leakage import leakage_warning
    from ..modelfile.file import load

    if plot:
        format_of(plot)
    _check_outputs(output, plot, [("model", model), *options.data_inputs(data)], force=force)
    with progress():
        network = load(model, trust_code=trust_code)
        split = load_data(resized_as(data, network.arch.input), protocol=protocol, trust_code=trust_code)
        result = sensitivity(network, split, passes=_names(passes), layers=_names(layers), images=images, seed=seed)
    warn(leakage_warning(network, split))
    out = console(json)
    if json:
        print_json(result.to_json())
    else:
        out.print(
            f"{result.bytes:,} bytes, {result.macs:,} MACs; cells: % of bits flipped / % of bytes saved / % of MACs saved"
        )
        for name in result.curves():
            columns, rows = result.rows(name)
            out.print(table(name, columns, rows, right=range(1, len(columns))))
        for what, reason in result.skipped.items():
            out.print(f"skipped: {what}: {reason}", markup=False)
    if output:
        with atomic_write(output, "w") as handle:
            handle.write(dumps(result.to_json(), indent=1) + "\n")
    if plot and result.points:
        draw(result, plot)
    elif plot:
        out.print(f"warning: {plot} was not drawn: no layer could be probed, see the reasons above", markup=False)


def _check_outputs(
    output: Path | None, plot: Path | None, inputs: list[tuple[str, Path | None]], *, force: bool
) -> None:
    """Refuse outputs that would destroy something, before hours of work."""
    from ..core.errors import InputError
    from ..core.outputs import PLOT, SENSITIVITY, check_output

    if output is not None:
        check_output(output, SENSITIVITY, inputs, force=force)
    if plot is not None and output is not None and plot.resolve() == output.resolve():
        raise InputError(f"--plot and -o name the same file, {plot}; name two")
    if plot is not None:
        check_output(plot, PLOT, inputs, force=force, option="--plot")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
