"""What a pull request shows: a markdown summary of reports and excesses, and GitHub's annotation lines."""

from __future__ import annotations

from collections.abc import Sequence

from .budget import Excess
from .report import Report, show


def markdown(report: Report, excesses: Sequence[Excess], baseline: Report | None = None) -> str:
    """Return a summary table, one row a figure, with the change against ``baseline`` when there is one."""
    over = {excess.metric: excess for excess in excesses}
    head = ["figure", "value", *(["baseline", "change"] if baseline else []), "kind", "budget"]
    rows = [f"### {report.name} for {report.target} on {report.device}", "", _row(head), _row(["---"] * len(head))]
    for name, figure in report.figures.items():
        cells = [name, str(figure)]
        if baseline:
            before = baseline.figures.get(name)
            cells += [str(before), _change(figure.value, before.value)] if before else ["", "new"]
        excess = over.get(name)
        verdict = f"**{excess.level}**: {show(excess.limit, figure.unit)}" if excess else ""
        rows.append(_row([*cells, figure.kind, verdict]))
    rows += ["", *(f"- noisy: {reason}" for reason in report.noise)]
    for excess in excesses:
        rows += [f"- {excess}", *(f"  - {reason}" for reason in excess.why)]
    return "\n".join(rows).rstrip() + "\n"


def annotations(excesses: Sequence[Excess], file: str = "") -> str:
    """Return GitHub's workflow commands, one line an excess; they show beside the budget file when it is named."""
    lines = []
    for excess in excesses:
        level = "warning" if excess.level == "warn" else "error"
        place = f"file={_escaped(file, ',:')}," if file else ""
        text = _escaped("; ".join([str(excess), *excess.why]))
        lines.append(f"::{level} {place}title={_escaped(f'over budget: {excess.metric}', ',:')}::{text}")
    return "".join(f"{line}\n" for line in lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _change(now: float, before: float) -> str:
    if before == 0:
        return "0 %" if now == 0 else "new"
    return f"{100 * (now - before) / before:+.1f} %"


def _escaped(text: str, more: str = "") -> str:
    for sign in "%\r\n" + more:  # % first: it introduces the escapes themselves
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text
