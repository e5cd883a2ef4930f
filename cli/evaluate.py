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
    from ..hashnets.retrieval.assess import assess, file_id
    from ..hashnets.retrieval.query_leakage import leakage_warning
    from ..modelfile.file import load

    with progress():
        split = load_data(data, protocol=protocol, trust_code=trust_code)
        base = load(against, trust_code=trust_code) if against else None
        network = load(model, trust_code=trust_code)
        assessment = replace(
            assess(network, split, base, device=device),
            model=file_id(model),
            against=file_id(against) if against else None,
        )
    warn(leakage_warning(network, split))
    if output:
        assessment.save(output)
    if json:
        print_json(assessment.to_json())
    else:
        console().print(str(assessment), markup=False)
