"""hashpress import: somebody else's checkpoint becomes a model file."""

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
    "import somebodys-whole-module.pkl --unpickle -o base.safetensors",
)


def verb(
    *,
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A state dict of torch or safetensors.")],
    output: options.Output,
    format_: Annotated[str, typer.Option("--format", metavar="NAME", help="See: hashpress ls formats.")] = "auto",
    encoder: Annotated[
        str | None, typer.Option("--encoder", metavar="NAME", help="Only needed when shapes fit several encoders.")
    ] = None,
    bits: Annotated[
        int, typer.Option("--bits", min=1, help="Bits of the hash head that replaces the classifier.")
    ] = 48,
    unpickle: Annotated[
        bool,
        typer.Option("--unpickle", help="Open a whole-module pickle, which runs the code in it, in its own process."),
    ] = False,
    seed: options.Seed = 0,
    json: options.Json = False,
) -> None:
    """Recognise the encoder and its widths from keys and shapes, replace the classifier by a hash head."""
    set_threads(1)
    from ..hashnets.importers.recognise import import_checkpoint
    from ..hashnets.importers.unpickle import WARNING
    from ..modelfile.file import save

    if unpickle:
        console(machine=True).print(f"careful: {WARNING}", markup=False)
    with progress():
        model = import_checkpoint(checkpoint, format=format_, encoder=encoder, bits=bits, seed=seed, unpickle=unpickle)
        save(model, output)
    if json:
        print_json({"path": str(output), "arch": model.arch.to_json(), "step": model.history[-1].to_json()})
    else:
        console().print(str(model), markup=False)
        console().print(f"{output}: {output.stat().st_size:,} bytes; the head is untrained: hashpress train --init")
