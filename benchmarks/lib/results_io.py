"""Result files: every benchmark writes one, with what it ran on, at which commit, and how far each figure reaches its limit."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hashpress.core.files import atomic_write
from hashpress.profiling import machine
from hashpress.profiling.metrics import KINDS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks" / "results"
UNKNOWN = "unknown"
GENERATED = (
    "benchmarks/results/",
    "docs/papers.md",
    "README.md",
)  # what benchmarks write: those before this one may have
_OPERATORS = {"<=": lambda value, limit: value <= limit, ">=": lambda value, limit: value >= limit}


@dataclass(frozen=True)
class Target:
    """One figure with its limit; ``reached`` follows from the rest."""

    name: str
    value: float
    op: str  # <= or >=
    limit: float

    @property
    def reached(self) -> bool:
        """Whether the value is on the right side of the limit; NaN never is."""
        return bool(_OPERATORS[self.op](self.value, self.limit))

    def to_json(self) -> dict[str, Any]:
        """Return the fields and ``reached``."""
        return {**asdict(self), "reached": self.reached}


@dataclass(frozen=True)
class Output:
    """Where results go. Only a folder other than ``results`` takes what an uncommitted source has measured."""

    folder: Path = FOLDER
    allow_dirty: bool = False

    def commit(self) -> str:
        """Return the commit of the source, with the suffix ``-dirty`` where that is allowed.

        Exits with a message when files are changed that the commit does not have, or when there is no repository.
        """
        changed, head = changes(ROOT), _git(ROOT, "rev-parse", "HEAD")
        if head and not changed:
            return head
        if self.allow_dirty and self.folder.resolve() != FOLDER.resolve():
            return f"{head}-dirty" if head else UNKNOWN
        why = f"these files are not committed: {', '.join(changed[:5])}" if head else "there is no git repository here"
        raise SystemExit(
            f"a result names the commit that it was measured at, and {why}; commit them first, or write elsewhere: "
            "--results FOLDER --allow-dirty"
        )

    @property
    def published(self) -> bool:
        """Whether this is the folder of the published results."""
        return self.folder.resolve() == FOLDER.resolve()


def changes(root: Path) -> list[str]:
    """Return the files below ``root`` that differ from its commit or are new, but for those that benchmarks write."""
    lines = (_git(root, "status", "--porcelain", "--untracked-files=all") or "").splitlines()
    names = [line[3:].split(" -> ")[-1].strip('"') for line in lines]
    return [name for name in names if not name.startswith(GENERATED)]


def output_of(arguments: Sequence[str]) -> tuple[list[str], Output]:
    """Take ``--results FOLDER`` and ``--allow-dirty`` from command-line arguments; return the others, and where results go."""
    rest, folder, allow_dirty = [], FOLDER, False
    words = iter(arguments)
    for word in words:
        if word == "--results":
            folder = Path(next(words, ""))
        elif word == "--allow-dirty":
            allow_dirty = True
        else:
            rest.append(word)
    if allow_dirty and folder.resolve() == FOLDER.resolve():
        raise SystemExit("--allow-dirty is for other folders than benchmarks/results: add --results FOLDER")
    return rest, Output(folder, allow_dirty)


def write_result(
    name: str,
    values: dict[str, Any],
    targets: list[Target],
    *,
    kind: str,
    settings: Mapping[str, Any] | str = UNKNOWN,
    settings_tried: int | str = UNKNOWN,
    seed: int = 0,
    threads: int = 1,
    output: Output | None = None,
) -> Path:
    """Write ``results/NAME.json`` and return its path.

    ``values`` holds the measured numbers, in any shape; ``kind`` says what they are (measured, instructions, ...).
    ``settings`` are the recipe or schedule used, ``settings_tried`` how many were looked at before these were
    chosen and on which data, or "unknown".
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r} of evidence (there are: {', '.join(KINDS)})")
    output = output or Output()
    about = machine.describe()
    content = {
        "name": name,
        "commit": output.commit(),
        "settings": settings if isinstance(settings, str) else dict(settings),
        "settings_tried": settings_tried,
        "kind": kind,
        "seed": seed,
        "threads": threads,
        "versions": machine.versions(),
        "machine": about,
        "noise": machine.noise(about, threads),
        "targets": [target.to_json() for target in targets],
        "values": values,
    }
    output.folder.mkdir(parents=True, exist_ok=True)
    path = output.folder / f"{name}.json"
    with atomic_write(path, "w") as handle:
        json.dump(content, handle, indent=1, allow_nan=False)
        handle.write("\n")
    return path


def _git(root: Path, *words: str) -> str | None:
    """Return what git prints, None when it fails or is not there."""
    try:
        done = subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.rstrip("\n") if done.returncode == 0 else None
