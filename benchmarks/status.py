"""Print every figure that was asked for, reached or missed, from results/*.json; exit 1 when one is missed.

Lines that go beyond what was asked for stand in front, reached or missed as well; they decide nothing.

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
    beyond: bool


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
            found.append(Row(path.stem, *values, reached, target.get("beyond", False)))
    return found


def main(folder: Path = FOLDER) -> int:
    """Print the tables and return the exit code; no target at all is a miss too."""
    found = rows(folder)
    asked, beyond = ([row for row in found if row.beyond is which] for which in (False, True))
    if beyond:
        show(beyond)
        print(f"{sum(row.reached for row in beyond)} of {len(beyond)} lines beyond what was asked for reached\n")
    show(asked)
    reached = sum(row.reached for row in asked)
    print(f"{reached} of {len(asked)} targets reached")
    return 0 if asked and reached == len(asked) else 1


def show(found: list[Row]) -> None:
    """Print a line for every row."""
    files, names = (max((len(row[column]) for row in found), default=0) for column in (0, 1))
    for row in found:
        mark = "reached" if row.reached else "MISSED"
        print(f"{mark:<8} {row.file:<{files}}  {row.name:<{names}}  {row.value:>12.6g} {row.op} {row.limit:g}")


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
