"""hashpress ls: list systems, encoders, passes and other choices."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from json import loads
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ..core.errors import lookup
from . import options
from .console import console, print_json, table
from .support.registries import PACKAGE, entries

NAME = "ls"
EXAMPLES = options.examples("ls", "ls encoders", "ls recipes", "ls passes --json")


def _recipes() -> dict[str, str]:
    files = sorted(Path(PACKAGE, "compress", "recipes").glob("*.toml"))
    return {path.stem: tomllib.loads(path.read_text(encoding="utf-8")).get("about", "") for path in files}


def measured() -> dict[str, dict[str, Any]]:
    """Return what ``python -m benchmarks.recipes`` measured of each shipped recipe on the embedded digits."""
    table: dict[str, dict[str, Any]] = loads((PACKAGE / "compress" / "recipes" / "measured.json").read_text("utf-8"))
    return table


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
        print_json(kinds | ({"measured": measured()} if "recipes" in kinds else {}))
        return
    for name, entries_ in kinds.items():
        if name == "recipes":
            console().print("[bold]recipes[/bold]", _recipe_table(entries_))
            continue
        rows = [(f"  {key}", what) for key, what in entries_.items()]
        console().print(f"[bold]{name}[/bold]", table("", ("", ""), rows))


def _recipe_table(recipes: Mapping[str, str]) -> Table:
    """Return the recipes with what they did to a small network: a first idea, not a promise for another network."""
    rows = []
    found = measured()
    for name, about in recipes.items():
        row = found.get(name)
        figures = ("", "", "", "")
        if row is not None:
            before, after = row["bytes"]
            change = 100 * (row["map"][1] - row["map"][0])
            figures = (f"1/{before / after:.1f}", f"{row['speed']:.2f}x", f"{change:+.1f}", f"{row['flips']:.1%}")
        rows.append((f"  {name}", *figures, about))
    note = "measured on the embedded digits with a small network: size of the file, speed of the bundle, mAP in points"
    return table(f"  {note}", ("", "size", "speed", "mAP", "flips", ""), rows, right=(1, 2, 3, 4))


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
