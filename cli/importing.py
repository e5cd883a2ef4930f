"""hashpress import: convert a checkpoint to a model file."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .console import console, print_json, progress, set_threads

NAME = "import"
EXAMPLES = options.examples(
    "import hashnet-resnet50-64bit.pth -o base.safetensors",
    "import resnet20-12fca82f.th --bits 48 -o base.safetensors",
    "import net.pth --head fc --input-size 256 --mean 0.5 --std 0.5 -o base.safetensors",
    "import net.pth --map trunk.=  --map body.conv=features. -o base.safetensors",
    "import mine.pth --encoder my_nets:build --trust-code --input-size 64 -o base.safetensors",
    "import whole-module.pkl --unpickle -o base.safetensors",
)


def verb(
    *,
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="State dict saved by torch or safetensors.")],
    output: options.Output,
    format_: Annotated[str, typer.Option("--format", metavar="NAME", help="Name from: hashpress ls formats.")] = "auto",
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            metavar="NAME",
            help="Encoder of hashpress ls encoders, or your own network as module:function (with --trust-code).",
        ),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="NAME=VALUE", help="Option of the encoder; repeatable.")
    ] = None,
    bits: Annotated[
        int | None,
        typer.Option("--bits", min=1, help="Length of the code of an untrained head (48); a trained head has its own."),
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", metavar="KEY", help="Keep this layer of the file as the hash head.")
    ] = None,
    classifier: Annotated[
        bool, typer.Option("--classifier", help="The head gives classes: replace it by an untrained one of --bits.")
    ] = False,
    activation: Annotated[
        str | None,
        typer.Option("--activation", metavar="NAME", help="Between dense layers of the head: relu, tanh, ..., none."),
    ] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map", metavar="OLD=NEW", help="Rename tensors by how names begin; OLD= drops them; repeatable."
        ),
    ] = None,
    input_size: Annotated[
        str | None, typer.Option("--input-size", metavar="N|HxW", help="Pixels, or vector:N for vectors.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option("--mean", metavar="X[,X,X]", help="Mean of the input by channel, pixels from 0 to 1.")
    ] = None,
    std: Annotated[str | None, typer.Option("--std", metavar="X[,X,X]", help="Deviation by channel.")] = None,
    unpickle: Annotated[
        bool,
        typer.Option("--unpickle", help="Load a pickled module in a separate process; this runs the code in it."),
    ] = False,
    trust_code: options.TrustCode = False,
    force: options.Force = False,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Recognise encoder and hash head from the keys and shapes of a checkpoint; a classifier becomes an untrained head."""
    set_threads(1)
    from ..core.outputs import MODEL, check_output

    check_output(output, MODEL, [("checkpoint", checkpoint)], force=force)
    from ..hashnets.importers.preprocessing import Preprocessing, parse_numbers, parse_size
    from ..hashnets.importers.recognise import import_checkpoint
    from ..hashnets.importers.unpickle import WARNING
    from ..hashnets.repeatable import check_repeatable
    from ..modelfile.file import save

    preprocessing = Preprocessing(
        parse_size(input_size) if input_size is not None else (),
        parse_numbers("mean", mean) if mean is not None else (),
        parse_numbers("std", std) if std is not None else (),
    )
    if unpickle:
        console(machine=True).print(f"warning: {WARNING}", markup=False)
    with progress():
        model = import_checkpoint(
            checkpoint,
            format=format_,
            encoder=encoder,
            bits=bits,
            seed=seed,
            unpickle=unpickle,
            head=head,
            classifier=classifier,
            activation=activation,
            map=map_ or (),
            options=_parsed(option or []),
            preprocessing=preprocessing,
            trust_code=trust_code,
        )
        check_repeatable(model)
        save(model, output)
    step = model.history[-1]
    if json:
        print_json({"path": str(output), "arch": model.arch.to_json(), "step": step.to_json()})
        return
    console().print(str(model), markup=False)
    for note in step.settings["notes"]:
        console().print(f"  {note}", markup=False)
    untrained = "" if step.settings["head"]["kept"] else "; the hash head is untrained: hashpress train --init"
    console().print(f"{output}: {output.stat().st_size:,} bytes{untrained}", markup=False)


def _parsed(pairs: list[str]) -> dict[str, Any]:
    """Return ``NAME=VALUE`` texts as a table; a value that is no JSON is a text."""
    table: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise typer.BadParameter(f"{pair!r}: write NAME=VALUE, for example width=32", param_hint="--option")
        try:
            table[name] = json_module.loads(text)
        except ValueError:
            table[name] = text
    return table
