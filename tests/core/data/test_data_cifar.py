"""CIFAR-10 in its three forms, and pickles that are none of ours."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest
from hashpress.core.data import image_files, load_data
from hashpress.core.data.cifar_batches import CLASSES, Array, Dtype, read_batch, read_pickle
from hashpress.core.errors import DataError
from PIL import Image

NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
COUNT = 20


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HASHPRESS_CACHE", str(folder))
    return folder


def batch(index: int) -> tuple[np.ndarray, list[int]]:
    random = np.random.default_rng(index)
    return random.integers(0, 256, (COUNT, 3072), dtype=np.uint8), [(i + index) % 10 for i in range(COUNT)]


def python2(pixels: np.ndarray, labels: list[int]) -> bytes:
    """A pickle with the opcodes that python 2's cPickle wrote into the original files."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value

    shape = b"J" + struct.pack("<i", pixels.shape[0]) + b"M" + struct.pack("<H", pixels.shape[1]) + b"\x86"
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R(K\x03" + text(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2
    dtype += b"K\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
    array += b"(K\x01" + shape + dtype + b"\x89" + text(pixels.tobytes()) + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + numbers + text(b"batch_label") + text(b"x") + b"u."


def python3(pixels: np.ndarray, labels: list[int], protocol: int = 2) -> bytes:
    return pickle.dumps({b"data": pixels, b"labels": labels, b"filenames": [b"a.png"] * COUNT}, protocol=protocol)


def binary(pixels: np.ndarray, labels: list[int]) -> bytes:
    return np.concatenate([np.array(labels, np.uint8)[:, None], pixels], axis=1).tobytes()


def files(encode, suffix: str = "") -> dict[str, bytes]:
    return {f"cifar-10-batches/{name}{suffix}": encode(*batch(i)) for i, name in enumerate(NAMES)}


def written(root, contents) -> str:
    for name, data in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return f"cifar10:{root}"


def pictures(images) -> set[tuple[bytes, int]]:
    return {(image.tobytes(), int(label)) for image, label in zip(images.pixels, images.labels, strict=True)}


def expected(indices) -> set[tuple[bytes, int]]:
    return {(image.tobytes(), label) for i in indices for image, label in zip(*batch(i), strict=True)}


FORMS = {
    "python 2": (python2, ""),
    "python 3, protocol 2": (python3, ""),
    "python 3, protocol 4": (lambda pixels, labels: python3(pixels, labels, 4), ""),
    "binary": (binary, ".bin"),
}


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_batches_are_read(tmp_path, form, archived):
    contents = {
        **files(*FORMS[form]),
        "cifar-10-batches/batches.meta": b"anything",
        "cifar-10-batches/readme.html": b"",
    }
    spec = written(tmp_path / "folder", contents)
    if archived:
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
            archive.add(tmp_path / "folder", "x")
        spec = f"cifar10:{tmp_path / 'a.tar.gz'}"
    split = load_data(spec)
    assert split.classes == CLASSES
    assert pictures(split.train) == expected(range(5))
    assert pictures(split.queries) == expected([5])


def test_all_forms_of_batches_are_one_data_set(tmp_path):
    digests = {load_data(written(tmp_path / name, files(*form))).digest for name, form in list(FORMS.items())[:3]}
    assert len(digests) == 1


def test_class_folders_are_read(tmp_path):
    contents = {}
    for i, name in enumerate(CLASSES):
        for part in ("train", "test"):
            buffer = io.BytesIO()
            Image.new("RGB", (32, 32), (i, i, i)).save(buffer, "PNG")
            contents[f"{part}/{name}/0.png"] = buffer.getvalue()
    split = load_data(written(tmp_path / "a", contents))
    assert (split.train.pixels[:, 0, 0, 0] == split.train.labels).all()
    mixed = {**contents, "data_batch_1": python3(*batch(0))}
    with pytest.raises(DataError, match="one form"):
        load_data(written(tmp_path / "b", mixed))
    other = {name.replace("dog", "wolf"): data for name, data in contents.items()}
    with pytest.raises(DataError, match="imagefolder:PATH"):
        load_data(written(tmp_path / "c", other))


def test_missing_batches_are_told(tmp_path):
    contents = files(binary, ".bin")
    del contents["cifar-10-batches/data_batch_3.bin"]
    with pytest.raises(DataError, match="six batches"):
        load_data(written(tmp_path, contents))


def test_size_and_gray_apply_to_batches(tmp_path):
    split = load_data(written(tmp_path, files(binary, ".bin")) + "?size=16&gray=1&limit=30")
    assert split.train.pixels.shape == (30, 1, 16, 16)
    image = batch(0)[0][0].reshape(3, 32, 32).transpose(1, 2, 0)
    small = Image.fromarray(image).convert("L").resize((16, 16), Image.Resampling.BILINEAR)
    every = {picture.tobytes() for picture in load_data(f"cifar10:{tmp_path}?size=16&gray=1").train.pixels}
    assert np.asarray(small).tobytes() in every
    assert {picture.tobytes() for picture in split.train.pixels} < every


def test_only_the_images_that_a_limit_keeps_are_resized(tmp_path, monkeypatch):
    spec = written(tmp_path, files(binary, ".bin")) + "?size=40&limit=30"
    resized = []
    monkeypatch.setattr(image_files, "_sized", lambda image, size, *how: resized.append(size) or image.resize((40, 40)))
    assert load_data(spec).train.pixels.shape == (30, 3, 40, 40)
    assert resized == [40] * (30 + 20)  # there are twenty queries


class Calls:
    def __init__(self, function, *arguments):
        self.pair = (function, arguments)

    def __reduce__(self):
        return self.pair


GLOBALS = b"cbuiltins\nglobals\n)R."
HOSTILE = {
    "system": pickle.dumps(Calls(os.system, "touch /tmp/hashpress-was-here")),
    "eval": pickle.dumps({b"data": Calls(eval, "1")}),
    "other numpy": pickle.dumps(Calls(np.load, "x")),
    "object array": pickle.dumps({b"data": np.array([{}, []], dtype=object), b"labels": [0, 1]}),
    "float array": pickle.dumps({b"data": np.zeros((2, 3072)), b"labels": [0, 1]}),
    "codec": pickle.dumps({b"data": Calls(__import__("codecs").decode, b"x", "zlib"), b"labels": []}),
    "set": pickle.dumps({1, 2}),
    "globals": GLOBALS,
    "memo": b"\x80\x02}r\xff\xff\xff\x7fq\x00h\x01.",
    "persistent": b"Pname\n.",
    "extension": b"\x80\x02\x82\x01.",
    "state of a class": b"\x80\x02cnumpy\nndarray\n}b.",
    "state of a dict": b"\x80\x02}}b.",
    "long string": b"\x80\x02T\xff\xff\xff\x7fabc.",
    "truncated": python3(*batch(0))[:2000],
    "empty": b"",
    "text": b"hello, this is no pickle",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_and_damaged_pickles_run_nothing(case):
    with pytest.raises(DataError, match="test_batch") as caught:
        list(read_batch(HOSTILE[case], "test_batch"))
    assert "\n" not in str(caught.value)
    assert not os.path.exists("/tmp/hashpress-was-here")  # noqa: PTH110, S108  the name that the pickle would make


def test_a_huge_memo_index_costs_no_memory():
    value = read_pickle(b"\x80\x02}r\xff\xff\xff\x7f.", "x")  # the C unpickler makes a table of 2^32 places for it
    assert value == {}


def test_nested_references_do_not_explode():
    levels = b"".join(b"](" + b"h" + bytes([i]) * 1 + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(60))
    with pytest.raises(DataError):  # two to the power of sixty steps would not come to an end
        list(read_batch(b"\x80\x02]q\x00" + levels + b"cnumpy\ndtype\nh<\x85R.", "test_batch"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p, n: {b"data": p[:, :-1], b"labels": n}, "no uint8 array"),
        (lambda p, n: {b"data": p.astype(np.int8), b"labels": n}, "array of something else"),
        (lambda p, n: {b"data": np.asfortranarray(p), b"labels": n}, "no uint8 array"),
        (lambda p, n: {b"data": p}, "no list of labels"),
        (lambda p, n: {b"data": p, b"labels": ["cat"] * COUNT}, "no list of labels"),
        (lambda p, n: {b"data": p, b"labels": [-1] * COUNT}, "no list of labels"),
        (lambda p, n: {b"data": p, b"labels": n[1:]}, "20 images and 19 labels"),
        (lambda p, n: {b"data": p, b"labels": [10] * COUNT}, "expected labels 0 to 9"),
        (lambda p, n: [p, n], "expected the dict"),
    ],
)
def test_pickles_of_other_content_are_refused(change, words):
    with pytest.raises(DataError, match=words):
        list(read_batch(pickle.dumps(change(*batch(0)), protocol=2), "data_batch_1"))


def test_an_array_with_a_lying_shape_is_none():
    array = Array()
    for shape in ((10**6, 3072), (-1, -3072), (2**62, 3072), (1, 3072, 1), (1.0, 3072)):
        array.__setstate__((1, shape, Dtype("u1"), False, bytes(3072)))
        assert array.array() is None
    array.__setstate__((1, (1, 3072), Dtype("u1"), False, bytes(3072)))
    assert array.array().shape == (1, 3072)


@pytest.mark.parametrize("data", [b"", b"x" * 3072, binary(*batch(0))[:-1]])
def test_damaged_binary_batches_are_refused(data):
    with pytest.raises(DataError, match=r"data_batch_1\.bin"):
        list(read_batch(data, "data_batch_1.bin"))


@pytest.mark.slow
def test_the_real_archive(data_dir, own_cache, monkeypatch):
    split = load_data(f"cifar10:{data_dir / 'cifar10-jpeg.tar.xz'}")
    assert (len(split.train), len(split.queries)) == (50000, 10000)
    assert np.bincount(split.queries.labels).tolist() == [1000] * 10
    assert split.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=5e-4)  # the published mean of the original images
    with tarfile.open(data_dir / "cifar10-jpeg.tar.xz") as archive:
        member = archive.extractfile("test/airplane/0000.jpg")
        first = np.asarray(Image.open(member).convert("RGB")).transpose(2, 0, 1)
    planes = split.queries.pixels[split.queries.labels == 0]
    assert (planes == first).all((1, 2, 3)).sum() == 1

    def opened(*_, **__):
        raise AssertionError("the archive was unpacked again")

    monkeypatch.setattr(tarfile, "open", opened)
    assert load_data(f"cifar10:{data_dir / 'cifar10-jpeg.tar.xz'}").digest == split.digest
