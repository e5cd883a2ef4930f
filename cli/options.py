"""Arguments that several verbs share, spelt once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A hashpress model file (.safetensors).")]
BundleFolder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A folder written by hashpress compile.")]
_DATA = typer.Option(
    "--data",
    metavar="SPEC",
    help="digits (embedded), mnist:DIR, fashion-mnist:DIR, cifar10:PATH, imagefolder:DIR, vectors:FILE, text:FILE, "
    "pairs:FILE or, with --trust-code, module:function (hashpress ls datasets); options as in "
    "imagefolder:DIR?size=64&limit=1000. Queries are drawn by ?seed=N (0), whatever --seed is.",
)
Data = Annotated[str, _DATA]
MaybeData = Annotated[str | None, _DATA]  # for verbs that can do without images
Protocol = Annotated[
    str | None,
    typer.Option("--protocol", metavar="NAME", help="Retrieval protocol: A, A-excl or B (queries = test images)."),
]
Seed = Annotated[
    int,
    typer.Option("--seed", min=0, help="Decides everything random but which images are queries: --data SPEC?seed=N."),
]
Threads = Annotated[
    int,
    typer.Option(
        "--threads", min=1, help="Threads for arithmetic; another number changes last digits, so bytes of files too."
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="What computes: cpu or cuda (cuda:N).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, everything else on stderr.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue interrupted work; it ends in the same bytes.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be decided, write nothing.")]
TrustCode = Annotated[
    bool,
    typer.Option("--trust-code", help="Import and run the code, module:name, that a model, recipe or data set names."),
]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="PATH", help="What to write.")]
MaybeOutput = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Also write it as JSON.")]


def examples(*lines: str) -> str:
    """Return worked examples as the last paragraph of a help text."""
    return "\n\n".join(["[bold]Examples[/bold]", *(f"$ hashpress {line}".replace("[", "\\[") for line in lines)])


def setting(text: str) -> tuple[str, float]:
    """Return the name and number of ``NAME=VALUE``."""
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise typer.BadParameter(f"{text!r}: write NAME=NUMBER, such as eta=0.1", param_hint="--set") from None
