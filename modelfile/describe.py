"""Summary of a model file as JSON or text, read without torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.units import format_bytes
from .reader import read_manifest, sections


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return architecture, edits, bytes by class and by tensor, and history as plain JSON.

    Raises:
        ModelFileError: not a model file, or damaged.
    """
    manifest = read_manifest(path)
    parts = sections(path)
    classes: dict[str, int] = {}
    tensors: dict[str, int] = {}
    for part in parts:
        classes[part.kind] = classes.get(part.kind, 0) + part.bytes
        tensors[part.name] = tensors.get(part.name, 0) + part.bytes
    return {
        "path": str(path),
        "bytes": Path(path).stat().st_size,
        "arch": manifest["arch"],
        "edits": manifest["edits"],
        "classes": classes,
        "tensors": tensors,
        "history": manifest["history"],
    }


def describe_text(path: str | os.PathLike[str], *, tensors: bool = False) -> str:
    """Return the content of :func:`describe` as readable text, bytes by layer or by tensor."""
    summary = describe(path)
    arch = summary["arch"]
    lines = [
        f"{path}: {format_bytes(summary['bytes'])}",
        f"{arch['encoder']}, {arch['bits']} bits, input {tuple(arch['input']['shape'])}",
        "",
        "bytes by class",
        *_columns(summary["classes"], summary["bytes"]),
        "",
        *_by_layer(summary, tensors=tensors),
    ]
    if summary["edits"]:
        lines += ["", "edits", *(f"  {pairs(edit)}" for edit in summary["edits"])]
    if summary["history"]:
        lines += ["", "history"]
    for step in summary["history"]:
        seed = f", seed {step['seed']}" if "seed" in step else ""
        lines.append(f"  {step['name']}{seed}: {pairs(step.get('settings', {}))}")
        lines += [f"    {side}: {pairs(step[side])}" for side in ("before", "after") if step.get(side)]
    return "\n".join(lines)


def _by_layer(summary: Mapping[str, Any], *, tensors: bool) -> list[str]:
    if tensors:
        return ["bytes by tensor", *_columns(summary["tensors"], summary["bytes"])]
    layers: dict[str, int] = {}
    for name, size in summary["tensors"].items():
        layer = name.partition(".form.")[0]
        layer = layer.rpartition(".")[0] or layer
        layers[layer] = layers.get(layer, 0) + size
    return ["bytes by layer (each tensor: --tensors)", *_columns(layers, summary["bytes"])]


def _columns(sizes: dict[str, int], whole: int) -> list[str]:
    width = max(map(len, sizes), default=0)
    return [f"  {name:<{width}} {size:>12,} {100 * size / max(whole, 1):6.1f} %" for name, size in sizes.items()]


def pairs(value: Mapping[str, Any]) -> str:
    """Return a mapping as ``key value, key value`` on one line."""
    return ", ".join(
        f"{key} {entry:.4g}" if isinstance(entry, float) else f"{key} {entry}" for key, entry in value.items()
    )
