"""hashpress demo: the complete workflow on embedded data, as a sequence of the other commands."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from . import options
from .console import console, table

NAME = "demo"
EXAMPLES = options.examples("demo", "demo -o /tmp/story")

FILES = {
    "recipe.toml": """\
about = "Weight sharing with a rate penalty, weighted by effect on the outputs, then fine-tuning on the original codes"
measure = ["flips", "map"]

[[pass]]
name = "prune"
density = { conv = 0.6, dense = 0.5, head = 0.8 }

[[pass]]
name = "finetune"
epochs = 6

[[pass]]
name = "share"
bits = 4
scaled = true
lam = 0.12
importance = "outputs"

[[pass]]
name = "finetune"
epochs = 16
lr = 0.0005
""",
    "budget.toml": """\
# Limits for this model; `hashpress check` exits with 3 if a limit of level error is exceeded.
storage.file = "32 kB"
latency.p50 = { limit = "2 ms", level = "warn" }
memory.rss = "250 MB"
quality.map_drop = "2 points"
quality.map_drop_asymmetric = "2 points"
quality.bit_flips = { limit = "5 %", level = "warn" }
""",
}

COMMANDS = """
train --system dlbhc --encoder smallconv --bits 24 --data digits --epochs 20 --lr 0.002 --optimizer adam -o base.safetensors
compress base.safetensors --recipe recipe.toml --data digits -o small.safetensors
evaluate base.safetensors --data digits -o base-quality.json
evaluate small.safetensors --data digits --against base.safetensors -o quality.json
compile base.safetensors --target host -o base.bundle
compile small.safetensors --target host -o small.bundle
profile base.bundle --quality base-quality.json -o base.json
profile small.bundle --quality quality.json -o small.json
check small.json --budget budget.toml --baseline base.json --why
report base.json small.json -o report.html
"""

_ENDING = ("storage.file", "quality.map", "quality.map_drop", "quality.bit_flips", "latency.p50", "memory.rss")


def verb(
    context: typer.Context,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to write all files to.")] = Path(
        "hashpress-demo"
    ),
    force: options.Force = False,
    seed: options.Seed = 0,
    threads: options.Threads = 1,
) -> None:
    """Train on embedded digits, compress, evaluate, compile, profile, check a budget and write a report, in about a minute."""
    from ..core.files import atomic_write

    _check_folder(output, force=force)
    program = cast("Any", context.find_root().command)
    output.mkdir(parents=True, exist_ok=True)
    (output / "base.checkpoint").unlink(missing_ok=True)  # of a demo that was interrupted
    shutil.rmtree(output / "small.safetensors.work", ignore_errors=True)
    for name, text in FILES.items():
        with atomic_write(output / name, "w") as handle:
            handle.write(text)
    for line in COMMANDS.strip().splitlines():
        arguments = arguments_of(line, output, seed, threads)
        console().print(f"\n[bold cyan]$ hashpress {shlex.join(arguments)}[/bold cyan]", soft_wrap=True)
        program.main(args=arguments, prog_name="hashpress", standalone_mode=False, obj=arguments)
    _end(output)


def _check_folder(folder: Path, *, force: bool) -> None:
    """Check that ``folder`` is new, empty, or one that a demo wrote.

    Raises:
        InputError: it is a file, or a folder with other files, which the demo would replace.
    """
    from ..core.errors import InputError

    if folder.is_file():
        raise InputError(f"-o {folder} is a file; name a folder")
    if force or not folder.is_dir() or not any(folder.iterdir()):
        return
    same = [(folder / name).is_file() and (folder / name).read_bytes() == text.encode() for name, text in FILES.items()]
    if not all(same):
        raise InputError(f"-o {folder} holds files that no demo wrote; name a new folder, or add --force")


def arguments_of(line: str, folder: Path, seed: int, threads: int) -> list[str]:
    """Return the arguments of one command of the demo, with its files in ``folder``."""
    suffixes = (".safetensors", ".json", ".toml", ".bundle", ".html")
    words = [str(folder / word) if word.endswith(suffixes) else word for word in line.split()]
    seeded = ["--seed", str(seed)] if words[0] in ("train", "compress") else []
    threaded = ["--threads", str(threads)] if words[0] in ("train", "compress", "evaluate") else []
    return [*words, *seeded, *threaded]


def _end(folder: Path) -> None:
    from ..profiling.report import load_report, show_metric

    base, small = load_report(folder / "base.json"), load_report(folder / "small.json")
    both = base.figures, small.figures
    rows = [(name, *(show_metric(name, one[name].value) if name in one else "" for one in both)) for name in _ENDING]
    console().print(table("", ("", "original", "compressed"), rows, right=(1, 2)))
    console().print(f"\nreport: {folder / 'report.html'}", markup=False, soft_wrap=True)
