"""The golden vectors of docs/model-file.md by hashpress and by a decoder written from the document alone."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import specified_decoder as specified
import specified_streams
from hashpress.core.errors import ModelFileError
from hashpress.modelfile import reader
from hashpress.modelfile.coding import context, floats, integers, tables
from hashpress.modelfile.decode import hadamard, hashing, weights

VECTORS = Path(__file__).resolve().parents[2] / "docs" / "vectors"
STREAMS = json.loads((VECTORS / "streams.json").read_text(encoding="utf-8"))
PRIMITIVES = json.loads((VECTORS / "primitives.json").read_text(encoding="utf-8"))
WEIGHTS = json.loads((VECTORS / "weights.json").read_text(encoding="utf-8"))["weights"]
FILES = json.loads((VECTORS / "files.json").read_text(encoding="utf-8"))
OURS = {"integers": integers.decode, "floats": floats.decode}
THEIRS = {"integers": specified_streams.integers, "floats": specified_streams.floats}


def from_bits(digits: list[str]) -> np.ndarray:
    return np.array([int(text, 16) for text in digits], np.uint32).view(np.float32)


def check_listed(array: np.ndarray, entry: dict[str, Any]) -> None:
    assert list(array.shape) == entry["shape"]
    if "sha256" in entry:
        assert hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() == entry["sha256"]
    else:
        expected = entry["values"]
        values = from_bits(expected) if array.dtype == np.float32 else np.array(expected, np.int64)
        assert array.reshape(-1).tobytes() == values.tobytes()


@pytest.mark.parametrize("entry", STREAMS["decoded"], ids=lambda entry: entry["name"])
def test_streams(entry: dict[str, Any]) -> None:
    for decode in (OURS[entry["stream"]], THEIRS[entry["stream"]]):
        check_listed(decode(bytes.fromhex(entry["bytes"]), tuple(entry["shape"])), entry)


def test_streams_have_every_mode_and_form() -> None:
    first = {(entry["stream"], int(entry["bytes"][:2], 16)) for entry in STREAMS["decoded"]}
    assert first == {("integers", mode) for mode in range(4)} | {("floats", form) for form in range(5)}


@pytest.mark.parametrize("entry", STREAMS["refused"], ids=lambda entry: entry["name"])
def test_refused_streams(entry: dict[str, Any]) -> None:
    content, shape = bytes.fromhex(entry["bytes"]), tuple(entry["shape"])
    with pytest.raises(ModelFileError):
        OURS[entry["stream"]](content, shape)
    with pytest.raises(specified_streams.RefusedError):
        THEIRS[entry["stream"]](content, shape)


def test_hashes_and_permutations() -> None:
    for i, j, seed, expected in PRIMITIVES["xxh32"]:
        assert specified.xxh32(i, j, seed) == expected
        assert hashing.hash_pairs(np.array([i]), np.array([j]), seed).tolist() == [expected]
    for d, block, seed, order in PRIMITIVES["permutations"]:
        assert specified.permutation(d, block, seed) == order == hashing.permutation(d, block, seed).tolist()


def test_frequencies() -> None:
    for frequencies, expected in PRIMITIVES["frequencies"]:
        assert specified_streams.normalised(frequencies) == expected == tables.normalise(np.array(frequencies)).tolist()


def test_logarithmic_odds() -> None:
    for numerator, denominator, expected in PRIMITIVES["odds"]:
        assert specified_streams.odds(numerator, denominator) == expected
        assert context.odds(np.array([numerator]), denominator).tolist() == [expected]


def test_walsh_hadamard_transforms() -> None:
    for digits, expected in PRIMITIVES["hadamard"]:
        values = from_bits(digits)
        found = specified.hadamard(values), hadamard.walsh(values, np.concatenate)
        assert [array.tobytes() for array in found] == [from_bits(expected).tobytes()] * 2


@pytest.mark.parametrize("n", range(1, 17))
def test_constants_of_the_cosine_transform_do_not_depend_on_the_library(n: int) -> None:
    expected = from_bits(PRIMITIVES["cosines"][n - 1]).reshape(n, n)
    ours = weights.cosines(n)
    assert ours.astype(np.float32).tobytes() == expected.tobytes()
    theirs = np.array([[specified.cosine(n, k, p) for p in range(n)] for k in range(n)])
    assert theirs.tobytes() == expected.tobytes()
    for direction in (-math.inf, math.inf):  # another cosine, up to four units in the last place away
        moved = ours
        for _ in range(4):
            moved = np.nextafter(moved, direction)
        assert moved.astype(np.float32).tobytes() == expected.tobytes()


def tensor(entry: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(entry["bytes"]), specified.TYPES[entry["type"]]).reshape(entry["shape"])


@pytest.mark.parametrize("entry", WEIGHTS, ids=lambda entry: f"{entry['edit']['kind']} {entry['edit']['layer']}")
def test_weights(entry: dict[str, Any]) -> None:
    edit, form = entry["edit"], {name: tensor(value) for name, value in entry["form"].items()}
    specified.check_edit(edit)
    check_listed(specified.weight(form, edit, 1 << 20), entry["weight"])
    check_listed(reader.DECODERS[edit["kind"]](form, edit), entry["weight"])
    if "layer" in entry:
        layer = {name: from_bits(value["values"]).reshape(value["shape"]) for name, value in entry["layer"].items()}
        given = layer["inputs"], form["integers"], layer["bias"], layer["multiplier"], edit
        check_listed(specified.int8_outputs(*given), entry["layer"]["outputs"])


def test_weights_have_every_encoding() -> None:
    assert {entry["edit"]["kind"] for entry in WEIGHTS} == set(reader.DECODERS) == set(specified.WEIGHTS)
    assert sum("layer" in entry for entry in WEIGHTS) == 2


@pytest.mark.parametrize("name", FILES)
def test_files(name: str) -> None:
    content = (VECTORS / name).read_bytes()
    for tensors in (specified.dense(content), reader.read_dense(VECTORS / name)):
        assert set(tensors) == set(FILES[name])
        for key, entry in FILES[name].items():
            assert tensors[key].dtype == np.dtype(specified.TYPES[entry["type"]])
            check_listed(tensors[key], entry)


def test_no_file_is_left_over() -> None:
    assert {path.name for path in VECTORS.glob("*.safetensors")} == set(FILES)
    assert sum(path.stat().st_size for path in VECTORS.iterdir()) < 200_000
