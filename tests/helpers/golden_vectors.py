"""Writes docs/vectors, the golden vectors of docs/model-file.md: ``python tests/golden_vectors.py``.

The files are part of the specification: what stands in them stays; run this only to add to them, and look at the change.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filled_models import every_kind
from hashpress.core.model import HashModel
from hashpress.modelfile import container, reader
from hashpress.modelfile.coding import context, floats, integers, tables
from hashpress.modelfile.coding.bits import signed, varint
from hashpress.modelfile.decode import hadamard, hashing
from hashpress.modelfile.edits import edit_to_json
from hashpress.modelfile.file import save
from hashpress.modelfile.layers.base import CompressedConv2d, CompressedLinear

VECTORS = Path(__file__).resolve().parents[2] / "docs" / "vectors"
LISTED = 128  # values up to which they are listed


def listed(array: np.ndarray) -> dict[str, Any]:
    """Values or their SHA-256, as section 11 says."""
    entry: dict[str, Any] = {"shape": list(array.shape)}
    if array.size > LISTED:
        return entry | {"sha256": digest(array)}
    flat = np.ascontiguousarray(array).reshape(-1)
    values = [f"{bits:08x}" for bits in flat.view(np.uint32).tolist()] if array.dtype == np.float32 else flat.tolist()
    return entry | {"values": values}


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()


def patchy(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Pruned weights whose density differs between input channels."""
    generator = np.random.default_rng(seed)
    chance = generator.random((1, shape[1], *[1] * (len(shape) - 2))) ** 2 * 0.6
    return (generator.random(shape) < chance) * generator.integers(-4, 5, shape)


def integer_arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    return {
        "constant": np.full((3, 5), -7),
        "constant, smallest": np.full(2, -(1 << 63)),
        "constant, largest": np.array((1 << 63) - 1),
        "empty": np.zeros((0, 4), np.int64),
        "packed, 3 bits": generator.integers(-3, 5, 9),
        "packed, 64 bits": np.array([-(1 << 63), (1 << 63) - 1, 0]),
        "order 0": np.minimum(generator.geometric(0.6, 400) - 1, 9),
        "order 0, gaps": (np.minimum(generator.geometric(0.4, 300) - 1, 12) ** 3 - 40),
        "order 0, many symbols": np.rint(generator.normal(size=3000) * 40).astype(np.int64),
        "adaptive, convolution": patchy((24, 16, 3, 3), 2),
        "adaptive, dense": patchy((60, 200), 3),
        "adaptive, 1x1": patchy((40, 90, 1, 1), 4),
        "adaptive, one value": (patchy((50, 130), 5) != 0).astype(np.int64),
    }


def float_arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(6)
    normal = generator.normal(size=(30, 40)).astype(np.float32)
    odd = np.array([0x7C01, 0xFE00, 0x7C00, 0xFC00, 1, 0x83FF, 0x8000, 0x3C00], "<u2").view(np.float16)
    return {
        "raw": np.frombuffer(generator.bytes(48), "<f4"),
        "half, odd values": np.frombuffer(floats.decode(bytes([floats.HALF]) + odd.tobytes(), (8,)).tobytes(), "<f4"),
        "sparse": np.where(generator.random((30, 40)) < 0.15, normal, np.float32(0)),
        "sparse, halves": np.where(patchy((30, 40), 7) != 0, normal.astype(np.float16).astype(np.float32), 0),
        "planes": normal,
        "grid": (np.rint(normal * 16) / np.float32(4)).astype(np.float32) + np.float32(0),
        "grid, smallest": np.ldexp(np.rint(normal * 9), -24).astype(np.float32) + np.float32(0),
    }


def refused() -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    two = bytes([2]) + varint(2 << 1) + signed(5) + bytes(2)  # symbols 5 and 6, half of the slots each
    grid = bytes([4, 41]) + integers.encode(np.arange(3)).payload
    return {
        "nothing": ("integers", (1,), b""),
        "unknown mode": ("integers", (1,), b"\x04\x00"),
        "constant with more behind": ("integers", (2,), b"\x00\x02\x00"),
        "varint of 65 bits": ("integers", (2,), b"\x00" + varint(1 << 64)),
        "varint of eleven bytes": ("integers", (2,), b"\x00" + b"\x80" * 10 + b"\x00"),
        "packed, a byte too many": ("integers", (8,), b"\x01\x00\x01\x55\x00"),
        "packed, width 0": ("integers", (8,), b"\x01\x00\x00"),
        "alphabet of no symbol": ("integers", (8,), b"\x02\x00\x00"),
        "symbol beyond 62 bits": ("integers", (1,), b"\x02\x02" + signed(1 << 62)),
        "three bytes of words": ("integers", (3,), two + bytes(3)),
        "last word zero": ("integers", (3,), two + bytes(4)),
        "state not zero": ("integers", (3,), two + b"\x01\x00\x00\x00"),
        "adaptive for a vector": ("integers", (3,), b"\x03" + bytes(20)),
        "unknown form": ("floats", (1,), b"\x05\x00"),
        "sparse in sparse": ("floats", (1,), b"\x02\x02\x00\x02\x02\x02\x00\x02"),
        "mask of twos": ("floats", (1,), b"\x02\x02\x00\x04\x01"),
        "raw, too short": ("floats", (2,), b"\x00" + bytes(7)),
        "exponent of ten bits": ("floats", (1,), b"\x03\x03\x00" + signed(512) + bytes(3)),
        "grid, shift 41": ("floats", (3,), grid),
        "grid, step of -2^63": ("floats", (1,), b"\x04\x00\x00" + signed(-(1 << 63))),
    }


