"""hashpress import: convert a checkpoint to a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import console, print_json, progress, set_threads

NAME = "import"
EXAMPLES = options.examples(
    "import resnet20-12fca82f.th --bits 48 -o base.safetensors",
    "import alexnet.pth --format torchvision --bits 48 -o base.safetensors",
    "import whole-module.pkl --unpickle -o base.safetensors",
)


def verb(
    *,
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="State dict saved by torch or safetensors.")],
    output: options.Output,
    format_: Annotated[str, typer.Option("--format", metavar="NAME", help="Name from: hashpress ls formats.")] = "auto",
    encoder: Annotated[
        str | None, typer.Option("--encoder", metavar="NAME", help="Encoder, needed only if the shapes match several.")
    ] = None,
    bits: Annotated[
        int,
        typer.Option(
            "--bits", min=1, help="Length of the code: outputs of the hash head that replaces the classifier."
        ),
    ] = 48,
    unpickle: Annotated[
        bool,
        typer.Option("--unpickle", help="Load a pickled module in a separate process; this runs the code in it."),
    ] = False,
    force: options.Force = False,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Recognise the encoder from the keys and shapes of a checkpoint and replace its classifier by a hash head."""
    set_threads(1)
    from ..core.outputs import MODEL, check_output

    check_output(output, MODEL, [("checkpoint", checkpoint)], force=force)
    from ..hashnets.importers.recognise import import_checkpoint
    from ..hashnets.importers.unpickle import WARNING
    from ..hashnets.repeatable import check_repeatable
    from ..modelfile.file import save

    if unpickle:
        console(machine=True).print(f"warning: {WARNING}", markup=False)
    with progress():
        model = import_checkpoint(checkpoint, format=format_, encoder=encoder, bits=bits, seed=seed, unpickle=unpickle)
        check_repeatable(model)
        save(model, output)
    if json:
        print_json({"path": str(output), "arch": model.arch.to_json(), "step": model.history[-1].to_json()})
    else:
        console().print(str(model), markup=False)
        console().print(
            f"{output}: {output.stat().st_size:,} bytes; the hash head is untrained, train it with: hashpress train --init"
        )
