"""Reader of model files without torch: the manifest, weights as numpy arrays, and the bytes of each tensor."""

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
from .decode import fields, weights

Kind = Literal["values", "codebooks", "biases", "metadata", "tables"]

FREE_ELEMENTS = 1 << 20  # numbers that any file may decode to,
ELEMENTS_PER_BYTE = 1000  # and how many more per byte of its length
KEYS = ("arch", "edits", "coded", "history")


class Section(NamedTuple):
    """A part of a model file: the tensor or header it belongs to, its kind and its length in bytes."""

    name: str
    kind: Kind
    bytes: int


class CodedTensor(NamedTuple):
    """An entropy-coded tensor: its name in the state dict, dtype, shape, bytes of its stream, bytes of its tables."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    tables: int


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the manifest of a model file as plain JSON: ``arch``, ``edits``, ``coded`` and ``history``.

    Raises:
        ModelFileError: not a model file, damaged or of another version.
    """
    return checked(path)[0].manifest


def read_dense(path: str | os.PathLike[str], *, trust_code: bool = False) -> dict[str, np.ndarray]:
    """Return the state dict with the ``.form.*`` tensors of every compressed layer replaced by its dense ``weight``.

    A layer whose edit is of kind ``module:Class`` is decoded by the static method ``decode(form, edit)`` of that class.
    ``form`` holds the arrays below ``.form.`` by name, ``edit`` is plain JSON; the result is the weight. This runs code
    of that module and therefore needs ``trust_code``.

    Raises:
        ModelFileError: as :func:`read_manifest`; the code of a layer is not trusted, or cannot decode it.
    """
    file, coded = checked(path)
    for edit in file.manifest["edits"]:
        fields.check_edit(edit)
    tensors = decode(file, coded, path)
    length = file.manifest_bytes + len(file.streams) + sum(array.nbytes for array in file.plain.values())
    for edit in layer_edits(file.manifest):
        foreign = ":" in edit["kind"] and any(name.startswith(f"{edit['layer']}.form.") for name in tensors)
        if foreign or edit["kind"] in DECODERS:
            decoder = _imported_decoder(edit, trust_code=trust_code) if foreign else DECODERS[edit["kind"]]
            tensors = _replace_by_weight(tensors, edit, length, decoder)
    return tensors


def sections(path: str | os.PathLike[str]) -> list[Section]:
    """Return the parts of a model file; their bytes add up to its length."""
    file, coded = checked(path)
    parts = [Section("header", "metadata", file.header_bytes), Section("manifest", "metadata", file.manifest_bytes)]
    parts += [Section(name, section_kind(name, array.ndim), array.nbytes) for name, array in file.plain.items()]
    for tensor in coded:
        parts.append(Section(tensor.name, section_kind(tensor.name, len(tensor.shape)), tensor.size - tensor.tables))
        if tensor.tables:
            parts.append(Section(tensor.name, "tables", tensor.tables))
    return [*parts, Section("check", "metadata", container.CHECK_BYTES)]


def section_kind(name: str, axes: int) -> Kind:
    """Return the kind of section of a tensor with this name and number of axes."""
    if ".form." in name:
        return "codebooks" if name.endswith((".codebook", ".scale")) else "values"
    return "values" if axes > 1 else "biases"


def checked(path: str | os.PathLike[str]) -> tuple[container.Container, list[CodedTensor]]:
    """Return the parts of a model file and its coded tensors, whose sizes match each other and the length of the file.

    Raises:
        ModelFileError: as :func:`read_manifest`.
    """
    file = container.read(path)
    try:
        return file, _coded_tensors(file)
    except ModelFileError as fault:
        raise ModelFileError(f"{path}: {fault}") from fault


