"""The cache of decoded images: hits, keys, damage, concurrency, and folders that cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hashpress.core.data import cache, imagefolder, load_data
from hashpress.core.errors import DataError
from PIL import Image


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HASHPRESS_CACHE", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path):
    for k, name in enumerate(("cat", "dog")):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(5):
            Image.new("RGB", (4, 4), (10 * i + k, 0, 0)).save(tmp_path / "set" / name / f"{i}.png")
    return tmp_path / "set"


@pytest.fixture
def decoded(monkeypatch):
    names = []
    true = imagefolder.decode

    def spy(data, name, spec):
        names.append(name)
        return true(data, name, spec)

    monkeypatch.setattr(imagefolder, "decode", spy)
    return names


def entries(root: Path) -> list[Path]:
    return sorted(path for path in (root / "images").iterdir())


def test_images_are_decoded_once_and_mapped(folder, decoded, own_cache):
    first = load_data(f"imagefolder:{folder}")
    assert len(decoded) == 10
    second = load_data(f"imagefolder:{folder}")
    assert len(decoded) == 10
    assert first.digest == second.digest
    assert len(entries(own_cache)) == 1


def test_parts_are_maps_that_do_not_change_the_file(tmp_path, own_cache):
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(tmp_path / part / name / "a.png")
    split = load_data(f"imagefolder:{tmp_path}")
    assert isinstance(split.train.pixels, np.memmap)
    split.train.pixels[:] = 77
    assert load_data(f"imagefolder:{tmp_path}").train.pixels.max() == 0


def test_options_and_changed_files_are_other_entries(folder, decoded, own_cache):
    load_data(f"imagefolder:{folder}")
    load_data(f"imagefolder:{folder}?size=8")
    load_data(f"imagefolder:{folder}?gray=1")
    assert (len(decoded), len(entries(own_cache))) == (30, 3)
    os.utime(folder / "cat" / "0.png", (1, 1))
    load_data(f"imagefolder:{folder}")
    (folder / "cat" / "0.png").rename(folder / "cat" / "00.png")
    load_data(f"imagefolder:{folder}")
    assert (len(decoded), len(entries(own_cache))) == (50, 5)


DAMAGE = {
    "flipped": lambda entry: flip(entry / "train.npy", -1),
    "header": lambda entry: flip(entry / "train.npy", 20),
    "truncated": lambda entry: (entry / "train.npy").write_bytes((entry / "train.npy").read_bytes()[:-7]),
    "labels": lambda entry: flip(entry / "train-labels.npy", -1),
    "empty": lambda entry: (entry / "train.npy").write_bytes(b""),
    "missing": lambda entry: (entry / "train.npy").unlink(),
    "no json": lambda entry: (entry / "about.json").write_text("{"),
    "other json": lambda entry: (entry / "about.json").write_text("[]"),
    "pickle": lambda entry: np.save(entry / "train.npy", np.array([{}], dtype=object), allow_pickle=True),
}


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_entries_are_made_again(folder, decoded, own_cache, case):
    before = load_data(f"imagefolder:{folder}").digest
    (entry,) = entries(own_cache)
    DAMAGE[case](entry)
    assert load_data(f"imagefolder:{folder}").digest == before
    assert len(decoded) == 20
    assert load_data(f"imagefolder:{folder}").digest == before
    assert len(decoded) == 20
    assert entries(own_cache) == [entry]


def test_another_process_that_is_faster_wins(folder, own_cache, monkeypatch):
    before = load_data(f"imagefolder:{folder}").digest
    (entry,) = entries(own_cache)
    stamp = (entry / "train.npy").stat().st_ino
    true, calls = cache._open, []

    def blind(path):
        calls.append(path)
        return None if len(calls) == 1 else true(path)

    monkeypatch.setattr(cache, "_open", blind)
    assert load_data(f"imagefolder:{folder}").digest == before
    assert (entry / "train.npy").stat().st_ino == stamp


def test_processes_share_one_cache(folder, own_cache):
    code = f"from hashpress.core.data import load_data; print(load_data('imagefolder:{folder}').digest)"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    digests = {process.communicate(timeout=60)[0].strip() for process in running}
    assert digests == {load_data(f"imagefolder:{folder}").digest}
    assert len(entries(own_cache)) == 1


def test_an_interrupted_decoding_leaves_nothing(folder, own_cache, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(imagefolder, "decode", stop)
    with pytest.raises(KeyboardInterrupt):
        load_data(f"imagefolder:{folder}")
    assert entries(own_cache) == []


def test_a_cache_that_cannot_be_written_is_named(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("HASHPRESS_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="HASHPRESS_CACHE names another folder"):
        load_data(f"imagefolder:{folder}")


def test_a_full_disk_is_told(folder, own_cache, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_write_part", full)
    with pytest.raises(DataError, match="No space left on device"):
        load_data(f"imagefolder:{folder}")
    assert entries(own_cache) == []


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.delenv("HASHPRESS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_dir() == tmp_path / "hashpress"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_dir() == tmp_path / ".cache" / "hashpress"
