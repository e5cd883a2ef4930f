"""hashpress evaluate: measure the retrieval quality of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .console import console, print_json, progress, set_threads, warn

NAME = "evaluate"
EXAMPLES = options.examples(
    "evaluate model.safetensors --data digits",
    "evaluate small.safetensors --data cifar10:cifar.tar.xz --against model.safetensors -o quality.json",
    "evaluate model.safetensors --data cifar10:cifar.tar.xz?validation=5000 --on validation",
)


def verb(
    *,
    model: options.Model,
    data: options.Data = "digits",
    protocol: options.Protocol = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against", metavar="BASE", help="Original model, to measure bit flips and asymmetric mAP as well."
        ),
    ] = None,
    on: Annotated[
        str,
        typer.Option(
            "--on",
            metavar="PART",
            help="queries, or validation: the training images that --data SPEC?validation=5000 (or 0.1) holds out. "
            "Choose settings on validation, and publish figures of queries.",
        ),
    ] = "queries",
    output: options.MaybeOutput = None,
    force: options.Force = False,
    device: options.Device = "cpu",
    trust_code: options.TrustCode = False,
    threads: options.Threads = 1,
    json: options.Json = False,
) -> None:
    """Measure retrieval quality (mAP, precision, PR curve) and, with --against, bit flips and their margins."""
    set_threads(threads)
    from dataclasses import replace

    from ..core.outputs import EVALUATION, check_output

    if output is not None:
        inputs = [("model", model), ("original model", against), *options.data_inputs(data)]
        check_output(output, EVALUATION, inputs, force=force)
    from ..core.data import load_data
    from ..core.errors import lookup
    from ..core.inputs import resized_as
    from ..hashnets.retrieval.assess import assess, file_id
    from ..hashnets.retrieval.query_leakage import leakage_warning
    from ..modelfile.file import load

    lookup({"queries": "", "validation": ""}, on, "part")
    with progress():
        base = load(against, trust_code=trust_code) if against else None
        network = load(model, trust_code=trust_code)
        split = load_data(resized_as(data, network.arch.input), protocol=protocol, trust_code=trust_code)
        assessment = replace(
            assess(network, split if on == "queries" else split.validation, base, device=device),
            model=file_id(model),
            against=file_id(against) if against else None,
        )
    warn(leakage_warning(network, split, on=on))
    if output:
        assessment.save(output)
    if json:
        print_json(assessment.to_json())
    else:
        console().print(str(assessment), markup=False)