def streams() -> dict[str, Any]:
    decoded = []
    arrays = {"integers": integer_arrays(), "floats": float_arrays()}
    for stream, module in (("integers", integers), ("floats", floats)):
        for name, array in arrays[stream].items():
            payload = module.encode(array).payload
            decoded.append(
                {"name": name, "stream": stream, "bytes": payload.hex()} | listed(module.decode(payload, array.shape))
            )
    two = bytes([2]) + varint(2 << 1) + signed(5) + bytes(2)
    for name, payload in (("order 0, no words", two), ("order 0, one symbol", bytes([2]) + varint(2) + signed(-9))):
        values = integers.decode(payload, (3,))
        decoded.append({"name": name, "stream": "integers", "bytes": payload.hex()} | listed(values))
    bad = [{"name": n, "stream": s, "shape": list(shape), "bytes": b.hex()} for n, (s, shape, b) in refused().items()]
    return {"decoded": decoded, "refused": bad}


def primitives() -> dict[str, Any]:
    generator = np.random.default_rng(8)
    pairs = [(0, 0, 0), (1, 2, 3), ((1 << 32) - 1, (1 << 32) - 1, (1 << 32) - 1), (7, 123456, 0x9E3779B9)]
    hashes = [[*pair, int(hashing.hash_pairs(np.array([pair[0]]), np.array([pair[1]]), pair[2])[0])] for pair in pairs]
    orders = [[d, b, s, hashing.permutation(d, b, s).tolist()] for d, b, s in ((1, 0, 0), (8, 1, 5), (32, 3, 1 << 31))]
    weights = [[1, 1], [3, 3, 3], [1 << 22, 1, 77], [5, 900, 17, 900, 1]]
    vectors = [generator.normal(size=d).astype(np.float32) for d in (1, 2, 8, 32)]
    return {
        "xxh32": hashes,
        "permutations": orders,
        "frequencies": [[row, tables.normalise(np.array(row)).tolist()] for row in weights],
        "odds": [
            [s << 8, 256, int(context.odds(np.array([s << 8]), 256)[0])] for s in (0, 16, 17, 999, 40000, 65519, 65536)
        ],
        "hadamard": [[listed(v)["values"], listed(hadamard.walsh(v, np.concatenate))["values"]] for v in vectors],
        "cosines": [
            [f"{bits:08x}" for bits in weights.cosines(n).astype(np.float32).view(np.uint32).reshape(-1).tolist()]
            for n in range(1, 17)
        ],
    }


def weights_of(model: HashModel) -> list[dict[str, Any]]:
    """Every compressed layer of a model: edit, form, weight, and of integer dense layers inputs and outputs."""
    found = []
    layers = dict(model.net.named_modules())
    for edit in model.edits:
        layer = layers.get(getattr(edit, "layer", ""))
        if not isinstance(layer, CompressedConv2d | CompressedLinear):
            continue
        form = {name: value.numpy() for name, value in layer.form.state_dict().items()}
        entry = {"edit": edit_to_json(edit), "weight": listed(reader.DECODERS[edit.kind](form, edit_to_json(edit)))}
        entry["form"] = {
            name: {"shape": list(array.shape), "bytes": array.tobytes().hex(), "type": container.code_of(array)}
            for name, array in form.items()
        }
        if edit.kind == "int8" and isinstance(layer, CompressedLinear):
            x = np.random.default_rng(9).normal(size=(4, layer.in_features)).astype(np.float32)
            entry["layer"] = {"bias": listed(layer.bias.numpy()), "multiplier": listed(layer.multiplier.numpy())}
            entry["layer"] |= {"inputs": listed(x), "outputs": listed(layer(torch.from_numpy(x)).numpy())}
        found.append(entry)
    return found


def files(models: dict[str, HashModel]) -> dict[str, Any]:
    listing = {}
    for name, model in models.items():
        path = VECTORS / f"{name.replace(' ', '-')}.safetensors"
        save(model, path)
        listing[path.name] = {
            key: {"type": container.code_of(array), "shape": list(array.shape), "sha256": digest(array)}
            for key, array in reader.read_dense(path).items()
        }
    return listing


def write(name: str, value: dict[str, Any]) -> None:
    """JSON that a diff can show: an entry a line."""
    parts = []
    for key, entries in value.items():
        keyed = isinstance(entries, dict)
        lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in entries.items()] if keyed else map(json.dumps, entries)
        opening, closing = "{}" if keyed else "[]"
        parts.append(f"{json.dumps(key)}: {opening}\n" + ",\n".join(lines) + f"\n{closing}")
    (VECTORS / name).write_text("{" + ",\n".join(parts) + "}\n", encoding="utf-8")


if __name__ == "__main__":
    VECTORS.mkdir(exist_ok=True)
    models = every_kind()
    write("streams.json", streams())
    write("primitives.json", primitives())
    kinds = [entry for name in ("shared", "hashed", "fastfood", "pq", "int8") for entry in weights_of(models[name])]
    write("weights.json", {"weights": kinds})
    write("files.json", files({name: models[name] for name in ("shared", "mixed", "large plain", "structure")}))
