"""Print every figure that was asked for, reached or missed, from results/*.json; exit 1 when one is missed.

python benchmarks/status.py [FOLDER]
"""

from __future__ import annotations

import json
import operator
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "results"
OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}


def rows(folder: Path) -> list[tuple[str, str, float, str, float, bool]]:
    """Return (file, name, value, op, limit, reached) of all targets; reached is computed anew, not believed."""
    found = []
    for path in sorted(folder.glob("*.json")):
        for target in json.loads(path.read_text(encoding="utf-8"))["targets"]:
            reached = OPERATORS[target["op"]](target["value"], target["limit"])
            if reached != target["reached"]:
                raise SystemExit(
                    f"{path.name}: {target['name']} says reached {target['reached']}, its value says {reached}"
                )
            found.append((path.stem, target["name"], target["value"], target["op"], target["limit"], reached))
    return found


def main(folder: Path = FOLDER) -> int:
    """Print the table and return the exit code; no target at all is a miss too."""
    found = rows(folder)
    widths = [max((len(row[column]) for row in found), default=0) for column in (0, 1)]
    for file, name, value, op, limit, reached in found:
        mark = "reached" if reached else "MISSED"
        print(f"{mark:<8} {file:<{widths[0]}}  {name:<{widths[1]}}  {value:>12.6g} {op} {limit:g}")
    missed = sum(not row[-1] for row in found)
    print(f"{len(found) - missed} of {len(found)} targets reached")
    return 1 if missed or not found else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
