"""The fields of edits and the tensors of compressed layers, checked without torch (docs/model-file.md, sections 3.3 and 7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...core.errors import ModelFileError

FIELDS: dict[str, str] = {  # names and types; a question mark: the field may be missing
    "folded": "layer:str into:str",
    "pruned": "layers:str*",
    "narrowed": "layer:str inputs:int outputs:int",
    "repadded": "layer:str before:int behind:int",
    "factored": "layer:str form:str ranks:int* bias?:bool",
    "shared": "layer:str entries:int scaled?:bool half?:bool",
    "hashed": "layer:str shape:int* sizes:int* seed:int half?:bool",
    "fastfood": "layer:str seed:int half?:bool",
    "pq": "layer:str inputs:int width:int entries:int permuted?:bool half?:bool",
    "int8": "layer:str scale:float zero:int step:float bits?:int activations?:int",
}
LARGEST_KERNEL = 256  # side of a kernel whose cosine transform is taken
SEEDS = 1 << 32


def check_edit(edit: Any) -> None:
    """Raise ModelFileError unless an edit has a known kind and exactly its fields; code outside has fields of its own."""
    kind = edit.get("kind") if isinstance(edit, dict) else None
    if not isinstance(kind, str):
        raise ModelFileError(f"an edit must be an object with a kind, found {str(edit)[:80]}")
    if ":" in kind:
        return
    if kind not in FIELDS:
        raise ModelFileError(f"unknown edit {kind[:40]!r} (there are: {', '.join(FIELDS)})")
    names = {"kind"}
    for field in FIELDS[kind].split():
        name, _, type_name = field.replace("?", "").partition(":")
        names.add(name)
        if name not in edit:
            if "?" not in field:
                raise ModelFileError(f"edit {kind!r} needs the field {name}")
            continue
        items = edit[name] if type_name.endswith("*") and isinstance(edit[name], list) else [edit[name]]
        listed = type_name.endswith("*") == isinstance(edit[name], list)
        if not listed or any(type(item).__name__ != type_name.rstrip("*") for item in items):
            raise ModelFileError(f"edit {kind!r}: {name} must be {type_name}, found {str(edit[name])[:80]}")
    if extra := set(edit) - names:
        raise ModelFileError(f"edit {kind!r} has no field {min(extra)[:40]!r}")


def check_parts(form: Mapping[str, np.ndarray], edit: Mapping[str, Any]) -> None:
    """Raise ValueError unless an encoded weight has exactly the tensors of its kind, with the types and sizes of its edit."""
    kind, entries = edit["kind"], int(edit.get("entries", 0))
    if kind in ("fastfood", "hashed") and not 0 <= edit["seed"] < SEEDS:
        raise ValueError(f"seed {edit['seed']} is impossible")
    wanted: dict[str, tuple[str, int]] = {
        "shared": {"codebook": ("f4", 1), "indices": (index_type(entries), 0)},
        "hashed": {"values": ("f4", 1)},
        "fastfood": {"signs": ("f4", 2), "gauss": ("f4", 2), "norms": ("f4", 1)},
        "pq": {"codebook": ("f4", 3), "indices": (index_type(entries), 0)},
        "int8": {"integers": ("i1", 0)},
    }[kind]
    if edit.get("scaled"):
        wanted["scale"] = ("f4", 1)
    if edit.get("permuted"):
        wanted["order"] = ("i4", 1)
    if set(form) != set(wanted):
        raise ValueError(f"it needs the tensors {', '.join(wanted)}, found {', '.join(form)[:200] or 'none'}")
    for name, (dtype, axes) in wanted.items():
        if form[name].dtype.str[1:] != dtype or (axes and form[name].ndim != axes):
            raise ValueError(f"{name} has type {form[name].dtype} and shape {form[name].shape}")
    _check_shapes(form, edit)


def _check_shapes(form: Mapping[str, np.ndarray], edit: Mapping[str, Any]) -> None:
    kind, shapes = edit["kind"], {name: array.shape for name, array in form.items()}
    good = True
    if kind == "shared":
        good = (
            shapes["codebook"] == (edit["entries"],) and 1 <= edit["entries"] <= 1 << 20 and len(shapes["indices"]) > 1
        )
        good = good and shapes.get("scale", shapes["indices"][:1]) == shapes["indices"][:1]
    elif kind == "hashed":
        bands, shape = len(edit["sizes"]), edit["shape"]
        good = len(shape) in (2, 4) and (bands == 1 or max(shape[2:], default=0) <= LARGEST_KERNEL)
        good = good and all(0 < size < 1 << 31 for size in edit["sizes"])
    elif kind == "pq":
        width, inputs = edit["width"], edit["inputs"]
        good = 1 <= width <= inputs < 1 << 31 and 1 <= edit["entries"] <= 1 << 15
        good = good and shapes["codebook"] == (-(-inputs // width), edit["entries"], width)
        good = good and shapes.get("order", (inputs,)) == (inputs,) and len(shapes["indices"]) in (2, 4)
    if not good:
        raise ValueError(f"tensors of shapes {shapes} do not fit the edit {str(dict(edit))[:200]}")


def index_type(entries: int) -> str:
    """Return numpy's name of the type of indices into a codebook of ``entries``."""
    return "u1" if entries <= 256 else "i2" if entries <= 32768 else "i4"
