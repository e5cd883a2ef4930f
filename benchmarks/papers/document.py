"""Write ``docs/papers.md`` from the result files of the papers; ``--check`` only says whether it is up to date.

``python benchmarks/papers/document.py [--check]``
"""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HEAD = """# Papers beside hashpress

Every table is written by `python benchmarks/papers/document.py` from `benchmarks/results/`; the script named at a table
makes its figures again. *Recalled* marks published figures that were not checked against the paper itself. "not run" is a
cell that no machine of ours has computed; nothing stands in for it.
"""
NOT_RUN = "not run"


def papers() -> dict[str, Path]:
    """Return the scripts that keep cells, by the name of their result file."""
    found = {}
    for path in sorted(HERE.glob("*.py")):
        book = re.search(r'^BOOK = Book\("(\w+)"\)', path.read_text(encoding="utf-8"), re.MULTILINE)
        if book:
            found[book[1]] = path
    return found


def document(results: Path, scripts: dict[str, Path]) -> str:
    """Return the page: one section for every script, in the order of their names."""
    sections = [HEAD]
    for name, script in scripts.items():
        path = results / f"{name}.json"
        title = (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or name).splitlines()[0]
        sections.append(f"## {title.rstrip(':.')}\n")
        if not path.exists():
            sections.append(f"`{script.relative_to(ROOT)}`: {NOT_RUN}, there is no result file.\n")
            continue
        result = json.loads(path.read_text(encoding="utf-8"))
        links = f"[script](../{script.relative_to(ROOT)}), [result file](../benchmarks/results/{name}.json)"
        count, earlier = (len(result["values"].get(key, ())) for key in ("ours", "earlier"))
        before = f", {earlier} of them measured before the others" if earlier else ""
        sections.append(f"{links}; {result['machine']['cpu']}, {count} cells{before}.\n")
        sections += [part for part in (rows(result), targets(result), cells(result)) if part]
    return "\n".join(sections)


def rows(result: dict[str, Any]) -> str:
    """Return the table of published figures beside ours."""
    found = result["values"].get("rows", [])
    if not found:
        notes = [f"{key}: {_plain(value)}" for key, value in result["values"]["paper"].items()]
        return "".join(f"- {note}\n" for note in notes)
    lines = ["| published cell | unit | published | ours | difference | why they differ |", "|---|---|---|---|---|---|"]
    for row in found:
        published, ours = row["published"], row["ours"]
        away = "" if None in (published, ours) else f"{ours - published:+.4g}"
        there = "unknown" if published is None else f"{_plain(published)} ({_mark(row['source'])})"
        here = NOT_RUN if ours is None else _plain(ours)
        lines.append(f"| {row['what']} | {row['unit']} | {there} | {here} | {away} | {row['why']} |")
    return "\n".join(lines) + "\n"


def targets(result: dict[str, Any]) -> str:
    """Return the table of the figures that were asked for, and that of those beyond."""
    tables = []
    for what, beyond in (("asked for", False), ("beyond what was asked for", True)):
        lines = [f"| {what} | found | limit | |", "|---|---|---|---|"]
        for one in result["targets"]:
            if one.get("beyond", False) is beyond:
                mark = "reached" if one["reached"] else "**missed**"
                lines.append(
                    f"| {one['name']} | {_plain(one['value'])} | {one['op']} {_plain(one['limit'])} | {mark} |"
                )
        if len(lines) > 2:
            tables.append("\n".join(lines) + "\n")
    return "\n".join(tables)


def cells(result: dict[str, Any]) -> str:
    """Return all our cells, folded: a table for every kind of figures they hold."""
    kinds: dict[tuple[str, ...], list[tuple[str, dict[str, Any]]]] = {}
    for name, cell in result["values"]["ours"].items():
        kinds.setdefault(tuple(cell), []).append((name, cell))
    lines = ["<details><summary>All our cells</summary>"]
    for keys, found in kinds.items():
        lines += ["", f"| cell | {' | '.join(key.replace('_', ' ') for key in keys)} |", "|---" * (len(keys) + 1) + "|"]
        lines += [f"| {name} | {' | '.join(_plain(cell[key]) for key in keys)} |" for name, cell in found]
    return "\n".join([*lines, "", "</details>", ""])


def _mark(source: str) -> str:
    return "*recalled*" if source.startswith("recalled") else source


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key} {_plain(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(_plain(one) for one in value)
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    return (
        f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else "" if value is None else str(value)
    )


def main(arguments: list[str]) -> int:
    """Return 0 when the page is up to date or was brought up to date."""
    path = ROOT / "docs" / "papers.md"
    new = document(ROOT / "benchmarks" / "results", papers())
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    if "--check" in arguments:
        return int(old != new)
    path.parent.mkdir(exist_ok=True)
    path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
