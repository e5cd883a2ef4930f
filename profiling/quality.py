"""The JSON of an evaluation (see :mod:`.quality`), read without torch: reports carry it to devices that have none."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import ReportError
from .report import Figure

SIDES = ("symmetric", "asymmetric", "original")
_CURVES = ("curve_precision", "curve_recall")


def load_evaluation(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the JSON that ``hashpress evaluate -o`` wrote.

    Raises:
        ReportError: no such file, not JSON, or not an evaluation.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as fault:
        raise ReportError(f"cannot read evaluation {path}: {fault.strerror}") from fault
    except (ValueError, RecursionError) as fault:
        raise ReportError(f"{path} is no evaluation: not JSON ({fault})") from fault
    try:
        quality_figures(value)
    except ReportError as fault:
        raise ReportError(f"{path} is no evaluation: {fault}; write one: hashpress evaluate ... -o {path}") from fault
    return dict(value)


def quality_figures(value: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the figures of an evaluation's JSON: mAP, what was lost, and the share of flipped bits.

    Raises:
        ReportError: it is not an evaluation.
    """
    try:
        maps = {side: value[side]["map"] for side in SIDES if side in value}
        if not all(isinstance(value[side][curve], list) for side in maps for curve in _CURVES):
            raise ReportError("a curve is not a list")
        shares = {"map": maps["symmetric"]}
        if len(maps) > 1:
            shares["map_drop"] = maps["original"] - maps["symmetric"]
            shares["map_asymmetric"] = maps["asymmetric"]
            shares["map_drop_asymmetric"] = maps["original"] - maps["asymmetric"]
            shares["bit_flips"] = value["flips"]["rate"]
    except KeyError as fault:
        raise ReportError(f"{fault} is missing") from fault
    except (TypeError, AttributeError) as fault:
        raise ReportError(f"a field has another form ({fault})") from fault
    return {f"quality.{name}": Figure(share, "share", "measured") for name, share in shares.items()}
