"""Which items are relevant to which, against sets in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hashpress.core.data.images import Images, Split
from hashpress.core.data.labels import ClassLabels, MultiLabels, PairLabels, relevance
from hashpress.core.data.texts import Texts
from hashpress.core.data.vectors import Vectors
from hashpress.core.errors import DataError


def test_items_that_share_a_label_are_relevant():
    random = np.random.default_rng(0)
    asked, stored = random.random((9, 70)) < 0.05, random.random((30, 70)) < 0.05
    sets = [[set(np.flatnonzero(row)) for row in rows] for rows in (asked, stored)]
    expected = np.array([[bool(a & b) for b in sets[1]] for a in sets[0]])
    assert 0 < expected.mean() < 1
    found = MultiLabels(asked).relevance(MultiLabels(stored))
    assert np.array_equal(found(slice(2, 7)), expected[2:7])
    in_torch = relevance(torch.from_numpy(asked).float(), torch.from_numpy(stored).float())
    assert np.array_equal(in_torch.numpy(), expected)


def test_equal_classes_are_relevant_whatever_their_numbers():
    asked, stored = np.array([5, -3, 7]), np.array([7, 7, 5, 2**40])
    expected = [[False, False, True, False], [False] * 4, [True, True, False, False]]
    for kind in (ClassLabels, PairLabels):
        assert kind(asked).relevance(kind(stored))(slice(None)).tolist() == expected
    assert relevance(torch.from_numpy(asked), torch.from_numpy(stored)).tolist() == expected


def test_labels_of_different_kinds_do_not_compare():
    numbers, many = np.arange(3), np.eye(3, dtype=bool)
    with pytest.raises(DataError, match=r"ClassLabels .* cannot search a database with MultiLabels"):
        ClassLabels(numbers).relevance(MultiLabels(many))
    with pytest.raises(DataError, match=r"MultiLabels \(3, 3\) cannot search"):
        MultiLabels(many).relevance(MultiLabels(np.eye(4, dtype=bool)))
    with pytest.raises(DataError, match="cannot search a database with PairLabels"):
        ClassLabels(numbers).relevance(PairLabels(numbers))
    for kind, wrong in ((ClassLabels, np.arange(3.0)), (MultiLabels, np.eye(3))):
        with pytest.raises(DataError, match=f"{kind.__name__} take"):
            kind(wrong)


@pytest.mark.parametrize(
    "items",
    [
        lambda *labels: Images(np.arange(5 * 12, dtype=np.uint8).reshape(5, 3, 2, 2), *labels),
        lambda *labels: Vectors(np.arange(10.0).reshape(5, 2), *labels),
        lambda *labels: Texts(np.array(["a", "b c", "ä", "", "e"], dtype=object), *labels),
    ],
)
@pytest.mark.parametrize("labels", [(np.arange(5),), (np.eye(5, dtype=bool),), (np.arange(5), PairLabels)])
def test_items_of_every_kind_keep_one_protocol(items, labels):
    whole = items(*labels)
    assert len(whole) == 5
    few = whole.take(np.array([3, 1]))
    assert few.label_type is whole.label_type
    assert np.array_equal(few.values, whole.values[[3, 1]])
    assert np.array_equal(few.labels, whole.labels[[3, 1]])
    assert np.array_equal(whole.select(np.array([3, 1]))[1:2], whole.values[1:2])
    assert np.array_equal(np.concatenate(list(whole.batches(2))), whole.values)
    digests = {part.digest for part in (whole, few, whole.take(slice(4)), whole.take(np.array([1, 0, 2, 3, 4])))}
    assert len(digests) == 4
    both = whole.take(slice(3)).joined(whole.take(slice(3, 5)))
    assert both.digest == whole.digest
    split = Split("x", "B", whole, few, whole, ())
    hits = split.relevance()(slice(None))
    assert hits.shape == (2, 5)
    assert hits[1, 1]
    with pytest.raises(DataError, match=f"5 {whole.noun} need int64 labels"):
        items(np.arange(4))


def test_texts_digest_knows_where_one_text_ends():
    first, second = (Texts(np.array(pair, dtype=object), np.arange(2)) for pair in (["ab", "c"], ["a", "bc"]))
    assert first.digest != second.digest


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: Vectors(np.array([[1.0, np.nan]]), np.zeros(1, int)), "finite"),
        (lambda: Vectors(np.zeros(3), np.zeros(3, int)), "numbers"),
        (lambda: Vectors(np.array([["a"]]), np.zeros(1, int)), "numbers"),
        (lambda: Texts(np.array([1, "a"], dtype=object), np.zeros(2, int)), "strings"),
        (lambda: Images(np.zeros((1, 3, 2, 2)), np.zeros(1, int)), "uint8"),
    ],
)
def test_values_of_another_kind_are_refused(make, found):
    with pytest.raises(DataError, match=found):
        make()
