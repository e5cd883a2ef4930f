"""hashpress show: print the content of a model file or recipe."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options
from .console import console, print_json

NAME = "show"
EXAMPLES = options.examples(
    "show small.safetensors",
    "show small.safetensors --tensors",
    "show small.safetensors --json | jq .storage",
    "show recipe:smallest > mine.toml",
    "show mine.toml",
)
RECIPE, FILE = "recipe:", ".toml"


def verb(
    model: options.Model,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor instead of every layer.")] = False,
    json: options.Json = False,
) -> None:
    """Print architecture, bytes by layer and class, edits and history of a model file, or the settings of a recipe as TOML.

    MODEL is a model file, recipe:NAME, or a recipe file that ends in .toml.
    """
    if str(model).startswith(RECIPE) or model.suffix == FILE:
        _recipe(str(model), json=json)
        return
    from ..modelfile.describe import describe, describe_text

    if json:
        print_json(describe(model))
    else:
        console().print(describe_text(model, tensors=tensors), markup=False)


def _recipe(name: str, *, json: bool) -> None:
    from tomllib import loads

    from ..compress.recipe.load import load_recipe

    text = load_recipe(name).to_toml()
    if json:
        print_json(loads(text))
    else:
        console().print(text, markup=False, highlight=False, soft_wrap=True, end="")
