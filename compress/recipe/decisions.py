"""What a pass decided, as people read it: layer by layer before it runs, and what it left alone, with the reasons grouped."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from ...core.model import Json

Decision = Mapping[str, Json]
BY_LAYER = ("layers", "widths", "density")  # where passes on structure and values say which layers they treat
BEFORE_AND_AFTER = ("macs", "parameters", "widths")
UNTOLD = ("seed",)
REASONS = 3  # named in one line; the ledger's file has all
ITEMS = 9  # of a list
ALL = "*"  # stands for the network where a reason is about all of it


def treated(decision: Decision) -> int | None:
    """Return how many layers a pass on structure or values changes; None where the decision is not by layer."""
    table = next((decision[key] for key in BY_LAYER if key in decision), None)
    if table is None:
        return None
    return sum(not isinstance(plan, Mapping) or plan.get("removed") != 0 for plan in table.values())


def left_alone(decision: Decision) -> str:
    """Return in one line that nothing was done, or how many layers were left alone, and why; nothing if none was."""
    reasons = _by_reason(decision)
    count = sum(len(paths) for paths in reasons.values())
    often = sorted(reasons, key=lambda reason: -len(reasons[reason]))
    told = [reason if len(reasons) == 1 else f"{reason} ({len(reasons[reason])})" for reason in often[:REASONS]]
    why = "; ".join([*told, f"{len(often) - REASONS} more reasons"] if len(often) > REASONS else told)
    if treated(decision) == 0:
        return f"nothing was done: {why or 'no layer is of the kind, or has anything, that this changes'}"
    return f"left alone, {count} layer{'s' * (count > 1)}: {why}" if count else ""


def told(decision: Decision) -> list[str]:
    """Return the whole decision: what is for all layers, a line for each layer, a line for each reason to leave some alone."""
    rows: dict[str, list[str]] = {}
    whole: list[str] = []
    for key, value in decision.items():
        if key == "left":
            continue
        if not isinstance(value, Mapping):
            whole.append(_item(key, value))
            continue
        for path, plan in value.items():
            items = plan.items() if isinstance(plan, Mapping) else [(key, plan)]
            rows.setdefault(path, []).extend(_item(*item) for item in items if item[0] not in UNTOLD)
    width = max(map(len, rows), default=0)
    lines = ["no layer is changed"] if treated(decision) == 0 else []
    lines += [", ".join(whole)] if whole else []
    lines += [f"{path:{width}}  {', '.join(items)}" for path, items in rows.items()]
    return lines + [
        f"left alone: {reason}" if paths == [ALL] else f"left alone: {', '.join(paths)}: {reason}"
        for reason, paths in _by_reason(decision).items()
    ]


def _by_reason(decision: Decision) -> dict[str, list[str]]:
    """Return the layers that are left alone by reason."""
    found: dict[str, list[str]] = {}
    for path, reason in (decision.get("left") or {}).items():
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
