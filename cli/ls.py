"""hashpress ls: what there is to choose from."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options
from .console import console, print_json, table

NAME = "ls"
EXAMPLES = options.examples("ls", "ls encoders", "ls passes --json")


def verb(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]", help="systems, encoders, passes, targets, datasets, recipes, formats or figures."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """List systems, encoders, passes, targets, data sets, recipes, checkpoint formats and budget figures."""
    from .listing import listing

    found = listing(kind)
    if json:
        print_json(found)
        return
    for name, entries in found.items():
        rows = [(f"  {key}", what) for key, what in entries.items()]
        console().print(f"[bold]{name}[/bold]", table("", ("", ""), rows))
