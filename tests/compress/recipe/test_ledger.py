"""Figures of the ledger against numpy: which queries, which reference, which database."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hashpress.compress.recipe.ledger import measured, warnings_of
from hashpress.core.data.images import Images, Split
from hashpress.core.inputs import ImageInput
from hashpress.core.model import Arch, HashModel
from torch import nn

SIDE, BITS = 4, 4
CLASSES = ("a", "b", "c", "d")


def linear(seed: int) -> HashModel:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, BITS))
    return HashModel(net, Arch("linear", BITS, ImageInput((1, SIDE, SIDE), (0.5,), (0.25,))))


def images(count: int, seed: int) -> Images:
    random = np.random.default_rng(seed)
    return Images(random.integers(0, 256, (count, 1, SIDE, SIDE), np.uint8), random.integers(0, 4, count))


@pytest.fixture(scope="module")
def split() -> Split:
    return Split("drawn", "B", images(30, 0), images(400, 1), images(70, 2), CLASSES)


def plain(model: HashModel, items: Images) -> np.ndarray:
    layer = model.net[1]
    pixels = (items.pixels.reshape(len(items), -1) / 255 - 0.5) / 0.25
    return pixels @ layer.weight.detach().numpy().T.astype(np.float64) + layer.bias.detach().numpy()


def mean_precision(asked: np.ndarray, stored: np.ndarray, split: Split, rounds: int = 40) -> float:
    """Return the mean average precision over random orders of ties, by its definition."""
    random, values = np.random.default_rng(0), []
    for code, label in zip(asked, split.queries.labels, strict=True):
        distance = (code != stored).sum(1)
        for _ in range(rounds):
            relevant = (split.database.labels == label)[np.lexsort((random.random(len(distance)), distance))]
            values.append((np.cumsum(relevant) / np.arange(1, len(relevant) + 1))[relevant].mean())
    return float(np.mean(values))


def test_flips_are_those_of_all_queries_against_the_start(split):
    start, small = linear(0), linear(1)
    differ = (plain(start, split.queries) >= 0) != (plain(small, split.queries) >= 0)
    found = measured(small, 77, start, split, ("flips",))
    assert found == {"bytes": 77, "flips": round(float(differ.mean()), 6)}
    for few in (50, 100, 200, 399):
        assert differ.mean() != differ[:few].mean(), "the queries do not tell a part from all of them"


def test_map_asymmetric_keeps_the_database_of_the_start(split):
    start, small = linear(0), linear(1)
    found = measured(small, 0, start, split, ("map",))
    asked, own, kept = (
        plain(*pair) >= 0 for pair in ((small, split.queries), (small, split.database), (start, split.database))
    )
    assert found["map"] == pytest.approx(mean_precision(asked, own, split), abs=2e-3)
    assert found["map_asymmetric"] == pytest.approx(mean_precision(asked, kept, split), abs=2e-3)
    assert abs(found["map"] - found["map_asymmetric"]) > 5e-3
    assert set(measured(start, 0, start, split, ("map", "flips"))) == {"bytes", "map"}


def test_error_is_the_share_of_queries_whose_largest_output_is_another_class(split):
    model = linear(2)
    wrong = np.mean(plain(model, split.queries).argmax(1) != split.queries.labels)
    other = np.mean(plain(model, split.database).argmax(1) != split.database.labels)
    assert measured(model, 0, linear(0), split, ("error",))["error"] == pytest.approx(wrong, abs=1e-6)
    assert wrong != pytest.approx(other, abs=1e-4)


@pytest.mark.parametrize(("share", "count"), [(0.2, 0), (0.21, 1)])
def test_many_flips_are_warned_of(share, count):
    assert len(warnings_of({"flips": share}, None)) == count
