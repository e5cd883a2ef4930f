"""Model files by docs/model-file.md alone, sections 2, 3, 6, 7 and 9: numpy and the standard library, nothing of hashpress."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from typing import Any, NamedTuple

import numpy as np
from specified_streams import floats, integers, require

TYPES = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U8": "|u1"}
TYPES |= {"BOOL": "|b1"}
LIMITS = {"I64": (-(1 << 63), (1 << 63) - 1), "I32": (-(1 << 31), (1 << 31) - 1), "I16": (-(1 << 15), (1 << 15) - 1)}
LIMITS |= {"I8": (-128, 127), "U8": (0, 255), "BOOL": (0, 1)}
LAST = ["manifest", "streams", "check"]
FIELDS = {  # a question mark: the field may be missing
    "folded": "layer:text into:text",
    "pruned": "layers:texts",
    "narrowed": "layer:text inputs:integer outputs:integer",
    "repadded": "layer:text before:integer behind:integer",
    "factored": "layer:text form:text ranks:integers bias?:boolean",
    "shared": "layer:text entries:integer scaled?:boolean half?:boolean",
    "hashed": "layer:text shape:integers sizes:integers seed:integer half?:boolean",
    "fastfood": "layer:text seed:integer half?:boolean",
    "pq": "layer:text inputs:integer width:integer entries:integer permuted?:boolean half?:boolean",
    "int8": "layer:text scale:real zero:integer step:real bits?:integer activations?:integer",
}
KINDS = {"text": str, "integer": int, "boolean": bool, "real": float}


class Contents(NamedTuple):
    """A model file after section 9.1."""

    manifest: dict[str, Any]
    tensors: dict[str, np.ndarray]
    length: int  # what section 9.2 counts


def parsed(text: bytes) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        require(len(dict(pairs)) == len(pairs), "a key stands twice")
        return dict(pairs)

    def refuse(name: str) -> None:
        require(False, f"{name} is no number")

    try:
        value = json.loads(text.decode("ascii"), object_pairs_hook=unique, parse_constant=refuse)
    except ValueError:
        value = None
    require(isinstance(value, dict), "no JSON object")
    return value


def is_shape(value: Any, bits: int) -> bool:
    sides = isinstance(value, list) and len(value) <= 8
    return sides and all(type(side) is int and 0 <= side < 1 << bits for side in value)


def opened(content: bytes) -> tuple[dict[str, Any], dict[str, bytes], int]:
    """Section 2: the header, the bytes of its tensors, and where they begin."""
    size = int.from_bytes(content[:8], "little")
    require(len(content) >= 8 and size <= len(content) - 8, "no header")
    header = parsed(content[8 : 8 + size])
    metadata = header.pop("__metadata__", None)
    require(isinstance(metadata, dict) and metadata.get("hashpress") == "1", "another format")
    require(hashlib.sha256(content[:-8]).digest()[:8] == content[-8:], "another checksum")
    expected, at, tensors = '{"__metadata__":{"hashpress":"1"}', 0, {}
    for name, entry in header.items():
        require(isinstance(entry, dict), "no tensor")
        kind, shape = entry.get("dtype"), entry.get("shape")
        require(isinstance(kind, str) and kind in TYPES and is_shape(shape, 48), "no tensor of a known type")
        require(name not in LAST or (kind == "U8" and len(shape) == 1), "a last tensor of another type")
        end = at + math.prod(shape) * np.dtype(TYPES[kind]).itemsize
        sides = ",".join(map(str, shape))
        expected += f',{json.dumps(name)}:{{"dtype":"{kind}","shape":[{sides}],"data_offsets":[{at},{end}]}}'
        tensors[name] = content[8 + size + at : 8 + size + end]
        at = end
    expected += "}"
    require(list(header)[-3:] == LAST and header["check"]["shape"] == [8], "other last tensors")
    padded = expected + " " * (-len(expected) % 8)
    require(content[8 : 8 + size] == padded.encode("ascii"), "another header than its tensors need")
    require(8 + size + at == len(content), "another length")
    return header, tensors, 8 + size


def unpacked(content: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(content, (1 << 24) + 1)
    except zlib.error:
        text = b""
    require(stream.eof and not stream.unused_data and len(text) <= 1 << 24, "no zlib stream")
    return text


def check_edit(edit: Any) -> None:
    require(isinstance(edit, dict) and isinstance(edit.get("kind"), str) and edit["kind"] in FIELDS, "unknown edit")
    given, names = set(edit) - {"kind"}, set()
    for field in FIELDS[edit["kind"]].split():
        name, _, kind = field.replace("?", "").partition(":")
        names.add(name)
        if name not in edit:
            require("?:" in field, f"{name} is missing")
        elif kind.endswith("s"):
            require(isinstance(edit[name], list), name)
            require(all(type(item) is KINDS[kind[:-1]] for item in edit[name]), name)
        else:
            require(type(edit[name]) is KINDS[kind], name)
    require(given <= names, "a field too many")


def read(content: bytes) -> Contents:
    """Sections 2 to 5 and 9.1: all tensors under their names in the state dict."""
    header, data, begin = opened(content)
    manifest = parsed(unpacked(data["manifest"]))
    require(set(manifest) == {"arch", "edits", "coded", "history"}, "other keys")
    require(all(isinstance(manifest[key], list) for key in ("edits", "coded", "history")), "no lists")
    for edit in manifest["edits"]:
        check_edit(edit)
    for row in manifest["coded"]:
        require(isinstance(row, list) and len(row) == 5, "a row is a list of five")
        name, kind, shape, size, tables = row
        require(isinstance(name, str) and isinstance(kind, str) and kind in TYPES and is_shape(shape, 40), "a row")
        require(is_shape([size, tables], 40) and tables <= size, "sizes of a row")
    plain = [name for name in header if name not in LAST]
    names = plain + [row[0] for row in manifest["coded"]]
    require(len(set(names)) == len(names), "a tensor stands twice")
    streams = data["streams"]
    require(sum(row[3] for row in manifest["coded"]) == len(streams), "sizes do not add up")
    trusted = (1 << 20) + 1000 * (begin + len(data["manifest"]) + len(streams))
    require(sum(math.prod(row[2]) for row in manifest["coded"]) <= trusted, "more numbers than can be trusted")
    tensors = {
        name: np.frombuffer(data[name], TYPES[header[name]["dtype"]]).reshape(header[name]["shape"]) for name in plain
    }
    at = 0
    for name, kind, shape, size, _ in manifest["coded"]:
        tensors[name] = _coded(streams[at : at + size], kind, tuple(shape))
        at += size
    check_forms(tensors)
    return Contents(manifest, tensors, len(data["manifest"]) + len(streams) + sum(len(data[name]) for name in plain))


def _coded(stream: bytes, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    if kind == "F32":
        return floats(stream, shape)
    require(kind in LIMITS, "numbers of this type are not coded")
    values, (low, high) = integers(stream, shape), LIMITS[kind]
    require(not values.size or bool(low <= values.min() and values.max() <= high), "values beyond their type")
    return values.astype(TYPES[kind])


def check_forms(tensors: dict[str, np.ndarray]) -> None:
    """Section 9.1, number 6."""
    for name, array in tensors.items():
        if name.endswith(".form.indices") and array.size:
            codebook = tensors.get(name.removesuffix("indices") + "codebook", np.zeros(()))
            entries = codebook.shape[min(codebook.ndim - 1, 1)] if codebook.ndim else 0
            require(array.min() >= 0 and array.max() < entries, "an index beyond its codebook")
        if name.endswith(".form.order"):
            require(array.ndim == 1 and sorted(array.tolist()) == list(range(len(array))), "no permutation")
        if name.endswith(".form.integers"):
            bias = tensors.get(name.removesuffix("form.integers") + "bias")
            require(array.dtype == np.int8 and array.ndim >= 2, "no 8-bit integers")
            require(bias is not None and bias.shape == array.shape[:1], "no bias")
            sums = np.abs(array.astype(np.int64)).reshape(len(array), -1).sum(1) * 255
            for total, add in zip(sums.tolist(), bias.tolist(), strict=True):
                require(math.isfinite(add) and add == int(add) and total + abs(int(add)) < 1 << 31, "beyond 32 bits")


def dense(content: bytes) -> dict[str, np.ndarray]:
    """All tensors with the weights of section 7 in the place of their forms."""
    file = read(content)
    tensors = file.tensors
    for edit in file.manifest["edits"]:
        if edit["kind"] in WEIGHTS:
            prefix = edit["layer"] + ".form."
            form = {name[len(prefix) :]: array for name, array in tensors.items() if name.startswith(prefix)}
            decoded = weight(form, edit, (1 << 20) + 1000 * file.length)
            tensors = {name: array for name, array in tensors.items() if not name.startswith(prefix)}
            tensors[edit["layer"] + ".weight"] = decoded
    return tensors


def weight(form: dict[str, np.ndarray], edit: dict[str, Any], trusted: int) -> np.ndarray:
    for name, array in form.items():
        require(array.dtype.kind != "f" or (array.dtype == np.float32 and np.isfinite(array).all()), name)
    with np.errstate(all="ignore"):
        try:
            decoded = WEIGHTS[edit["kind"]](form, edit, trusted)
        except KeyError as missing:
            require(False, f"{missing} is missing")
    require(bool(np.isfinite(decoded).all()), "the decoding overflows")
    return decoded


def shared(form: dict[str, np.ndarray], edit: dict[str, Any], _: int) -> np.ndarray:
    values = form["codebook"][form["indices"].astype(np.int64)]
    return (values.T * form["scale"]).T if "scale" in form else values


def xxh32(i: int, j: int, seed: int) -> int:
    mask = 0xFFFFFFFF
    value = seed + 374761393 + 8
    for word in (i, j):
        value = value + word * 3266489917 & mask
        value = (value << 17 | value >> 15) * 668265263 & mask
    value = (value ^ value >> 15) * 2246822519 & mask
    value = (value ^ value >> 13) * 3266489917 & mask
    return value ^ value >> 16


def cosine(n: int, k: int, p: int) -> np.float32:
    value = math.cos(math.pi * (k * (2 * p + 1)) / (2 * n)) * math.sqrt(2 / n)
    return np.float32(value if k else value / math.sqrt(2))


def hashed(form: dict[str, np.ndarray], edit: dict[str, Any], trusted: int) -> np.ndarray:
    shape, sizes, seed, values = edit["shape"], edit["sizes"], edit["seed"], form["values"]
    require(len(shape) in (2, 4) and min(shape) >= 1 and 0 <= seed < 1 << 32, "another shape")
    require(math.prod(shape) <= trusted, "more numbers than can be trusted")
    require(len(sizes) == 1 or (len(shape) == 4 and len(sizes) == sum(shape[2:]) - 1), "another number of bands")
    require(all(0 < size < 1 << 31 for size in sizes) and values.shape == (sum(sizes),), "other sizes")
    entries = np.empty((shape[0], math.prod(shape[1:])), np.float32)
    for o, c in np.ndindex(*entries.shape):
        band = 0 if len(sizes) == 1 else c // shape[3] % shape[2] + c % shape[3]
        value = values[xxh32(o, c, seed) % sizes[band] + sum(sizes[:band])]
        entries[o, c] = value if xxh32(o, c, seed ^ 0x9E3779B9) < 1 << 31 else -value
    spectrum = entries.reshape(shape)
    return spectrum if len(sizes) == 1 else inverse_cosine(inverse_cosine(spectrum, 2), 3)


def inverse_cosine(spectrum: np.ndarray, axis: int) -> np.ndarray:
    spectrum, n = np.moveaxis(spectrum, axis, 0), spectrum.shape[axis]
    rows = []
    for p in range(n):
        total = cosine(n, 0, p) * spectrum[0]
        for k in range(1, n):
            total = total + cosine(n, k, p) * spectrum[k]
        rows.append(total)
    return np.moveaxis(np.stack(rows), 0, axis)


def hadamard(values: np.ndarray) -> np.ndarray:
    size = len(values)
    for _ in range(size.bit_length() - 1):
        values = np.concatenate([values[0::2] + values[1::2], values[0::2] - values[1::2]])
    return values * np.float32(1.0 / math.sqrt(size))


def fastfood(form: dict[str, np.ndarray], edit: dict[str, Any], trusted: int) -> np.ndarray:
    signs, gauss, norms = form["signs"], form["gauss"], form["norms"]
    (blocks, inputs), d = signs.shape, gauss.shape[1]
    require(norms.size * inputs <= trusted, "more numbers than can be trusted")
    require(d == 1 << (inputs - 1).bit_length() and len(gauss) == blocks == -(-len(norms) // d), "other shapes")
    columns = []
    for j in range(inputs):
        parts = []
        for b in range(blocks):
            x = np.zeros(d, np.float32)
            x[j] = signs[b, j]
            parts.append(hadamard(hadamard(x)[permutation(d, b, edit["seed"])] * gauss[b]))
        require(all(bool(np.isfinite(part).all()) for part in parts), "the decoding overflows")
        columns.append(np.concatenate(parts)[: len(norms)] * norms)
    return np.stack(columns, 1)


def permutation(d: int, block: int, seed: int) -> list[int]:
    return sorted(range(d), key=lambda position: (xxh32(block, position, seed), position))


def pq(form: dict[str, np.ndarray], edit: dict[str, Any], trusted: int) -> np.ndarray:
    codebook, indices, inputs = form["codebook"], form["indices"].astype(np.int64), edit["inputs"]
    (subspaces, _, width), kernel = codebook.shape, indices.shape[2:]
    require(indices.size * width <= trusted, "more numbers than can be trusted")
    require(subspaces == len(indices) == -(-inputs // width), "other shapes")
    whole = np.empty((indices.shape[1], inputs, *kernel), np.float32)
    channels = form["order"].tolist() if "order" in form else range(inputs)
    for j, channel in enumerate(channels):
        whole[:, channel] = codebook[j // width, :, j % width][indices[j // width]]
    return whole


WEIGHTS = {"shared": shared, "hashed": hashed, "fastfood": fastfood, "pq": pq}
WEIGHTS["int8"] = lambda form, _edit, _trusted: form["integers"].astype(np.float32)


def int8_outputs(x: np.ndarray, whole: np.ndarray, bias: np.ndarray, multiplier: np.ndarray, edit: Any) -> np.ndarray:
    """Section 7.5: what a dense layer gives for inputs (N, I)."""
    high = np.float32(2 ** edit.get("activations", 8) - 1)
    inverse, zero = np.float32(1) / np.float32(edit["scale"]), np.float32(edit["zero"])
    q = np.clip(np.rint(x * inverse) + zero, np.float32(0), high) - zero
    acc = q.astype(np.int64) @ whole.astype(np.int64).T + bias.astype(np.int64)
    y = acc.astype(np.float32) * multiplier
    return np.rint(y) * np.float32(edit["step"]) if edit["step"] > 0 else y