def decode(file: container.Container, coded: list[CodedTensor], path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Return all tensors by their names in the state dict; indices are checked against their codebooks.

    Raises:
        ModelFileError: a stream is damaged, or its values are out of range.
    """
    tensors = dict(file.plain)
    offset = 0
    for tensor in coded:
        payload = file.streams[offset : offset + tensor.size]
        offset += tensor.size
        try:
            tensors[tensor.name] = _decode_tensor(payload, tensor)
        except ModelFileError as fault:
            raise ModelFileError(f"{path}: {tensor.name}: {fault}") from fault
    for name, array in tensors.items():
        if name.endswith(".form.indices"):
            codebook = tensors.get(name.removesuffix("indices") + "codebook")
            entries = 0 if codebook is None else (0, *codebook.shape[:2])[-1]  # (K,) or (M, K, C)
            if array.size and not 0 <= array.min() <= array.max() < entries:
                raise ModelFileError(f"{path}: {name}: indices point outside their codebook")
        if name.endswith(".form.order") and not (
            array.ndim == 1 and np.array_equal(np.sort(array), np.arange(len(array)))
        ):
            raise ModelFileError(f"{path}: {name}: expected a permutation of the input channels")
        if name.endswith(".form.integers"):
            fault = weights.beyond_int32(array, tensors.get(name.removesuffix("form.integers") + "bias"))
            if fault:
                raise ModelFileError(f"{path}: {name}: {fault}")
    return tensors


def layer_edits(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the edits that belong to one layer."""
    for edit in manifest["edits"]:
        if isinstance(edit, dict) and isinstance(edit.get("layer"), str) and isinstance(edit.get("kind"), str):
            yield edit


def shared_weight(form: Mapping[str, np.ndarray], _edit: Mapping[str, Any]) -> np.ndarray:
    """Return ``codebook[indices]``, times the scale of each output channel if there is one."""
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
    """Return the layers whose weights :func:`read_dense` decodes, with their encoding, such as ``pruned+shared``.

    Raises:
        ModelFileError: an edit of kind ``pruned`` has no list of layers.
    """
    kinds: dict[str, list[str]] = {}
    for edit in manifest["edits"]:
        if isinstance(edit, dict) and edit.get("kind") == "pruned":
            layers = edit.get("layers")
            if not isinstance(layers, list) or not all(isinstance(layer, str) for layer in layers):
                raise ModelFileError(f"an edit of kind 'pruned' needs a list of layers, found {str(layers)[:80]}")
            kinds |= {layer: ["pruned"] for layer in layers}
    for edit in layer_edits(manifest):
        if edit["kind"] in DECODERS or ":" in edit["kind"]:
            kinds[edit["layer"]] = [*kinds.get(edit["layer"], []), edit["kind"]]
    return {layer: "+".join(names) for layer, names in kinds.items()}


def _imported_decoder(edit: Mapping[str, Any], *, trust_code: bool) -> Decoder:
    """Return the static method ``decode`` of the class ``module:Class`` named by the kind of an edit."""
    edit_class = import_name(
        edit["kind"], f"the encoding of layer {edit['layer']!r},", trust_code=trust_code, error=ModelFileError
    )
    decoder: Decoder | None = getattr(edit_class, "decode", None)
    if decoder is None:
        raise ModelFileError(
            f"layer {edit['layer']!r} cannot be decoded without torch: {edit['kind']} has no static method "
            "decode(form, edit); add one"
        )
    return decoder


def _replace_by_weight(
    tensors: dict[str, np.ndarray], edit: Mapping[str, Any], length: int, decoder: Decoder
) -> dict[str, np.ndarray]:
    layer = edit["layer"]
    prefix = f"{layer}.form."
    form = {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
    try:
        if edit["kind"] in DECODERS:  # imported code checks its own fields
            fields.check_parts(form, edit)
            weights.check_encoding(form, edit, FREE_ELEMENTS + ELEMENTS_PER_BYTE * length)
        with np.errstate(over="raise", invalid="raise"):
            weight = decoder(form, edit)
    except (KeyError, ValueError, IndexError, TypeError, OverflowError, FloatingPointError) as fault:
        raise ModelFileError(f"the weight of layer {layer!r} cannot be decoded: {fault}") from fault
    return {f"{layer}.weight": weight} | {name: array for name, array in tensors.items() if not name.startswith(prefix)}


def _coded_tensors(file: container.Container) -> list[CodedTensor]:
    manifest = file.manifest
    if set(manifest) != set(KEYS):
        raise ModelFileError(f"the manifest must have the keys {', '.join(KEYS)}, found {str(sorted(manifest))[:80]}")
    if not all(isinstance(manifest[key], list) for key in ("edits", "coded", "history")):
        raise ModelFileError("edits, coded and history of the manifest must be lists")
    coded = [_coded_tensor(entry) for entry in manifest["coded"]]
    names = [*file.plain, *(tensor.name for tensor in coded)]
    if len(set(names)) != len(names):
        raise ModelFileError("the manifest names a tensor twice")
    if sum(tensor.size for tensor in coded) != len(file.streams):
        raise ModelFileError("the sizes in the manifest do not add up to the streams in the file")
    elements = sum(math.prod(tensor.shape) for tensor in coded)
    length = file.header_bytes + file.manifest_bytes + len(file.streams)
    if elements > FREE_ELEMENTS + ELEMENTS_PER_BYTE * length:
        raise ModelFileError(f"{elements} numbers are declared, more than {length} bytes can be trusted to hold")
    return coded


def _coded_tensor(entry: Any) -> CodedTensor:
    if not isinstance(entry, list) or len(entry) != len(CodedTensor._fields):
        raise ModelFileError(f"a coded tensor must be a list of {len(CodedTensor._fields)}, found {str(entry)[:80]}")
    name, dtype, shape, size, tables = entry
    known = isinstance(name, str) and isinstance(dtype, str) and dtype in container.DTYPES
    if not known or not isinstance(shape, list) or len(shape) > 8:
        raise ModelFileError(f"a coded tensor needs a name, a dtype and a shape, found {str(entry)[:80]}")
    if not all(type(side) is int and 0 <= side < 1 << 40 for side in (*shape, size, tables)) or tables > size:
        raise ModelFileError(f"coded tensor {name[:80]!r} has an impossible size")
    return CodedTensor(name, dtype, tuple(shape), size, tables)


def _decode_tensor(payload: bytes, tensor: CodedTensor) -> np.ndarray:
    dtype = np.dtype(container.DTYPES[tensor.dtype])
    if tensor.dtype == "F32":
        return floats.decode(payload, tensor.shape)
    if dtype.kind == "f":
        raise ModelFileError(f"tensors of type {tensor.dtype} cannot be entropy-coded")
    values = integers.decode(payload, tensor.shape)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if values.size and not low <= int(values.min()) <= int(values.max()) <= high:
        raise ModelFileError(f"values are out of range of {tensor.dtype}")
    return values.astype(dtype)
