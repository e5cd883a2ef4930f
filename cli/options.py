"""Arguments and options shared by several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    typer.Option("--seed", min=0, help="Random seed; for the choice of queries see --data SPEC?seed=N."),
]
Threads = Annotated[
    int,
    typer.Option(
        "--threads",
        min=1,
        help="Number of CPU threads; another number changes the last digits of results, and thus bytes of files.",
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="Device to compute on: cpu or cuda (cuda:N).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and everything else on stderr.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue an interrupted run; the result is the same, bit for bit.")
]
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


def setting(text: str) -> tuple[str, float]:
    """Return the name and the number in ``NAME=VALUE``.

    Raises:
        BadParameter: the value is not a number.
    """
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise typer.BadParameter(f"{text!r}: write NAME=NUMBER, for example eta=0.1", param_hint="--set") from None
