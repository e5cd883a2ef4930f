"""Model files without torch: what stands in them, decoded weights as numpy arrays, and where the bytes went."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from ..core.errors import ModelFileError
from ..core.plugins import import_name
from . import container
from .coding import floats, integers
from .decode import weights

Kind = Literal["values", "codebooks", "biases", "metadata", "tables"]

FREE_ELEMENTS = 1 << 20  # a file may always decode to so many numbers,
ELEMENTS_PER_BYTE = 1000  # and to so many more per byte of its length
KEYS = ("arch", "edits", "coded", "history")


class Section(NamedTuple):
    """Some bytes of a model file and what they are for."""

    name: str
    kind: Kind
    bytes: int


class Row(NamedTuple):
    """One coded tensor: its name in the state dict, type, shape, bytes of its stream, those of its tables."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    tables: int


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what the file says about itself: ``arch``, ``edits``, ``coded`` and ``history``, as plain JSON.

    Raises:
        ModelFileError: the file is none of ours, damaged or of another version.
    """
    return checked(path)[0].manifest


def read_dense(path: str | os.PathLike[str], *, trust_code: bool = False) -> dict[str, np.ndarray]:
    """Return the decoded state dict of the densified network: every compressed layer has one plain ``weight``.

    A layer of kind ``module:Class`` is decoded by that class, by its static function ``decode(form, edit)``: from the
    arrays below ``.form.`` by name, and the edit as plain JSON, to the weight. That runs code and needs ``trust_code``.

    Raises:
        ModelFileError: as :func:`read_manifest`; a layer whose code is not trusted, or cannot decode it.
    """
    file, rows = checked(path)
    tensors = decode(file, rows, path)
    length = file.manifest_bytes + len(file.streams) + sum(array.nbytes for array in file.plain.values())
    for edit in formed_layers(file.manifest):
        foreign = ":" in edit["kind"] and any(name.startswith(f"{edit['layer']}.form.") for name in tensors)
        if foreign or edit["kind"] in DECODERS:
            decoder = _foreign_decoder(edit, trust_code=trust_code) if foreign else DECODERS[edit["kind"]]
            tensors = _with_weight(tensors, edit, length, decoder)
    return tensors


def sections(path: str | os.PathLike[str]) -> list[Section]:
    """Return the parts of a file by class; their bytes add up to its length."""
    file, rows = checked(path)
    parts = [Section("header", "metadata", file.header_bytes), Section("manifest", "metadata", file.manifest_bytes)]
    parts += [Section(name, kind_of(name, array.ndim), array.nbytes) for name, array in file.plain.items()]
    for row in rows:
        parts.append(Section(row.name, kind_of(row.name, len(row.shape)), row.size - row.tables))
        if row.tables:
            parts.append(Section(row.name, "tables", row.tables))
    return [*parts, Section("check", "metadata", container.CHECK_BYTES)]


def kind_of(name: str, axes: int) -> Kind:
    """Return the class that a tensor's bytes count for."""
    if ".form." in name:
        return "codebooks" if name.endswith((".codebook", ".scale")) else "values"
    return "values" if axes > 1 else "biases"


def checked(path: str | os.PathLike[str]) -> tuple[container.Container, list[Row]]:
    """Return the file's parts with rows that fit each other and the file's length."""
    file = container.read(path)
    try:
        return file, _rows(file)
    except ModelFileError as fault:
        raise ModelFileError(f"{path}: {fault}") from fault


