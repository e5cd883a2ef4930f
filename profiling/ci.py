"""Output of ``hashpress check``: plain text, a Markdown summary, GitHub annotations, JUnit XML, GitLab Code Quality."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from xml.etree import ElementTree as ET

from .budget import Excess
from .comparable import mismatch
from .metrics import METRICS
from .report import Report, show_metric

Style = Callable[[Report, Sequence[Excess], Report | None, bool, Sequence[str]], str]
_SEVERITY = {"error": "major", "warn": "minor", "inconclusive": "info"}


def text(
    report: Report,
    excesses: Sequence[Excess],
    baseline: Report | None = None,  # noqa: ARG001  # all formats take the same arguments
    why: bool = False,
    limited: Sequence[str] = (),  # noqa: ARG001
) -> str:
    """Return one line per excess, with its contributors below it if ``why`` is set, and reasons for noisy times."""
    lines = []
    for excess in excesses:
        level = "?" if excess.inconclusive else excess.level
        lines += [f"{level:<5} {excess}", *(f"        {reason}" for reason in excess.why if why)]
    timed = any(excess.metric.startswith("latency.") for excess in excesses)
    lines += [f"noisy {reason}" for reason in report.noise if timed]
    return "\n".join(lines or [f"{report.name}: within budget"]) + "\n"


def markdown(
    report: Report,
    excesses: Sequence[Excess],
    baseline: Report | None = None,
    why: bool = True,
    limited: Sequence[str] = (),  # noqa: ARG001
) -> str:
    """Return a Markdown table with one row per figure, and its change against ``baseline`` if there is one."""
    over = {excess.metric: excess for excess in excesses}
    head = ["figure", "value", *(["baseline", "change"] if baseline else []), "kind", "budget"]
    rows = [f"### {report.name} for {report.target} on {report.device}", "", _row(head), _row(["---"] * len(head))]
    for name, figure in report.figures.items():
        cells = [name, show_metric(name, figure.value)]
        if baseline:
            before = baseline.figures.get(name)
            cells += [show_metric(name, before.value), change(name, report, baseline)] if before else ["", "new"]
        excess = over.get(name)
        verdict = f"**{excess.verdict}**: {show_metric(name, excess.limit)}" if excess else ""
        rows.append(_row([*cells, figure.kind, verdict]))
    rows += ["", *(f"- noisy: {reason}" for reason in report.noise)]
    for excess in excesses:
        rows += [f"- {excess}", *(f"  - {reason}" for reason in excess.why if why)]
    return "\n".join(rows).rstrip() + "\n"


def github(
    report: Report,
    excesses: Sequence[Excess],
    baseline: Report | None = None,  # noqa: ARG001
    why: bool = True,
    limited: Sequence[str] = (),  # noqa: ARG001
) -> str:
    """Return GitHub workflow commands, one line per excess."""
    lines = []
    for excess in excesses:
        level = "error" if excess.verdict == "error" else "warning"
        message = _escaped("; ".join([f"{report.name}: {excess}", *(excess.why if why else ())]))
        what = "inconclusive" if excess.inconclusive else "over budget"
        lines.append(f"::{level} title={_escaped(f'{what}: {excess.metric}', ',:')}::{message}\n")
    return "".join(lines)


def junit(
    report: Report,
    excesses: Sequence[Excess],
    baseline: Report | None = None,  # noqa: ARG001
    why: bool = True,
    limited: Sequence[str] = (),
) -> str:
    """Return JUnit XML with one test case per limited figure; warnings pass with a note, inconclusive times are skipped."""
    over = {excess.metric: excess for excess in excesses}
    names = list(dict.fromkeys([*limited, *over]))
    verdicts = [excess.verdict for excess in excesses]
    counts = {"tests": len(names), "failures": verdicts.count("error"), "skipped": verdicts.count("inconclusive")}
    attributes = {"name": f"hashpress budget of {report.name}", "errors": "0", **{k: str(v) for k, v in counts.items()}}
    suite = ET.Element("testsuite", attributes)
    for name in names:
        case = ET.SubElement(suite, "testcase", classname=f"hashpress.{_xml(report.name)}", name=name)
        excess = over.get(name)
        if excess is None:
            continue
        body = "\n".join([str(excess), *(excess.why if why else ())])
        if excess.verdict == "warn":
            ET.SubElement(case, "system-out").text = _xml(body)
        else:
            element = ET.SubElement(
                case, "failure" if excess.verdict == "error" else "skipped", message=_xml(str(excess))
            )
            element.text = _xml(body)
    suites = ET.Element("testsuites", {k: str(v) for k, v in counts.items()})
    suite.set("name", _xml(attributes["name"]))
    suites.append(suite)
    ET.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(suites, encoding="unicode")}\n'


def gitlab(
    report: Report,
    excesses: Sequence[Excess],
    baseline: Report | None = None,  # noqa: ARG001
    why: bool = True,
    limited: Sequence[str] = (),  # noqa: ARG001
) -> str:
    """Return a GitLab Code Quality report: a JSON list with one issue per excess."""
    issues = [
        {
            "description": "; ".join([f"{report.name}: {excess}", *(excess.why if why else ())]),
            "check_name": f"hashpress {excess.metric}",
            "fingerprint": hashlib.sha256(f"{report.name} {report.target} {excess.metric}".encode()).hexdigest(),
            "severity": _SEVERITY[excess.verdict],
            "location": {"path": report.name, "lines": {"begin": 1}},
        }
        for excess in excesses
    ]
    return json.dumps(issues, indent=1) + "\n"


STYLES: dict[str, Style] = {"text": text, "markdown": markdown, "github": github, "junit": junit, "gitlab": gitlab}


def change(name: str, report: Report, baseline: Report) -> str:
    """Return the change of a figure that both reports have: ``+5.0 %``, for shares ``-1.2 points``."""
    found = mismatch(name, report, baseline)
    if found and found.severity == "refuse":
        return "not comparable"
    now, before = report.figures[name].value, baseline.figures[name].value
    if METRICS[name].unit == "share":
        points = 100 * (now - before)
        return "0 points" if abs(points) < 5e-4 else f"{points:+.2f} points"
    if before == 0:
        return "0 %" if now == 0 else "new"
    return f"{100 * (now - before) / before:+.1f} %"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _xml(message: str) -> str:
    """Return ``message`` without the control characters that XML cannot hold."""
    return "".join(sign for sign in message if sign in "\t\n" or ord(sign) >= 32)


def _escaped(message: str, more: str = "") -> str:
    for sign in "%\r\n" + more:  # % first, because the escapes contain it
        message = message.replace(sign, f"%{ord(sign):02X}")
    return message
