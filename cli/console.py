"""Console output of the commands: tables and JSON on stdout, warnings and progress bars on stderr, thread limits."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..core.progress import reporting

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TVM_NUM_THREADS")


def console(machine: bool = False) -> Console:
    """Return the console for readable text: stdout, or stderr if ``machine`` output goes to stdout."""
    width = None if sys.stdout.isatty() or machine else 120  # pipes and files have no width
    return Console(stderr=machine, highlight=False, soft_wrap=False, width=width)


def warn(message: str) -> None:
    """Print ``message`` as a warning on stderr, unless it is empty."""
    if message:
        console(machine=True).print(f"warning: {message}", markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print ``value`` as JSON on stdout."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[int] = ()) -> Table:
    """Return a table without borders, with a header if ``columns`` have names; columns in ``right`` are right-aligned."""
    result = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    result.show_header = any(columns)
    for place, column in enumerate(columns):
        result.add_column(column, justify="right" if place in right else "left", overflow="fold", no_wrap=place == 0)
    for row in rows:
        result.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
    return result


def set_threads(threads: int) -> None:
    """Limit the threads of torch, and of every numerical library that is imported afterwards."""
    for name in _THREADS:
        os.environ[name] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


@contextmanager
def progress() -> Iterator[None]:
    """Show progress bars for work in the block if stderr is a terminal and the program does not run in CI."""
    if not sys.stderr.isatty() or os.environ.get("CI", "").lower() in ("1", "true"):
        yield
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)
            if total is not None and done >= total:
                bars.remove_task(tasks.pop(what))

        with reporting(report):
            yield
