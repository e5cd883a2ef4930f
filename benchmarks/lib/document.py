"""Write ``docs/papers.md`` from ``claims.toml`` and the result files; ``--check`` only says whether it is up to date.

``python -m benchmarks.lib.document [--check]``
"""

from __future__ import annotations

import ast
import json
import re
import sys
import textwrap
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "benchmarks" / "papers"
RESULTS = ROOT / "benchmarks" / "results"
CLAIMS = Path(__file__).with_name("claims.toml")
NOT_RUN = "not run"
HEAD = f"""# Papers beside hashpress

What each paper claims, and how far hashpress gets. The command under a table makes its figures again; all of them are in
the result file.

- **reached**: at least as good as the published figure or the limit; *within*: worse by no more than that; **behind**: worse.
- *limit*: one that a line of the result file sets; *equal*: a difference within two standard errors.
- *recalled*, *public note*: a published figure from memory, or from public notes; not checked against the paper itself.
- *{NOT_RUN}*: no machine of ours has computed it, and nothing stands in for it. Empty cells: no such figure is published.

Written by `python -m benchmarks.lib.document`.
"""


@dataclass(frozen=True)
class Line:
    """One line of a table: the fields are explained in ``claims.toml``."""

    what: str
    row: str = ""
    ours: str = ""
    published: str = ""
    target: str = ""
    file: str = ""
    better: str = "less"
    near: float = 0.0
    why: str = ""


@dataclass(frozen=True)
class Paper:
    """What ``claims.toml`` says of one paper."""

    claim: str
    lines: tuple[Line, ...]
    peer: str = "published"
    source: str = ""


def papers() -> dict[str, Path]:
    """Return the scripts that keep cells, by the name of their result file."""
    found = {}
    for path in sorted(SCRIPTS.glob("*.py")):
        book = re.search(r'^BOOK = Book\("(\w+)"\)', path.read_text(encoding="utf-8"), re.MULTILINE)
        if book:
            found[book[1]] = path
    return found


def claims(path: Path = CLAIMS) -> dict[str, Paper]:
    """Return what stands on the page, by the name of the result file."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    return {
        name: Paper(**{**fields, "lines": tuple(Line(**line) for line in fields["lines"])})
        for name, fields in content.items()
    }


def document(results: Path, scripts: dict[str, Path], said: dict[str, Paper]) -> str:
    """Return the page: one section for every script, in the order of their names."""
    sections = [HEAD]
    for name, script in scripts.items():
        if name not in said:
            raise SystemExit(
                f"benchmarks/lib/claims.toml has no [{name}]; say there what of {name}.json stands on the page"
            )
        title = (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or name).splitlines()[0]
        command = f"`HASHPRESS_DATA=DIR python -m benchmarks.papers.{script.stem}`"
        sections.append(f"## {title.rstrip(':.')}\n\n{_wrapped(said[name].claim)}\n")
        path = results / f"{name}.json"
        if path.exists():
            sections += [_table(said[name], path), _figures_from(path, command)]
        else:
            sections.append(f"{command}: {NOT_RUN}, there is no result file.\n")
    return "\n".join(sections)


def _figures_from(path: Path, command: str) -> str:
    """Return where the figures of a section come from, and how many of its figures reach their limits."""
    result = json.loads(path.read_text(encoding="utf-8"))
    count, earlier = (len(result["values"].get(key, ())) for key in ("ours", "earlier"))
    before = f", {earlier} of them measured before the others" if earlier else ""
    parts = [
        f"{command}; [result file](../benchmarks/results/{path.name}): {count} cells on {result['machine']['cpu']}{before}"
    ]
    if path.with_suffix(".svg").exists():
        parts.append(f"[curves](../benchmarks/results/{path.stem}.svg)")
    if reached := [one["reached"] for one in result["targets"]]:
        parts.append(f"{sum(reached)} of {len(reached)} figures reach their limits")
    parts.append(f"settings looked at: {result.get('settings_tried', 'unknown')}")
    return _wrapped("; ".join(parts) + ".") + "\n"


def _table(paper: Paper, path: Path) -> str:
    """Return the table of one paper."""
    lines = [f"| | {paper.peer} | ours | verdict |", "|---|---|---|---|"]
    for line in paper.lines:
        cells = _asked(line, path) if line.target else _beside(line, paper, path)
        lines.append(f"| {line.what} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _asked(line: Line, path: Path) -> tuple[str, str, str]:
    """Return limit, value and verdict of a target."""
    result = json.loads((path.with_name(f"{line.file}.json") if line.file else path).read_text(encoding="utf-8"))
    found = next((one for one in result["targets"] if one["name"] == line.target), None)
    if found is None:
        return "", NOT_RUN, ""
    verdict = "reached" if found["reached"] else _behind(line.why)
    if found["name"].endswith("equal within two standard errors") and abs(found["value"]) <= abs(found["limit"]):
        verdict = "equal"
    return f"*limit* {found['op']} {_plain(found['limit'])}", _plain(found["value"]), verdict


def _beside(line: Line, paper: Paper, path: Path) -> tuple[str, str, str]:
    """Return a published figure, ours and the verdict."""
    values = json.loads(path.read_text(encoding="utf-8"))["values"]
    row: dict[str, Any] = next((one for one in values.get("rows", ()) if one["what"] == line.row), {})
    published = row.get("published") if line.row else _at(values, line.published)
    shown = "" if published is None else f"{_plain(published)} {_mark(row.get('source', paper.source))}".rstrip()
    if "{" in line.ours:
        return shown, _text(values, line.ours), ""
    ours = row.get("ours") if line.row else _at(values, line.ours)
    why = line.why or row.get("why", "")
    if ours is None:
        return shown, NOT_RUN, row.get("why", "")
    return shown, _plain(ours), "" if published is None else _verdict(published, ours, line, why)


def _verdict(published: float, ours: float, line: Line, why: str) -> str:
    behind = (ours - published) * {"less": 1, "more": -1}[line.better]
    if behind <= 0:
        return "reached"
    if behind <= line.near + 1e-9:
        return f"*within* {_plain(line.near)}"
    return _behind(why)


def _behind(why: str) -> str:
    return f"**behind**: {why}" if why else "**behind**"


def _at(values: Any, place: str) -> Any:
    """Return what stands at a place, None where nothing does."""
    for key in place.split(" / ") if place else ():
        values = values.get(key) if isinstance(values, dict) else None
    return values if place else None


def _text(values: dict[str, Any], template: str) -> str:
    """Return the text with the figures at its places; one that is not there makes all of it "not run"."""
    figures = {place: _at(values, place) for place in re.findall(r"\{(.+?)\}", template)}
    if None in figures.values():
        return NOT_RUN
    return re.sub(r"\{(.+?)\}", lambda found: _plain(figures[found[1]]), template)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _mark(source: str) -> str:
    """Return where a published figure is from, with the two kinds that were not checked in one form."""
    for unchecked in ("recalled", "public note"):
        if unchecked in source:
            return f"(*{unchecked}*)"
    return f"({source})" if source else ""


def _plain(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def main(arguments: list[str]) -> int:
    """Return 0 when the page is up to date or was brought up to date."""
    path = ROOT / "docs" / "papers.md"
    new = document(RESULTS, papers(), claims())
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    if "--check" in arguments:
        return int(old != new)
    path.parent.mkdir(exist_ok=True)
    path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
