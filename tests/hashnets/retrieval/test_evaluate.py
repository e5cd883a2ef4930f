"""Quality of networks and codes end to end, and the bits that flip."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hashpress.core.data import load_data
from hashpress.core.data.images import Images, Split
from hashpress.core.errors import InputError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import Arch, HashModel
from hashpress.hashnets.retrieval.assess import assess
from hashpress.hashnets.retrieval.codes import outputs, pack
from hashpress.hashnets.retrieval.evaluate import Quality, bit_flips, error_rate, evaluate, quality
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from torch import nn


@pytest.fixture(scope="module")
def split():
    return load_data("digits?limit=300", protocol="A")


def linear(bits: int, seed: int, split: Split) -> HashModel:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, bits))
    return HashModel(net, Arch("linear", bits, ImageInput((1, 8, 8), split.mean, split.std)))


def by_definition(query_bits, database_bits, asked, stored, rounds=150):
    """Mean average precision over random orders of ties, each scored by scikit-learn."""
    random = np.random.default_rng(0)
    distances = (query_bits[:, None] != database_bits).sum(2)
    values = [
        average_precision_score(stored == label, -(row + random.random(len(row)) * 0.5))
        for row, label in zip(distances, asked, strict=True)
        for _ in range(rounds)
    ]
    return np.mean(values)


def test_evaluate_is_the_mean_over_random_orders(split):
    model = linear(6, 0, split)
    ours = evaluate(model, split, at=(5,))
    queries, database = (outputs(model, images.pixels) >= 0 for images in (split.queries, split.database))
    expected = by_definition(queries, database, split.queries.labels, split.database.labels)
    assert ours.map == pytest.approx(expected, abs=3e-3)
    assert ours.map_lowest < ours.map < ours.map_highest
    assert (ours.queries, ours.database, ours.bits) == (len(queries), len(database), 6)
    assert ours.protocol == split.protocol
    assert ours.digest == split.digest


def test_asymmetric_hashes_the_database_with_the_other_network(split):
    model, other = linear(8, 0, split), linear(8, 1, split)
    ours = evaluate(model, split, against=other, at=(5,))
    queries, database = outputs(model, split.queries.pixels), outputs(other, split.database.pixels)
    assert ours.asymmetric
    assert ours == quality(pack(queries), pack(database), 8, split, at=(5,), asymmetric=True)
    assert ours.map != evaluate(model, split).map
    with pytest.raises(InputError, match="16 bits and the queries 8"):
        evaluate(model, split, against=linear(16, 0, split))


def test_codes_that_are_the_class_are_perfect(split):
    codes = [images.labels[:, None].astype(np.uint8) for images in (split.queries, split.database)]
    ours = quality(*codes, 4, split, at=(1, 10))
    assert ours.map == ours.map_lowest == ours.map_highest == 1
    assert [(at.map, at.precision, at.published_map) for at in ours.at] == [(1, 1, 1)] * 2
    constant = quality(*(np.zeros_like(code) for code in codes), 4, split, at=())
    share = (split.queries.labels[:, None] == split.database.labels).mean()
    assert constant.precision_radius_2 == pytest.approx(share)
    assert constant.curve_precision == pytest.approx([share] * 5)
    assert constant.curve_recall == pytest.approx([1] * 5)


def test_an_assessment_hashes_every_side_with_its_own_network():
    split = load_data("digits", protocol="B")
    assert len(split.queries) > 300
    small, original = linear(8, 0, split), linear(8, 1, split)
    found = assess(small, split, original)
    sides = {
        network: [outputs(model, items.pixels) for items in (split.queries, split.database)]
        for network, model in (("small", small), ("original", original))
    }
    (asked, stored), (asked_before, stored_before) = sides["small"], sides["original"]
    assert found.symmetric == quality(pack(asked), pack(stored), 8, split)
    assert found.asymmetric == quality(pack(asked), pack(stored_before), 8, split, asymmetric=True)
    assert found.original == quality(pack(asked_before), pack(stored_before), 8, split)
    assert len({side.map for side in (found.symmetric, found.asymmetric, found.original)}) == 3
    changed = (asked >= 0) != (asked_before >= 0)
    assert (found.flips.items, found.flips.flipped) == (len(split.queries), changed.sum())
    margins = np.abs(asked_before)
    assert found.flips.weighted_rate == pytest.approx(margins[changed].sum() / margins.sum(), rel=1e-5)
    assert f"({found.asymmetric.map - found.original.map:+.4f})" in str(found)
    assert assess(small, split).flips is None


def test_the_ball_has_radius_two():
    """Codes at distances 0 to 4, one of each; of the balls of radius 2 one holds three items and one none."""
    stored = np.array([[0], [1], [3], [7], [15]], np.uint8)
    items = [Images(np.zeros((len(marks), 1, 1, 1), np.uint8), np.array(marks)) for marks in ([0, 0], [0, 1, 1, 0, 0])]
    split = Split("x", "B", items[1], items[0], items[1], ("a", "b"))
    ours = quality(np.array([[0], [240]], np.uint8), stored, 8, split, at=())
    assert ours.precision_radius_2 == pytest.approx((1 / 3 + 0) / 2)
    assert ours.empty_radius_2 == 0.5
    assert ours.curve_recall[:5] == pytest.approx([1 / 6, 1 / 6, 1 / 6, 2 / 6, 4 / 6])
    for nearest, empty in ((0b00000011, 0), (0b00000111, 1)):
        found = quality(np.full((2, 1), nearest, np.uint8), np.zeros((5, 1), np.uint8), 8, split, at=())
        assert found.empty_radius_2 == empty


def test_the_error_is_that_of_the_items_given(split):
    model = linear(10, 3, split)
    for items in (split.queries, split.database):
        wanted = np.mean(outputs(model, items.pixels).argmax(1) != items.labels)
        assert error_rate(model, items) == pytest.approx(wanted)


def test_queries_without_anything_relevant_count_as_zero_and_are_told():
    images = [Images(np.zeros((n, 1, 1, 1), np.uint8), np.array(marks)) for n, marks in ((2, [0, 7]), (3, [0, 0, 0]))]
    split = Split("x", "B", images[1], images[0], images[1], tuple("01234567"))
    ours = quality(np.zeros((2, 1), np.uint8), np.zeros((3, 1), np.uint8), 8, split)
    assert ours.unanswerable == 1
    assert ours.map == 0.5
    assert "1 queries have no relevant item" in str(ours)


def test_quality_survives_json_and_prints_its_protocol(split):
    ours = evaluate(linear(8, 0, split), split, at=(3, 50))
    assert Quality.from_json(json.loads(json.dumps(ours.to_json(), allow_nan=False))) == ours
    for word in (split.protocol, "symmetric", f"{ours.map:.4f}", "mAP@50", "P@3", "radius 2"):
        assert word in str(ours)


def test_codes_that_fit_no_split_are_refused(split):
    good = np.zeros((len(split.queries), 1), np.uint8), np.zeros((len(split.database), 1), np.uint8)
    assert quality(*good, 8, split, at=()).bits == 8
    with pytest.raises(InputError, match="query codes of 8 bits"):
        quality(good[0][:-1], good[1], 8, split)
    with pytest.raises(InputError, match="database codes of 8 bits"):
        quality(good[0], np.zeros((len(split.database), 2), np.uint8), 8, split)
    with pytest.raises(InputError, match="counted from 1"):
        quality(*good, 8, split, at=(0,))


@given(st.integers(1, 20), st.integers(1, 12), st.integers(0, 10**6), st.floats(0, 3))
def test_flips_are_counted_as_numpy_counts_them(items, bits, seed, noise):
    random = np.random.default_rng(seed)
    reference = random.normal(size=(items, bits))
    other = reference + noise * random.normal(size=(items, bits))
    flips = bit_flips(other, reference)
    changed = (other >= 0) != (reference >= 0)
    assert flips.flipped == changed.sum()
    assert flips.rate == pytest.approx(changed.mean())
    assert flips.per_bit == pytest.approx(changed.mean(0).tolist())
    assert flips.items_changed == changed.any(1).sum()
    assert flips.weighted_rate == pytest.approx(np.abs(reference)[changed].sum() / np.abs(reference).sum())
    assert sum(margin.outputs for margin in flips.margins) == items * bits
    assert sum(margin.flipped for margin in flips.margins) == flips.flipped
    for edge in (0.0, 0.1, 0.7, 99.0):
        assert flips.below(edge) == (changed & (np.abs(reference) < edge)).sum()
    assert flips.largest_margin == (np.abs(reference)[changed].max() if changed.any() else 0)
    assert json.loads(json.dumps(flips.to_json(), allow_nan=False))["flipped"] == flips.flipped


def test_margins_hold_their_outputs():
    reference = np.array([[0.0, 5e-5, -0.3, 12.0]])
    flips = bit_flips(np.array([[-1.0, -1.0, -1.0, 1.0]]), reference)
    filled = {(margin.low, margin.high): (margin.outputs, margin.flipped) for margin in flips.margins if margin.outputs}
    assert filled == {(0, 1e-6): (1, 1), (1e-5, 1e-4): (1, 1), (0.2, 0.5): (1, 0), (10, float("inf")): (1, 0)}
    assert (flips.below(1e-4), flips.below(5e-5), flips.below(0)) == (2, 1, 0)
    assert "largest margin of a flipped bit 5e-05" in str(flips)


def test_equal_outputs_flip_nothing_and_other_shapes_are_refused():
    values = np.random.default_rng(0).normal(size=(5, 3))
    flips = bit_flips(values * 2, values)
    assert (flips.flipped, flips.rate, flips.largest_margin, flips.weighted_rate) == (0, 0, 0, 0)
    assert flips == bit_flips(values * 3, values)
    for other in (values[:-1], values[:, :-1], values.ravel()):
        with pytest.raises(InputError, match="same inputs"):
            bit_flips(other, values)
    with pytest.raises(InputError, match="same inputs"):
        bit_flips(values[:0], values[:0])
