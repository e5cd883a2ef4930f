"""Edits: the structural changes made by passes, stored as JSON and replayed on an empty network when a file is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, ClassVar, cast

import torch
from torch import nn

from ..core.errors import HashpressError, ModelFileError, lookup
from ..core.layers import get_layer, set_layer
from ..core.model import Arch, Edit, Json
from ..core.plugins import import_name
from ..hashnets.build import build
from .layers.base import scalable_tensor
from .layers.factored import Factored
from .layers.fastfood import Fastfooded
from .layers.hashed import Hashed
from .layers.int8 import Quantized
from .layers.narrowed import Narrowed, Repadded
from .layers.pq import ProductQuantized
from .layers.shared import Shared


@dataclass(frozen=True)
class Folded:
    """The edit that folds the batch norm ``layer`` into the layer ``into``, which has a bias afterwards."""

    kind: ClassVar[str] = "folded"
    layer: str
    into: str

    def apply(self, net: nn.Module) -> None:
        """Replace the batch norm by an identity and give its target a bias."""
        target: Any = get_layer(net, self.into)
        norm: Any = get_layer(net, self.layer)
        values = scalable_tensor(target)
        if values is None or not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            raise ModelFileError(
                f"{self}: expected a batch norm and a layer that takes scales, found {type(norm).__name__} and {type(target).__name__}"
            )
        if target.bias is None:
            target.bias = nn.Parameter(values.new_empty(norm.num_features))
        set_layer(net, self.layer, nn.Identity())


@dataclass(frozen=True)
class Pruned:
    """The edit that marks ``layers`` as pruned: their zero weights stay zero."""

    kind: ClassVar[str] = "pruned"
    layers: tuple[str, ...]

    def apply(self, net: nn.Module) -> None:
        """Check that the layers exist; zeros are values and change no structure."""
        for layer in self.layers:
            get_layer(net, layer)


EDITS: dict[str, type[Edit]] = {
    edit.kind: edit
    for edit in (Folded, Pruned, Shared, Narrowed, Repadded, Factored, Hashed, Fastfooded, ProductQuantized, Quantized)
}


def rebuild(arch: Arch, edits: Sequence[Edit], *, trust_code: bool = False) -> nn.Module:
    """Return the network of ``arch`` after ``edits``, on the meta device: names, shapes and dtypes without values."""
    with torch.device("meta"):
        net = build(arch, trust_code=trust_code)
        for edit in edits:
            edit.apply(net)
    return net.eval()


def kind_of(edit: Edit) -> str:
    """Return the kind of an edit in a file: its ``kind`` if it is in ``EDITS``, otherwise ``module:Class``.

    Raises:
        ModelFileError: the class is not at the top level of a module and cannot be imported.
    """
    edit_class = type(edit)
    if EDITS.get(getattr(edit, "kind", "")) is edit_class:
        return edit.kind
    if "<" in edit_class.__qualname__:
        raise ModelFileError(
            f"edit {edit_class.__qualname__} is a local class, which loading the file cannot import; define it at module level"
        )
    return f"{edit_class.__module__}:{edit_class.__qualname__}"


def edit_to_json(edit: Edit) -> dict[str, Json]:
    """Return the kind of an edit and the fields that differ from their defaults, as plain JSON."""
    value: dict[str, Json] = {"kind": kind_of(edit)}
    for field in fields(edit):  # type: ignore[arg-type]  # every edit is a dataclass
        content = getattr(edit, field.name)
        if content != field.default:
            value[field.name] = list(content) if isinstance(content, tuple) else content
    return value


def _edit_class(kind: str, *, trust_code: bool) -> type[Edit]:
    if ":" not in kind:
        return lookup(EDITS, kind, "edit", ModelFileError)
    edit_class = import_name(kind, "edit", trust_code=trust_code, error=ModelFileError)
    usable = isinstance(edit_class, type) and is_dataclass(edit_class) and callable(getattr(edit_class, "apply", None))
    if not usable:
        raise ModelFileError(f"edit {kind!r} is not a dataclass with a method apply(net)")
    return cast("type[Edit]", edit_class)


def edit_from_json(value: Any, *, trust_code: bool = False) -> Edit:
    """Return the edit that :func:`edit_to_json` wrote; a kind ``module:Class`` is imported if ``trust_code`` is set.

    Raises:
        ModelFileError: an unknown kind, an unknown or missing field, a value of the wrong type, or untrusted code.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
        raise ModelFileError(f"an edit must be an object with a kind, found {str(value)[:80]}")
    edit = _edit_class(value["kind"], trust_code=trust_code)
    types = {field.name: field for field in fields(edit)}  # type: ignore[arg-type]  # every edit is a dataclass
    given = {name: content for name, content in value.items() if name != "kind"}
    for name, content in given.items():
        if name not in types:
            raise ModelFileError(
                f"edit {value['kind']!r} has no field {str(name)[:40]!r} (there are: {', '.join(types)})"
            )
        annotation = _annotation(types[name].type)
        if not _fits(content, annotation):
            raise ModelFileError(f"edit {value['kind']!r}: {name} must be {annotation}, found {str(content)[:80]}")
    missing = [name for name, field in types.items() if field.default is MISSING and name not in given]
    if missing:
        raise ModelFileError(f"edit {value['kind']!r} needs the field {', '.join(missing)}")
    plain = {name: tuple(content) if isinstance(content, list) else content for name, content in given.items()}
    try:
        return edit(**plain)
    except HashpressError as fault:
        raise ModelFileError(f"edit {value['kind']!r}: {fault}") from fault


def _annotation(kind: Any) -> str:
    """Return the type of a field as it is written, also where its module does not postpone annotations."""
    return kind.__name__ if isinstance(kind, type) and "[" not in str(kind) else str(kind)


def _fits(content: object, annotation: str) -> bool:
    if annotation.startswith("tuple["):
        inner = annotation[len("tuple[") :].split(",", maxsplit=1)[0]
        return isinstance(content, list) and all(_fits(item, inner) for item in content)
    return type(content).__name__ == annotation
