"""hashpress compile: compile a model file into a bundle for a target."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options
from .console import console, print_json, progress, set_threads

NAME = "compile"
EXAMPLES = options.examples(
    "compile small.safetensors --target host -o small.bundle", "compile small.safetensors --target c -o small-c.bundle"
)


def verb(
    *,
    model: options.Model,
    output: options.Output,
    target: Annotated[
        str,
        typer.Option(
            "--target", metavar="NAME", help="Name from: hashpress ls targets; or module:NAME of a custom target."
        ),
    ] = "host",
    trust_code: Annotated[
        bool,
        typer.Option(
            "--trust-code", help="Allow importing a custom encoder (module:function) or target (module:NAME)."
        ),
    ] = False,
    force: options.Force = False,
    threads: options.Threads = 1,
    json: options.Json = False,
) -> None:
    """Compile a model for a target; write a bundle with the library, the model file and golden codes."""
    set_threads(threads)
    from ..core.outputs import BUNDLE, check_output

    check_output(output, BUNDLE, [("model", model)], force=force)
    from ..hashnets.repeatable import check_repeatable
    from ..modelfile.file import load
    from ..targets.compile import compile_model

    with progress():
        network = load(model, trust_code=trust_code)
        check_repeatable(network)
        bundle = compile_model(network, target, output, trust_code=trust_code, force=force, source=model)
    if json:
        print_json(bundle.manifest)
    else:
        checked = bundle.manifest["checked"]
        codes = (
            f"codes equal torch's ({checked['bits']} bits of random images, {checked['differing']} of them open)"
            if checked["device"]
            else f"codes not checked: {checked['why']}; profile and encode check them on the device"
        )
        console().print(f"{bundle.path}: {target}; {codes}", markup=False)
