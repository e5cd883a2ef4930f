"""IDX files: the four names, plain and gzip, and every way in which one can be damaged."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from hashpress.core.data import load_data
from hashpress.core.errors import DataError

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def encoded(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def contents():
    random = np.random.default_rng(0)
    made = {}
    for part, count in (("train", 30), ("t10k", 10)):
        made[f"{part}-images-idx3-ubyte"] = encoded(random.integers(0, 256, (count, 5, 4)))
        made[f"{part}-labels-idx1-ubyte"] = encoded(np.arange(count) % 10)
    return made


def written(folder, contents, compress=False):
    for name, data in contents.items():
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(data))
        else:
            (folder / name).write_bytes(data)
    return f"mnist:{folder}"


@pytest.mark.parametrize("compress", [False, True])
def test_plain_and_gzip_are_read(tmp_path, contents, compress):
    split = load_data(written(tmp_path, contents, compress))
    assert split.train.pixels.shape == (30, 1, 5, 4)
    assert len(split.queries) == 10
    raw = np.frombuffer(contents[NAMES[0]], np.uint8, offset=16).reshape(30, 1, 5, 4)
    ours = {(image.tobytes(), int(label)) for image, label in zip(split.train.pixels, split.train.labels, strict=True)}
    assert ours == {(image.tobytes(), index % 10) for index, image in enumerate(raw)}


def test_fashion_has_its_own_names(tmp_path, contents):
    written(tmp_path, contents)
    assert load_data(f"fashion-mnist:{tmp_path}").classes[9] == "Ankle-boot"


def broken(contents, name, change):
    return {**contents, name: change(contents[name])}


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (NAMES[0], lambda data: data[:-1], "should hold 600 bytes after its header, found 599"),
        (NAMES[0], lambda data: data + b"x", "found more"),
        (NAMES[0], lambda data: data[:9], "not an IDX file"),
        (NAMES[0], lambda data: b"", "not an IDX file"),
        (NAMES[0], lambda data: b"\0\0\x0d\x03" + data[4:], "not an IDX file"),
        (NAMES[1], lambda data: data[:4] + b"\xff\xff\xff\xff" + data[8:], "announces 4,294,967,295 bytes"),
        (NAMES[0], lambda data: data[:4] + b"\xff" * 12 + data[16:], "announces"),
        (NAMES[1], lambda data: encoded(np.zeros(29)), "30 train images and 29 labels"),
        (NAMES[3], lambda data: data[:-1] + b"\x0a", "label 10, expected 0 to 9"),
    ],
)
def test_damaged_files_are_refused(tmp_path, contents, name, change, words):
    with pytest.raises(DataError, match=words) as caught:
        load_data(written(tmp_path, broken(contents, name, change)))
    assert "\n" not in str(caught.value)


def test_damaged_gzip_is_refused(tmp_path, contents):
    spec = written(tmp_path, contents, compress=True)
    path = tmp_path / f"{NAMES[0]}.gz"
    whole = path.read_bytes()
    for data in (whole[:-20], whole[:40] + bytes(20) + whole[60:], b"no gzip", b""):
        path.write_bytes(data)
        with pytest.raises(DataError, match="train-images"):
            load_data(spec)


def test_missing_files_are_named(tmp_path, contents):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(DataError, match="give the folder"):
        load_data(f"mnist:{tmp_path / 'file'}")
    del contents[NAMES[3]]
    with pytest.raises(DataError, match="no t10k-labels-idx1-ubyte"):
        load_data(written(tmp_path, contents))


def test_real_mnist(data_dir):
    split = load_data(f"mnist:{data_dir / 'mnist'}")
    assert (len(split.train), len(split.queries)) == (60000, 10000)
    assert np.bincount(split.queries.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert split.mean[0] == pytest.approx(0.1307, abs=5e-5)
    assert split.std[0] == pytest.approx(0.3081, abs=5e-5)
