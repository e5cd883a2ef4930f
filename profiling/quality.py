"""Quality figures from the JSON of ``hashpress evaluate``, read without torch."""

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
    """Return the JSON written by ``hashpress evaluate -o``.

    Raises:
        ReportError: no such file, not JSON, or not an evaluation.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as fault:
        raise ReportError(f"cannot read evaluation {path}: {fault.strerror}") from fault
    except (ValueError, RecursionError) as fault:
        raise ReportError(
            f"{path} is not an evaluation: not JSON ({fault}); write one: hashpress evaluate ... -o {path}"
        ) from fault
    try:
        quality_figures(value)
    except ReportError as fault:
        raise ReportError(
            f"{path} is not an evaluation: {fault}; write one: hashpress evaluate ... -o {path}"
        ) from fault
    return dict(value)


def require_same_network(value: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    """Check that an evaluation is one of the model file that a bundle holds or was compiled from.

    An evaluation of earlier versions names no model file and passes; see :func:`names_network`.

    Raises:
        ReportError: it is the evaluation of another network.
    """
    if not names_network(value):
        return
    evaluated = value["model"]
    known = {manifest["files"]["model.safetensors"]["sha256"], (manifest.get("source") or {}).get("sha256")}
    if evaluated["sha256"] not in known:
        raise ReportError(
            f"the evaluation is of another network: it evaluated {evaluated.get('name')} ({evaluated['sha256'][:12]}), the "
            f"bundle holds {manifest['files']['model.safetensors']['sha256'][:12]}; evaluate the bundle's model.safetensors"
        )


def names_network(value: Mapping[str, Any]) -> bool:
    """Return whether an evaluation says which model file it evaluated."""
    model = value.get("model")
    return isinstance(model, Mapping) and isinstance(model.get("sha256"), str)


def quality_figures(value: Mapping[str, Any]) -> dict[str, Figure]:
    """Return the figures in the JSON of an evaluation: mAP, its drop, and the share of flipped bits.

    Raises:
        ReportError: the JSON is not an evaluation.
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
        raise ReportError(f"field {fault} is missing") from fault
    except (TypeError, AttributeError) as fault:
        raise ReportError(f"a field has the wrong type ({fault})") from fault
    return {f"quality.{name}": Figure(share, "share", "measured") for name, share in shares.items()}
