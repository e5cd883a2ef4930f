"""hashpress encode: compute the codes of images, vectors or texts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import console, progress, set_threads, warn

NAME = "encode"
EXAMPLES = options.examples(
    "encode small.bundle photo.jpg another.png -o codes.npy",
    "encode small.bundle photos/ -o codes.npy --names names.txt --skip-unreadable",
    "encode small.bundle @list.txt -o codes.npy",
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
            help="Image files; folders (all images below them, by name); @FILE or - (standard input), a list of names, "
            "one a line; .npy arrays (N, C, H, W) uint8 or (N, d), .txt files with one text a line, or data sets "
            "(as for --data).",
        ),
    ],
    output: options.Output,
    force: options.Force = False,
    names: Annotated[
        Path | None,
        typer.Option(
            "--names", metavar="FILE", help="Also write what each code is of, one name a line in their order."
        ),
    ] = None,
    skip_unreadable: Annotated[
        bool,
        typer.Option("--skip-unreadable", help="Warn of files that are no images, and encode the others."),
    ] = False,
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
    from ..core.outputs import CODES, check_output

    check_output(output, CODES, [("model", model), *options.data_inputs(*inputs)], force=force)
    import numpy as np

    from ..core.errors import InputError
    from ..core.files import atomic_write
    from ..core.inputs import ImageInput
    from .support.inputs import read_inputs

    with progress():
        if model.is_dir():
            from ..targets.devices.table import parse_device

            with parse_device(device).push(model, threads=threads) as deployment:
                deployment.verify()  # compiled elsewhere, the library may never have run here
                how = deployment.bundle.manifest["input"].get("resize", "stretch")
                taken = ImageInput(tuple(deployment.bundle.input_shape), (), (), how)
                found = read_inputs(inputs, taken, skip_unreadable=skip_unreadable)
                codes = deployment.encode(found.items)
        elif device != "local":
            raise InputError(
                f"{model} is a model file, which runs on this machine only; for --device {device}, compile it to a bundle first"
            )
        else:
            from ..hashnets.repeatable import check_repeatable
            from ..hashnets.retrieval.codes import outputs, pack
            from ..modelfile.file import load

            network = load(model, trust_code=trust_code)
            check_repeatable(network)
            found = read_inputs(inputs, network.arch.input, trust_code=trust_code, skip_unreadable=skip_unreadable)
            codes = pack(outputs(network, found.items))
    for problem in found.skipped:
        warn(f"skipped: {problem}")
    with atomic_write(output) as handle:
        np.save(handle, codes)
    if names is not None:
        with atomic_write(names) as handle:
            handle.write(b"".join(os.fsencode(name) + b"\n" for name in found.names))
    console().print(f"{output}: {codes.shape[0]} codes of {codes.shape[1]} bytes")
