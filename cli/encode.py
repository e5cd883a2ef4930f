"""hashpress encode: compute the codes of images, vectors or texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import console, progress, set_threads

NAME = "encode"
EXAMPLES = options.examples(
    "encode small.bundle photo.jpg another.png -o codes.npy",
    "encode small.safetensors images.npy -o codes.npy",
    "encode small.bundle imagefolder:photos -o codes.npy",
)


def verb(
    *,
    model: Annotated[Path, typer.Argument(metavar="MODEL|BUNDLE", help="Model file or compiled bundle.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Image files, .npy arrays (N, C, H, W) uint8 or (N, d), .txt files with one text a line, or data sets "
            "(as for --data).",
        ),
    ],
    output: options.Output,
    trust_code: options.TrustCode = False,
    device: Annotated[
        str,
        typer.Option(
            "--device", metavar="KIND[:ADDRESS]", help="Device that runs a bundle; model files run on this machine."
        ),
    ] = "local",
    threads: options.Threads = 1,
) -> None:
    """Write the packed codes (N, ceil(bits / 8)) uint8 of the inputs, in the order given; bit k is set if output k >= 0.

    For a data set, all items are encoded: the database, then the queries.
    """
    set_threads(threads)
    import numpy as np

    from ..core.errors import InputError
    from ..core.files import atomic_write
    from ..core.inputs import ImageInput
    from .inputs import read_inputs

    with progress():
        if model.is_dir():
            from ..targets.devices.table import parse_device

            deployment = parse_device(device).push(model, threads=threads)
            deployment.verify()  # compiled elsewhere, the library may never have run here
            codes = deployment.encode(read_inputs(inputs, ImageInput(tuple(deployment.bundle.input_shape), (), ())))
        elif device != "local":
            raise InputError(
                f"{model} is a model file, which runs on this machine only; for --device {device}, compile it to a bundle first"
            )
        else:
            from ..hashnets.retrieval.codes import outputs, pack
            from ..modelfile.file import load

            network = load(model, trust_code=trust_code)
            codes = pack(outputs(network, read_inputs(inputs, network.arch.input, trust_code=trust_code)))
    with atomic_write(output) as handle:
        np.save(handle, codes)
    console().print(f"{output}: {codes.shape[0]} codes of {codes.shape[1]} bytes")