def decode(file: container.Container, rows: list[Row], path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return all tensors under their names in the state dict, indices checked against their codebooks."""
    tensors = dict(file.plain)
    at = 0
    for row in rows:
        payload = file.streams[at : at + row.size]
        at += row.size
        try:
            tensors[row.name] = _tensor(payload, row)
        except ModelFileError as fault:
            raise ModelFileError(f"{path}: {row.name}: {fault}") from fault
    for name, array in tensors.items():
        if name.endswith(".form.indices"):
            codebook = tensors.get(name.removesuffix("indices") + "codebook")
            entries = 0 if codebook is None else (0, *codebook.shape[:2])[-1]  # (K,) or (M, K, C)
            if array.size and not 0 <= array.min() <= array.max() < entries:
                raise ModelFileError(f"{path}: {name}: indices point outside their codebook")
        if name.endswith(".form.order") and not (
            array.ndim == 1 and np.array_equal(np.sort(array), np.arange(len(array)))
        ):
            raise ModelFileError(f"{path}: {name}: this is no order of channels")
        if name.endswith(".form.integers"):
            fault = weights.beyond_int32(array, tensors.get(name.removesuffix("form.integers") + "bias"))
            if fault:
                raise ModelFileError(f"{path}: {name}: {fault}")
    return tensors


def formed_layers(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield every edit that gave one layer another form."""
    for edit in manifest["edits"]:
        if isinstance(edit, dict) and isinstance(edit.get("layer"), str) and isinstance(edit.get("kind"), str):
            yield edit


def shared_weight(form: Mapping[str, np.ndarray], _edit: Mapping[str, Any]) -> np.ndarray:
    """Return ``codebook[indices]``, times the factor of the output channel when there is one."""
    weight = form["codebook"][form["indices"]]
    if "scale" in form:
        weight = weight * form["scale"].reshape(-1, *[1] * (weight.ndim - 1))
    return weight


Decoder = Callable[[Mapping[str, np.ndarray], Mapping[str, Any]], np.ndarray]

DECODERS: dict[str, Decoder] = {
    "shared": shared_weight,
    "hashed": lambda form, edit: weights.hashed_weight(form["values"], edit["shape"], edit["sizes"], edit["seed"]),
    "fastfood": lambda form, edit: weights.fastfood_weight(form["signs"], form["gauss"], form["norms"], edit["seed"]),
    "pq": lambda form, edit: weights.product_weight(
        form["codebook"], form["indices"], edit["inputs"], form.get("order")
    ),
    "int8": lambda form, _edit: form["integers"].astype(np.float32),
}


def decoded_layers(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the layers whose weights :func:`read_dense` decodes, each with its form: ``shared``, ``pruned+shared``.

    Raises:
        ModelFileError: an edit of the manifest does not say what it pruned.
    """
    found: dict[str, list[str]] = {}
    for edit in manifest["edits"]:
        if isinstance(edit, dict) and edit.get("kind") == "pruned":
            layers = edit.get("layers")
            if not isinstance(layers, list) or not all(isinstance(layer, str) for layer in layers):
                raise ModelFileError(f"an edit of kind 'pruned' needs a list of layers, found {str(layers)[:80]}")
            found |= {layer: ["pruned"] for layer in layers}
    for edit in formed_layers(manifest):
        if edit["kind"] in DECODERS or ":" in edit["kind"]:
            found[edit["layer"]] = [*found.get(edit["layer"], []), edit["kind"]]
    return {layer: "+".join(kinds) for layer, kinds in found.items()}


def _foreign_decoder(edit: Mapping[str, Any], *, trust_code: bool) -> Decoder:
    """Return the function of the class ``module:Class`` that an edit is called by."""
    made_by = import_name(
        edit["kind"], f"the form of layer {edit['layer']!r},", trust_code=trust_code, error=ModelFileError
    )
    decoder: Decoder | None = getattr(made_by, "decode", None)
    if decoder is None:
        raise ModelFileError(
            f"layer {edit['layer']!r} cannot be decoded without torch: {edit['kind']} has no static function "
            "decode(form, edit)"
        )
    return decoder


def _with_weight(
    tensors: dict[str, np.ndarray], edit: Mapping[str, Any], length: int, decoder: Decoder
) -> dict[str, np.ndarray]:
    layer = edit["layer"]
    prefix = f"{layer}.form."
    form = {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
    try:
        if edit["kind"] in DECODERS:  # code that is trusted checks its own fields
            weights.check_form(form, edit, FREE_ELEMENTS + ELEMENTS_PER_BYTE * length)
        with np.errstate(over="raise", invalid="raise"):
            weight = decoder(form, edit)
    except (KeyError, ValueError, IndexError, TypeError, OverflowError, FloatingPointError) as fault:
        raise ModelFileError(f"the weight of layer {layer!r} cannot be decoded: {fault}") from fault
    return {f"{layer}.weight": weight} | {name: array for name, array in tensors.items() if not name.startswith(prefix)}


def _rows(file: container.Container) -> list[Row]:
    manifest = file.manifest
    if set(manifest) != set(KEYS):
        raise ModelFileError(f"the manifest must have the keys {', '.join(KEYS)}, it has {str(sorted(manifest))[:80]}")
    if not all(isinstance(manifest[key], list) for key in ("edits", "coded", "history")):
        raise ModelFileError("edits, coded and history of the manifest must be lists")
    rows = [_row(entry) for entry in manifest["coded"]]
    names = [*file.plain, *(row.name for row in rows)]
    if len(set(names)) != len(names):
        raise ModelFileError("the manifest names a tensor twice")
    if sum(row.size for row in rows) != len(file.streams):
        raise ModelFileError("the sizes in the manifest do not add up to the streams in the file")
    elements = sum(math.prod(row.shape) for row in rows)
    length = file.header_bytes + file.manifest_bytes + len(file.streams)
    if elements > FREE_ELEMENTS + ELEMENTS_PER_BYTE * length:
        raise ModelFileError(f"{elements} numbers are announced, more than {length} bytes can be trusted to hold")
    return rows


def _row(entry: Any) -> Row:
    if not isinstance(entry, list) or len(entry) != len(Row._fields):
        raise ModelFileError(f"a coded tensor must be a list of {len(Row._fields)}, found {str(entry)[:80]}")
    name, dtype, shape, size, tables = entry
    known = isinstance(name, str) and isinstance(dtype, str) and dtype in container.DTYPES
    if not known or not isinstance(shape, list) or len(shape) > 8:
        raise ModelFileError(f"a coded tensor has no name, type or shape: {str(entry)[:80]}")
    if not all(type(side) is int and 0 <= side < 1 << 40 for side in (*shape, size, tables)) or tables > size:
        raise ModelFileError(f"coded tensor {name[:80]!r} has an impossible size")
    return Row(name, dtype, tuple(shape), size, tables)


def _tensor(payload: bytes, row: Row) -> np.ndarray:
    dtype = np.dtype(container.DTYPES[row.dtype])
    if row.dtype == "F32":
        return floats.decode(payload, row.shape)
    if dtype.kind == "f":
        raise ModelFileError(f"numbers of type {row.dtype} are not coded")
    values = integers.decode(payload, row.shape)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if values.size and not low <= int(values.min()) <= int(values.max()) <= high:
        raise ModelFileError(f"values do not fit {row.dtype}")
    return values.astype(dtype)
