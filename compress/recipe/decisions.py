"""Decisions of passes as text: layer by layer, with skipped layers grouped by reason."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from ...core.model import Json

Data = Mapping[str, Json]  # of a decision
BY_LAYER = ("layers", "widths", "density")  # tables of the layers that a pass changes
BEFORE_AND_AFTER = ("macs", "parameters", "widths")
NOT_DESCRIBED = ("seed",)
REASONS = 3  # shown in one line; the ledger file has all
ITEMS = 9  # of a list
ALL = "*"  # the whole network


def treated(data: Data) -> int | None:
    """Return how many layers a pass on structure or values changes, or None if its decision is not by layer."""
    table = next((data[key] for key in BY_LAYER if key in data), None)
    if table is None:
        return None
    return sum(not isinstance(plan, Mapping) or plan.get("removed") != 0 for plan in table.values())


def skipped_in_brief(data: Data) -> str:
    """Return one line that says how many layers were skipped and why, or that nothing was done; empty if none was skipped."""
    reasons = _by_reason(data)
    count = sum(len(paths) for paths in reasons.values())
    often = sorted(reasons, key=lambda reason: -len(reasons[reason]))
    described = [reason if len(reasons) == 1 else f"{reason} ({len(reasons[reason])})" for reason in often[:REASONS]]
    why = "; ".join([*described, f"{len(often) - REASONS} more reasons"] if len(often) > REASONS else described)
    if treated(data) == 0:
        return f"nothing was done: {why or 'no layer is of the kind, or has anything, that this changes'}"
    return f"skipped, {count} layer{'s' * (count > 1)}: {why}" if count else ""


def described(data: Data) -> list[str]:
    """Return the whole decision: one line for all layers, one for each layer, and one for each reason to skip layers."""
    rows: dict[str, list[str]] = {}
    whole: list[str] = []
    for key, value in data.items():
        if key == "skipped":
            continue
        if not isinstance(value, Mapping):
            whole.append(_item(key, value))
            continue
        for path, plan in value.items():
            items = plan.items() if isinstance(plan, Mapping) else [(key, plan)]
            rows.setdefault(path, []).extend(_item(*item) for item in items if item[0] not in NOT_DESCRIBED)
    width = max(map(len, rows), default=0)
    lines = ["no layer is changed"] if treated(data) == 0 else []
    lines += [", ".join(whole)] if whole else []
    lines += [f"{path:{width}}  {', '.join(items)}" for path, items in rows.items()]
    return lines + [
        f"skipped: {reason}" if paths == [ALL] else f"skipped: {', '.join(paths)}: {reason}"
        for reason, paths in _by_reason(data).items()
    ]


def _by_reason(data: Data) -> dict[str, list[str]]:
    """Return the skipped layers by reason."""
    found: dict[str, list[str]] = {}
    for path, reason in (data.get("skipped") or {}).items():
        found.setdefault(str(reason), []).append(path)
    return found


def _item(key: str, value: Json) -> str:
    name = key.replace("_", " ")
    if isinstance(value, list | tuple):
        if key in BEFORE_AND_AFTER and len(value) == 2:
            return f"{name} {_number(value[0])} -> {_number(value[1])}"
        more = f" and {len(value) - ITEMS} more" if len(value) > ITEMS else ""
        return f"{name} {' '.join(_number(item) for item in islice(value, ITEMS))}{more}".rstrip()
    return f"{name} {_number(value)}"


def _number(value: Json) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
