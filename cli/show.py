"""hashpress show: what is inside a model file."""

from __future__ import annotations

from . import options
from .console import console, print_json

NAME = "show"
EXAMPLES = options.examples("show small.safetensors", "show small.safetensors --json | jq .storage")


def verb(model: options.Model, json: options.Json = False) -> None:
    """Print architecture, bits, bytes by tensor and class, edits and history; torch is not needed."""
    from ..profiling.contents import describe, describe_text

    if json:
        print_json(describe(model))
    else:
        console().print(describe_text(model), markup=False)
