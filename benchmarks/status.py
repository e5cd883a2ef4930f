"""Print every figure of results/*.json with its limit, reached or missed, and how many of all are reached.

python -m benchmarks.status [FOLDER]
"""

from __future__ import annotations

import json
import operator
import sys
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "results"
OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}


class Row(NamedTuple):
    """One figure of one result file."""

    file: str
    name: str
    value: float
    op: str
    limit: float
    reached: bool


def rows(folder: Path) -> list[Row]:
    """Return all targets; reached is computed anew, not believed."""
    found = []
    for path in sorted(folder.glob("*.json")):
        for target in json.loads(path.read_text(encoding="utf-8"))["targets"]:
            reached = OPERATORS[target["op"]](target["value"], target["limit"])
            if reached != target["reached"]:
                raise SystemExit(
                    f"{path.name}: {target['name']} says reached {target['reached']}, its value says {reached}"
                )
            values = (target[key] for key in ("name", "value", "op", "limit"))
            found.append(Row(path.stem, *values, reached))
    return found


def summary(found: list[Row]) -> str:
    """Return how many of all figures are reached, in words."""
    return f"{sum(row.reached for row in found)} of {len(found)} figures reach their limits"


def main(folder: Path = FOLDER) -> int:
    """Print the table and return the exit code: 1 when a figure is missed, or when there is none."""
    found = rows(folder)
    show(found)
    print(summary(found))
    return 0 if found and all(row.reached for row in found) else 1


def show(found: list[Row]) -> None:
    """Print a line for every row."""
    files, names = (max((len(row[column]) for row in found), default=0) for column in (0, 1))
    for row in found:
        mark = "reached" if row.reached else "MISSED"
        print(f"{mark:<8} {row.file:<{files}}  {row.name:<{names}}  {row.value:>12.6g} {row.op} {row.limit:g}")


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
