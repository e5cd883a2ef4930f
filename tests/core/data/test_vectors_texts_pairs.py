"""Data sets of vectors, texts and pairs: what files hold arrives, divided without a query in the training part."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from hashpress.core.data import load_data, load_pairs
from hashpress.core.data.labels import ClassLabels, MultiLabels, PairLabels
from hashpress.core.errors import DataError
from hashpress.core.inputs import TextInput


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def lines(path, rows):
    content = "\n".join(json.dumps(row) for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_vectors_keep_their_labels(tmp_path):
    x, y = np.arange(60.0).reshape(30, 2), np.array(["b", "a", "c"] * 10)
    split = load_data(f"vectors:{npz(tmp_path / 'v.npz', x=x, y=y)}")
    assert split.classes == ("a", "b", "c")
    assert (len(split.train), len(split.queries), len(split.database)) == (24, 6, 24)
    seen = set()
    for part in (split.train, split.queries):
        for value, label in zip(part.values, part.labels, strict=True):
            row = int(value[0]) // 2
            seen.add(row)
            assert split.classes[label] == y[row]
    assert len(seen) == 30  # queries and training vectors are different ones
    few = load_data(f"vectors:{tmp_path / 'v.npz'}?limit=9")
    assert len(few.train) + len(few.queries) == 9


def test_vectors_with_a_test_part_and_several_labels(tmp_path):
    x, y = np.arange(40, dtype=np.uint8).reshape(20, 2), np.random.default_rng(0).integers(0, 2, (20, 4))
    path = npz(tmp_path / "v.npz", x=x[:15], y=y[:15], x_test=x[15:], y_test=y[15:], classes=np.array(list("abcd")))
    split = load_data(f"vectors:{path}")
    assert split.queries.label_type is MultiLabels
    assert split.classes == ("a", "b", "c", "d")
    hits = split.relevance()(slice(None))
    for q, asked in enumerate(split.queries.values[:, 0] // 2):
        for i, stored in enumerate(split.database.values[:, 0] // 2):
            assert hits[q, i] == bool((y[asked] & y[stored]).any())


@pytest.mark.parametrize("protocol", ["A", "A-excl", "B"])
def test_several_labels_divide_by_every_protocol(tmp_path, protocol):
    y = np.random.default_rng(1).random((200, 5)) < 0.3
    split = load_data(f"vectors:{npz(tmp_path / 'v.npz', x=np.arange(200.0)[:, None], y=y)}", protocol=protocol)
    train, queries, database = (set(part.values[:, 0]) for part in (split.train, split.queries, split.database))
    assert not queries & (train | database)
    assert train
    assert database
    assert train <= database if protocol != "A-excl" else not train & database
    for part in (split.train, split.queries):
        assert np.array_equal(part.labels, y[part.values[:, 0].astype(int)])


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz"])
def test_texts_keep_their_labels(tmp_path, name):
    rows = [{"text": f"text number {i} ä", "label": "odd" if i % 2 else "even"} for i in range(20)]
    split = load_data(f"text:{lines(tmp_path / name, rows)}")
    assert split.classes == ("even", "odd")
    for part in (split.train, split.queries):
        for text, label in zip(part.values, part.labels, strict=True):
            assert int(text.split()[2]) % 2 == label


def test_a_folder_of_texts_has_two_parts_and_words_come_from_one(tmp_path):
    lines(tmp_path / "database.jsonl", [{"text": "red green green red", "label": ["a", "b"]}] * 3)
    lines(tmp_path / "query.jsonl.gz", [{"text": "blue blue blue", "label": []}])
    split = load_data(f"text:{tmp_path}")
    assert split.train.labels.tolist() == [[True, True]] * 3
    assert split.queries.labels.tolist() == [[False, False]]
    assert set(TextInput.of(split).vocabulary) == {"red", "green"}


@pytest.fixture
def icons(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 5, 6), dtype=np.uint8)
    tags = np.array([f"tag {image[0, 0]} {image[0, 1]}" for image in images])
    return {"images": images, "tags": tags, "labels": np.arange(40) % 4, "classes": np.array(list("wxyz"))}


def aligned(images, texts):
    return all(text == f"tag {image[0, 0, 0]} {image[0, 0, 1]}" for image, text in zip(images, texts, strict=True))


@pytest.mark.parametrize("protocol", ["A", "B"])
def test_both_sides_of_pairs_are_divided_alike(tmp_path, icons, protocol):
    pairs = load_pairs(f"pairs:{npz(tmp_path / 'p.npz', **icons)}?limit=36", protocol=protocol)
    for name in ("train", "queries", "database"):
        images, texts = getattr(pairs.images, name), getattr(pairs.texts, name)
        assert aligned(images.values, texts.values)
        assert np.array_equal(images.labels, texts.labels)
    assert pairs.images.train.label_type is ClassLabels
    across = pairs.image_to_text
    assert across.queries is pairs.images.queries
    assert across.database is pairs.texts.database
    hits = across.relevance()(slice(None))
    assert np.array_equal(hits, pairs.images.queries.labels[:, None] == pairs.texts.database.labels)
    assert pairs.text_to_image.database is pairs.images.database


def test_pairs_without_classes_find_their_other_half(tmp_path, icons):
    path = npz(tmp_path / "p.npz", images=icons["images"], texts=icons["tags"])
    pairs = load_pairs(f"pairs:{path}")
    assert pairs.texts.queries.label_type is PairLabels
    hits = pairs.text_to_image.relevance()(slice(None))
    assert (hits.sum(1) == 1).all()
    assert aligned(pairs.images.database.values[hits.argmax(1)], pairs.texts.queries.values)
    with pytest.raises(DataError, match="pairs have none"):
        load_pairs(f"pairs:{path}", protocol="A")


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("vectors:one.npy", "give an .npz file"),
        ("vectors:pickle.npz", "no .npz file of plain arrays"),
        ("vectors:cut.npz", "no .npz file of plain arrays"),
        ("vectors:no_y.npz", "has no array y"),
        ("vectors:half.npz", "both of x_test and y_test"),
        ("vectors:floats.npz", "labels are numbers or strings"),
        ("vectors:outside.npz", "do not count 2 classes"),
        ("vectors:missing.npz", "does not exist"),
        ("text:bad.jsonl", "bad.jsonl, line 2: no JSON"),
        ("text:number.jsonl", 'line 1: write {"text"'),
        ("text:latin.jsonl", "cannot read texts"),
        ("text:cut.jsonl.gz", "cannot read texts"),
        ("text:folder", "has no train.jsonl"),
        ("pairs:p.npz", "side=images or"),
        ("pairs:p.npz?side=sounds", "unknown side 'sounds'"),
        ("pairs:no_y.npz?side=texts", "has no array images"),
        ("pairs:uneven.npz?side=texts", "4 images, 3 texts and 4 labels"),
    ],
)
def test_files_that_are_not_what_they_should_be_are_refused(tmp_path, monkeypatch, spec, found):
    monkeypatch.chdir(tmp_path)
    x, y, images = np.zeros((4, 2)), np.arange(4) % 2, np.zeros((4, 3, 3), np.uint8)
    np.save("one.npy", x)
    np.savez("pickle.npz", x=x, y=np.array([{}, 1, 2, 3], dtype=object))
    np.savez("whole.npz", x=x, y=y)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:-90])
    np.savez("no_y.npz", x=x)
    np.savez("half.npz", x=x, y=y, x_test=x)
    np.savez("floats.npz", x=x, y=y + 0.5)
    np.savez("outside.npz", x=x, y=y + 1, classes=np.array(["a", "b"]))
    (tmp_path / "bad.jsonl").write_text('{"text": "a", "label": "b"}\n{"text": \n')
    (tmp_path / "number.jsonl").write_text('{"text": 5, "label": "b"}\n')
    (tmp_path / "latin.jsonl").write_bytes(b'{"text": "\xe4", "label": "b"}\n')
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a", "label": "b"}\n')[:-9])
    (tmp_path / "folder").mkdir()
    np.savez("p.npz", images=images, texts=np.array(list("abcd")), labels=y)
    np.savez("uneven.npz", images=images, texts=np.array(list("abc")), labels=y)
    with pytest.raises(DataError, match=found.replace("(", r"\(").replace("{", r"\{")):
        load_data(spec)
