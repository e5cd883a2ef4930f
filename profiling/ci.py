"""Output of ``hashpress check``: plain text, a Markdown summary, or GitHub annotations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .budget import Excess
from .report import Report, show


def text(report: Report, excesses: Sequence[Excess], baseline: Report | None = None, why: bool = False) -> str:  # noqa: ARG001  # all formats take the same arguments
    """Return one line per excess, with its contributors below it if ``why`` is set, and reasons for noisy times."""
    lines = []
    for excess in excesses:
        lines += [f"{excess.level:<5} {excess}", *(f"        {reason}" for reason in excess.why if why)]
    timed = any(excess.metric.startswith("latency.") for excess in excesses)
    lines += [f"noisy {reason}" for reason in report.noise if timed]
    return "\n".join(lines or [f"{report.name}: within budget"]) + "\n"


def markdown(report: Report, excesses: Sequence[Excess], baseline: Report | None = None, why: bool = True) -> str:
    """Return a Markdown table with one row per figure, and its change against ``baseline`` if there is one."""
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
        rows += [f"- {excess}", *(f"  - {reason}" for reason in excess.why if why)]
    return "\n".join(rows).rstrip() + "\n"


def github(report: Report, excesses: Sequence[Excess], baseline: Report | None = None, why: bool = True) -> str:  # noqa: ARG001
    """Return GitHub workflow commands, one line per excess."""
    lines = []
    for excess in excesses:
        level = "warning" if excess.level == "warn" else "error"
        message = _escaped("; ".join([f"{report.name}: {excess}", *(excess.why if why else ())]))
        lines.append(f"::{level} title={_escaped(f'over budget: {excess.metric}', ',:')}::{message}\n")
    return "".join(lines)


STYLES: dict[str, Callable[[Report, Sequence[Excess], Report | None, bool], str]] = {
    "text": text,
    "markdown": markdown,
    "github": github,
}


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _change(now: float, before: float) -> str:
    if before == 0:
        return "0 %" if now == 0 else "new"
    return f"{100 * (now - before) / before:+.1f} %"


def _escaped(message: str, more: str = "") -> str:
    for sign in "%\r\n" + more:  # % first, because the escapes contain it
        message = message.replace(sign, f"%{ord(sign):02X}")
    return message
