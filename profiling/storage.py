"""Storage of a bundle: the bytes of each tensor of the model file, the library, the manifest and the golden codes."""

from __future__ import annotations

from pathlib import Path

from ..modelfile.reader import sections
from .report import Figure, Part

_FILES = {"lib.so": "library", "manifest.json": "manifest", "golden.npz": "golden"}
MODEL_FILE = "model.safetensors"


def model_parts(path: Path) -> list[Part]:
    """Return the parts of a model file; their bytes add up to its length."""
    return [Part(section.name, section.kind, section.bytes) for section in sections(path)]


def bundle_parts(folder: Path) -> list[Part]:
    """Return the parts of all files in a bundle; their bytes add up to the lengths of the files."""
    parts: list[Part] = []
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        name = path.relative_to(folder).as_posix()
        if name == MODEL_FILE:
            parts += model_parts(path)
        else:
            parts.append(Part(name, _FILES.get(name, "other"), path.stat().st_size))
    return parts


def storage_figures(parts: list[Part]) -> dict[str, Figure]:
    """Return the figures ``storage.*``: the sums for the model file, the bundle and each group."""
    groups: dict[str, int] = {}
    for part in parts:
        groups[part.group] = groups.get(part.group, 0) + part.bytes
    bundle = sum(groups.values())
    outside = sum(groups.get(name, 0) for name in (*_FILES.values(), "other"))
    sums = {"file": bundle - outside, "bundle": bundle, **groups}
    return {f"storage.{name}": Figure(size, "B", "measured") for name, size in sums.items()}
