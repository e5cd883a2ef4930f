"""What docs/model-file.md says a reader refuses, by hashpress and by the decoder written from the document."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import specified_decoder as specified
import specified_streams
from filled_models import LENET, LENET5, bits_of, filled
from hashpress.core.errors import ModelFileError
from hashpress.modelfile import container, reader
from hashpress.modelfile import file as modelfile
from hashpress.modelfile.coding import floats, integers
from hashpress.modelfile.coding.bits import signed, varint
from hashpress.modelfile.decode import weights
from specified_streams import RefusedError


@pytest.fixture(scope="module")
def mixed() -> bytes:
    return b"".join(modelfile.content(filled(LENET5, LENET["mixed"], 30)))


def sealed(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()[:8]


def remade(whole: bytes, change: Callable[[dict[str, Any]], Any], pack: Callable[[bytes], bytes] = bytes) -> bytes:
    """The file with another manifest and a right checksum."""
    file = container._parse(bytearray(whole))
    manifest = json.loads(json.dumps(file.manifest))
    change(manifest)
    packed = pack(zlib.compress(json.dumps(manifest).encode()))
    head = container._header({}, len(packed), len(file.streams))
    return sealed(head + packed + file.streams)


BAD: dict[str, Callable[[dict[str, Any]], Any]] = {
    "key": lambda m: m.update(more=1),
    "row": lambda m: m["coded"][0].append(1),
    "row type": lambda m: m["coded"][0].__setitem__(1, "F64"),
    "row size": lambda m: m["coded"][0].__setitem__(3, 1.0),
    "row tables": lambda m: m["coded"][0].__setitem__(4, 1 << 30),
    "row shape": lambda m: m["coded"][0].__setitem__(2, [1] * 9),
    "rows swapped": lambda m: m["coded"].reverse(),
    "too many numbers": lambda m: m["coded"][0].__setitem__(2, [1 << 13, 1 << 13]),
    "unknown edit": lambda m: m["edits"][0].update(kind="other"),
    "field too many": lambda m: m["edits"][0].update(more=1),
    "field missing": lambda m: m["edits"][0].pop("seed"),
    "field of another type": lambda m: m["edits"][0].update(half=1),
    "whole number for a real": lambda m: m["edits"][3].update(step=0),
    "seed": lambda m: m["edits"][0].update(seed=1 << 32),
    "bands": lambda m: m["edits"][0].update(sizes=[20, 3]),
    "width": lambda m: m["edits"][1].update(inputs=9),
}


@pytest.mark.parametrize("name", BAD)
def test_hostile_manifests_are_refused(mixed: bytes, tmp_path: Path, name: str) -> None:
    content = remade(mixed, BAD[name])
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(ModelFileError):
        modelfile.load(tmp_path / "bad")
    with pytest.raises(RefusedError):
        specified.dense(content)


def readable(path: Path, content: bytes) -> bool:
    """Whether the file is read, by both alike."""
    path.write_bytes(content)
    try:
        theirs = bits_of(specified.read(content).tensors)
    except RefusedError:
        with pytest.raises(ModelFileError):
            reader.checked(path)
        return False
    assert theirs == bits_of(reader.decode(*reader.checked(path), path))
    return True


def test_the_same_manifest_is_not_refused(mixed: bytes, tmp_path: Path) -> None:
    assert readable(tmp_path / "file", remade(mixed, lambda _: None))
    assert not readable(tmp_path / "file", remade(mixed, lambda _: None, lambda packed: packed + b"x"))
    assert not readable(tmp_path / "file", remade(mixed, lambda _: None, lambda packed: packed[:-1]))
    assert not readable(tmp_path / "file", mixed[:-1] + bytes([mixed[-1] ^ 1]))


def test_the_size_of_a_manifest(tmp_path: Path) -> None:
    for size in (1 << 24, (1 << 24) + 1):
        manifest = {"arch": {}, "edits": [], "coded": [], "history": []}
        manifest["arch"]["encoder"] = "x" * (size - len(container.dump(manifest)) - len('"encoder":""'))
        assert len(container.dump(manifest)) == size
        assert readable(tmp_path / "file", b"".join(container.content(manifest, {}, b""))) == (size == 1 << 24)


def test_the_numbers_that_a_file_is_trusted_to_hold(tmp_path: Path) -> None:
    for more in (0, 1):
        count = 1_000_000
        for _ in range(3):  # the length of the file depends on its digits
            rows = [["a", "U8", [count], 2, 0]]
            manifest = {"arch": {}, "edits": [], "coded": rows, "history": []}
            content = b"".join(container.content(manifest, {}, b"\x00\x02"))
            count = (1 << 20) + 1000 * (len(content) - 8) + more
        assert rows[0][2] == [count]
        assert readable(tmp_path / "file", content) == (not more)


def test_accumulators_of_32_bits() -> None:
    for bias, fits in ((2**31 - 256, True), (2**31 - 128, False), (0.5, False), (np.nan, False)):
        tensors = {"l.form.integers": np.ones((1, 1), np.int8), "l.bias": np.array([bias], np.float32)}
        assert (weights.beyond_int32(*tensors.values()) == "") == fits
        try:
            specified.check_forms(tensors)
        except RefusedError:
            assert not fits
        else:
            assert fits


def table(symbols: int) -> bytes:
    """An order 0 stream of so many symbols with equal weights, without words."""
    return bytes([integers.ORDER0]) + varint(symbols << 1) + signed(-7) + bytes((3 + 4 * symbols + 7) // 8)


def settings(*changes: tuple[int, int]) -> bytes:
    """An adaptive stream of zeros for the shape (64, 70) with some settings changed."""
    numbers = [3000, 0, 0, 0, 0, 70]
    for place, value in changes:
        numbers[place] = value
    head = varint(numbers[0]) + b"".join(signed(number) for number in numbers[1:5]) + varint(numbers[5])
    return bytes([integers.ADAPTIVE]) + head + varint(1 << 1) + signed(3)


EDGES = {
    "4096 symbols": ("integers", (1,), table(4096), True),
    "4097 symbols": ("integers", (1,), table(4097), False),
    "settings": ("integers", (64, 70), settings(), True),
    "largest weights": ("integers", (64, 70), settings((1, 1 << 20), (2, -1024), (3, 1024), (4, 1024)), True),
    "bias": ("integers", (64, 70), settings((1, 1 + (1 << 20))), False),
    "weight": ("integers", (64, 70), settings((3, -1025)), False),
    "density": ("integers", (64, 70), settings((0, 15)), False),
    "width": ("integers", (64, 70), settings((5, 35)), False),
    "width for many rows": ("integers", (2048, 128), settings((5, 128)), False),
    "largest density": ("integers", (64, 70), settings((0, 65520)), True),
    "density above": ("integers", (64, 70), settings((0, 65521)), False),
    "step of 2047": (
        "floats",
        (2,),
        b"\x04\x28\x01" + signed(-2047) + b"\x0c" + (4094 << 12).to_bytes(3, "little"),
        True,
    ),
    "step of -2048": ("floats", (1,), b"\x04\x00\x00" + signed(-2048), False),
    "step of 2048": ("floats", (1,), b"\x04\x00\x00" + signed(2048), False),
    "number of 64 bits": ("integers", (1,), b"\x00" + varint((1 << 64) - 1), True),
    "number of 65 bits": ("integers", (0,), b"\x00" + varint(1 << 64), False),
    "long zero": ("integers", (1,), b"\x00" + b"\x80" * 9 + b"\x00", True),
    "longer zero": ("integers", (1,), b"\x00" + b"\x80" * 10 + b"\x00", False),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges_of_streams(name: str) -> None:
    kind, shape, content, fits = EDGES[name]
    ours = {"integers": integers.decode, "floats": floats.decode}[kind]
    theirs = getattr(specified_streams, kind)
    if fits:
        assert theirs(content, shape).tobytes() == ours(content, shape).tobytes()
        return
    with pytest.raises(ModelFileError):
        ours(content, shape)
    with pytest.raises(RefusedError):
        theirs(content, shape)


def test_changed_files_are_refused_or_read_alike(tmp_path: Path) -> None:
    whole = b"".join(modelfile.content(filled(LENET5, LENET["pq"], 31)))
    rng, counts = np.random.default_rng(17), Counter()
    begin = 8 + int.from_bytes(whole[:8], "little")
    for number in range(150):
        content = bytearray(whole[:-8])
        place = int(rng.integers(0, begin) if number % 4 == 0 else rng.integers(begin, len(content)))
        content[place] ^= 1 << int(rng.integers(0, 8))
        path, content = tmp_path / "changed", sealed(bytes(content))
        path.write_bytes(content)
        try:
            ours = bits_of(reader.read_dense(path))
        except ModelFileError:
            ours = None
        try:
            theirs = bits_of(specified.dense(content))
        except RefusedError:
            theirs = None
        assert ours == theirs, place
        counts[ours is None] += 1
    assert min(counts.values()) > 20
