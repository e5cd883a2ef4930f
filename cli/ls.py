"""hashpress ls: list systems, encoders, passes and other choices."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import lookup
from . import options
from .console import console, print_json, table
from .registries import PACKAGE, entries

NAME = "ls"
EXAMPLES = options.examples("ls", "ls encoders", "ls passes --json")


def _recipes() -> dict[str, str]:
    files = sorted(Path(PACKAGE, "compress", "recipes").glob("*.toml"))
    return {path.stem: tomllib.loads(path.read_text(encoding="utf-8")).get("about", "") for path in files}


def _figures() -> dict[str, str]:
    from ..profiling.metrics import METRICS

    return {name: f"{metric.what} [{metric.unit}]" for name, metric in METRICS.items()}


KINDS: Mapping[str, Callable[[], dict[str, str]]] = {
    "systems": lambda: entries("hashnets.systems", "SYSTEMS"),
    "encoders": lambda: entries("hashnets.encoders", "ENCODERS"),
    "passes": lambda: entries("compress.passes", "PASSES"),
    "targets": lambda: entries("targets.table", "TARGETS"),
    "datasets": lambda: entries("core.data", "DATASETS"),
    "recipes": _recipes,
    "formats": lambda: entries("hashnets.importers", "IMPORTERS"),
    "figures": _figures,
}


def listing(kind: str | None) -> dict[str, dict[str, str]]:
    """Return the names and descriptions of one ``kind``, or of every kind if it is None.

    Raises:
        InputError: the kind is unknown.
    """
    kinds = dict(KINDS) if kind is None else {kind: lookup(KINDS, kind, "kind of thing to list")}
    return {name: read() for name, read in kinds.items()}


def verb(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]", help="systems, encoders, passes, targets, datasets, recipes, formats or figures."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """List systems, encoders, passes, targets, data sets, recipes, checkpoint formats and figures of reports."""
    kinds = listing(kind)
    if kind == "targets":
        _show_targets(json)
        return
    if json:
        print_json(kinds)
        return
    for name, entries_ in kinds.items():
        rows = [(f"  {key}", what) for key, what in entries_.items()]
        console().print(f"[bold]{name}[/bold]", table("", ("", ""), rows))


def _show_targets(json: bool) -> None:
    from ..targets.summary import target_rows

    rows = target_rows()
    if json:
        print_json(rows)
        return
    lines = [
        (f"  {name}", row["vectors"], row["runs_on"] or "-", " ".join(row["needs"]) or "-", row["about"])
        for name, row in rows.items()
    ]
    columns = ("  target", "vectors", "runs here on", "needs", "")
    console().print("[bold]targets[/bold]", table("", columns, lines))
