"""Arguments and options shared by several commands."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Annotated

import typer

MAX_SEED = 2**32 - 1  # of generators everywhere

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Model file of hashpress (.safetensors).")]
BundleFolder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder written by hashpress compile.")]
_DATA = typer.Option(
    "--data",
    metavar="SPEC",
    help="Data set: digits (embedded), mnist:DIR, fashion-mnist:DIR, cifar10:PATH, imagefolder:DIR, vectors:FILE, "
    "text:FILE, pairs:FILE or, with --trust-code, module:function (hashpress ls datasets), with options such as "
    "imagefolder:DIR?size=64&limit=1000. Queries are drawn with ?seed=N (default 0), independently of --seed. "
    "?validation=5000 (or 0.1) holds training items out for choosing settings.",
)
Data = Annotated[str, _DATA]
MaybeData = Annotated[str | None, _DATA]  # for commands that can run without images
Protocol = Annotated[
    str | None,
    typer.Option("--protocol", metavar="NAME", help="Retrieval protocol: A, A-excl or B (queries = test images)."),
]
Seed = Annotated[
    int,
    typer.Option("--seed", min=0, max=MAX_SEED, help="Random seed; for the choice of queries see --data SPEC?seed=N."),
]
Threads = Annotated[
    int,
    typer.Option(
        "--threads",
        min=1,
        max=1024,
        help="Number of CPU threads; another number changes the last digits of results, and thus bytes of files.",
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="Device to compute on: cpu or cuda (cuda:N).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and everything else on stderr.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue an interrupted run; the result is the same, bit for bit.")
]
Restart = Annotated[bool, typer.Option("--restart", help="Discard what an interrupted run has kept, and start over.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that is of another kind.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the decision of every pass and write nothing.")]
TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code", help="Allow models, recipes and data sets to import code that they name as module:name."
    ),
]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="PATH", help="File or folder to write.")]
MaybeOutput = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE", help="Also write the result as JSON.")
]


def examples(*lines: str) -> str:
    """Return example command lines as the last paragraph of a help text."""
    return "\n\n".join(["[bold]Examples[/bold]", *(f"$ hashpress {line}".replace("[", "\\[") for line in lines)])


def data_inputs(*specs: str | None) -> list[tuple[str, Path | None]]:
    """Return the paths in data specs, for the check that no output destroys them."""
    from ..core.data.spec import parse_spec
    from ..core.errors import DataError

    found: list[tuple[str, Path | None]] = []
    for text in filter(None, specs):
        found.append(("input", Path(text)))
        for foreign in (False, True):
            try:
                found.append(("data", parse_spec(text, foreign=foreign).path))
            except DataError:
                continue  # reported when it is read
    return found


def again(context: typer.Context, option: str) -> str:
    """Return the command line that is running, with ``option`` (``--resume``) added."""
    words = [word for word in context.obj or [] if word not in ("--resume", "--restart")]
    return shlex.join(["hashpress", *words, option])


def setting(text: str) -> tuple[str, float]:
    """Return the name and the number in ``NAME=VALUE``.

    Raises:
        BadParameter: the value is not a finite number.
    """
    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise typer.BadParameter(f"{text!r}: write NAME=NUMBER, for example eta=0.1", param_hint="--set")
    return name, number
