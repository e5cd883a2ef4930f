"""What passes did to a network's structure, as JSON-able values, and the empty network they lead to."""

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
from .layers.base import absorbing
from .layers.factored import Factored
from .layers.fastfood import Fastfooded
from .layers.hashed import Hashed
from .layers.int8 import Quantized
from .layers.narrowed import Narrowed, Repadded
from .layers.pq import ProductQuantized
from .layers.shared import Shared


@dataclass(frozen=True)
class Folded:
    """The batch norm ``layer`` went into ``into``, which has a bias since; where the weight has a form, into its factors."""

    kind: ClassVar[str] = "folded"
    layer: str
    into: str

    def apply(self, net: nn.Module) -> None:
        """Put an identity in the norm's place and give its target a bias."""
        target: Any = get_layer(net, self.into)
        norm: Any = get_layer(net, self.layer)
        values = absorbing(target)
        if values is None or not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            raise ModelFileError(f"{self}: these layers are a {type(norm).__name__} and a {type(target).__name__}")
        if target.bias is None:
            target.bias = nn.Parameter(values.new_empty(norm.num_features))
        set_layer(net, self.layer, nn.Identity())


@dataclass(frozen=True)
class Pruned:
    """Some weights of these layers are zero for good."""

    kind: ClassVar[str] = "pruned"
    layers: tuple[str, ...]

    def apply(self, net: nn.Module) -> None:
        """Check that the layers exist; the zeros are values, not structure."""
        for layer in self.layers:
            get_layer(net, layer)


EDITS: dict[str, type[Edit]] = {
    edit.kind: edit
    for edit in (Folded, Pruned, Shared, Narrowed, Repadded, Factored, Hashed, Fastfooded, ProductQuantized, Quantized)
}


def rebuild(arch: Arch, edits: Sequence[Edit], *, trust_code: bool = False) -> nn.Module:
    """Return the empty network of ``arch`` after ``edits``, on the meta device: names, shapes and types, no values."""
    with torch.device("meta"):
        net = build(arch, trust_code=trust_code)
        for edit in edits:
            edit.apply(net)
    return net.eval()


def kind_of(edit: Edit) -> str:
    """Return what a file calls an edit: its kind where it is one of ours, else ``module:Class``.

    Raises:
        ModelFileError: the class stands where it cannot be imported from.
    """
    made_by = type(edit)
    if EDITS.get(getattr(edit, "kind", "")) is made_by:
        return edit.kind
    if "<" in made_by.__qualname__:
        raise ModelFileError(
            f"edit {made_by.__qualname__} cannot be imported by who loads the file; define it in a module"
        )
    return f"{made_by.__module__}:{made_by.__qualname__}"


def edit_to_json(edit: Edit) -> dict[str, Json]:
    """Return the edit's kind and those fields that differ from their defaults."""
    value: dict[str, Json] = {"kind": kind_of(edit)}
    for field in fields(edit):  # type: ignore[arg-type]  # every edit is a dataclass
        content = getattr(edit, field.name)
        if content != field.default:
            value[field.name] = list(content) if isinstance(content, tuple) else content
    return value


def _edit_class(kind: str, *, trust_code: bool) -> type[Edit]:
    if ":" not in kind:
        return lookup(EDITS, kind, "edit", ModelFileError)
    found = import_name(kind, "edit", trust_code=trust_code, error=ModelFileError)
    usable = isinstance(found, type) and is_dataclass(found) and callable(getattr(found, "apply", None))
    if not usable:
        raise ModelFileError(f"edit {kind!r} is not a dataclass with a method apply(net)")
    return cast("type[Edit]", found)


def edit_from_json(value: Any, *, trust_code: bool = False) -> Edit:
    """Return the edit that :func:`edit_to_json` wrote; one called ``module:Class`` is imported with ``trust_code``.

    Raises:
        ModelFileError: an unknown kind, a field too many or too few, a value of the wrong type, code that is not trusted.
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
        raise ModelFileError(f"edit {value['kind']!r} lacks {', '.join(missing)}")
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
