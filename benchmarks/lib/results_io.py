"""Result files: every benchmark writes one, with what it ran on and how far each asked-for figure was reached."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hashpress.core.files import atomic_write
from hashpress.profiling import machine
from hashpress.profiling.metrics import KINDS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks" / "results"
_OPERATORS = {"<=": lambda value, limit: value <= limit, ">=": lambda value, limit: value >= limit}


@dataclass(frozen=True)
class Target:
    """One figure that was asked for; ``reached`` follows from the rest.

    ``beyond`` marks a line that nobody asked for: stricter than what was, or the same on another network or setting. It is
    printed like the others and decides nothing.
    """

    name: str
    value: float
    op: str  # <= or >=
    limit: float
    beyond: bool = False

    @property
    def reached(self) -> bool:
        """Whether the value is on the right side of the limit; NaN never is."""
        return bool(_OPERATORS[self.op](self.value, self.limit))

    def to_json(self) -> dict[str, Any]:
        """Return the fields and ``reached``; ``beyond`` only where it is so."""
        fields = {key: value for key, value in asdict(self).items() if key != "beyond"}
        return {**fields, "reached": self.reached, **({"beyond": True} if self.beyond else {})}


def write_result(
    name: str,
    values: dict[str, Any],
    targets: list[Target],
    *,
    kind: str,
    seed: int = 0,
    threads: int = 1,
    folder: Path = FOLDER,
) -> Path:
    """Write ``results/NAME.json`` and return its path.

    ``values`` holds the measured numbers, in any shape; ``kind`` says what they are (measured, instructions, ...).
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r} of evidence (there are: {', '.join(KINDS)})")
    about = machine.describe()
    content = {
        "name": name,
        "kind": kind,
        "seed": seed,
        "threads": threads,
        "versions": machine.versions(),
        "machine": about,
        "noise": machine.noise(about, threads),
        "targets": [target.to_json() for target in targets],
        "values": values,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    with atomic_write(path, "w") as handle:
        json.dump(content, handle, indent=1, allow_nan=False)
        handle.write("\n")
    return path
