"""Thresholds of bits: where they go, in which kinds of hash layers, and when they stay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.passes import Fastfood, Fold, HashWeights, Int8, LowRank, ProductQuantize, Share, Thresholds
from hashpress.compress.recipe.recipe import Recipe
from hashpress.compress.thresholds import affordable, hash_layer, sparsest
from hashpress.core.data import load_data
from hashpress.core.errors import InputError, RecipeError
from hashpress.core.model import HashModel
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile.file import load, save
from small_models import a_model

ALL = Thresholds(sure=0.0)


@pytest.fixture(scope="module")
def split():
    return load_data("digits?size=16&limit=400")


@pytest.fixture(scope="module")
def model():
    return a_model(widths=[4, 6, 20], bits=16)


def two_heaps(valley: float, seed: int = 0) -> np.ndarray:
    """Return outputs of two heaps at -1 and 1 around ``valley``."""
    random = np.random.default_rng(seed)
    return np.concatenate([random.normal(valley - 1, 0.3, 2000), random.normal(valley + 1, 0.3, 2000)])


@pytest.mark.parametrize("valley", [0.15, -0.15])
def test_a_threshold_goes_between_two_heaps(valley):
    found = sparsest(two_heaps(valley) * 7, 0.5, 0.2, 4.0) / 7
    assert found == pytest.approx(valley, abs=0.1)
    assert found * valley > 0


def test_it_goes_no_farther_than_its_reach():
    given = two_heaps(0.6)
    margin = float(np.median(np.abs(given)))
    assert sparsest(given, 0.2, 0.1, 4.0) == pytest.approx(0.2 * margin)


def test_it_stays_where_nothing_is_certain():
    random = np.random.default_rng(1)
    assert all(sparsest(random.uniform(-1, 1, 500), 0.2, 0.1, 4.0) == 0 for _ in range(20))
    assert any(sparsest(random.uniform(-1, 1, 500), 0.2, 0.1, 0.0) for _ in range(20))
    for constant in (np.full(50, 3.0), np.zeros(50), np.full(50, np.nan), np.full(50, np.inf)):
        assert sparsest(constant, 0.2, 0.1, 0.0) == 0


def test_it_goes_to_the_nearest_of_several_empty_places():
    given = np.concatenate([np.full(60, -1.0), np.zeros(20), np.full(60, 1.0)])
    assert 0 < abs(sparsest(given, 0.2, 0.002, 4.0)) < 0.1


FORMS = {
    "plain": Fold(),
    "two layers": LowRank(ranks=6, images=60, places=4, skip=()),
    "shared": Share(bits=4),
    "hashed": HashWeights(share=0.5),
    "fastfood": Fastfood(skip=()),
    "pq": ProductQuantize(sweeps=0, width=4, entries=8, skip=("first",)),
    "int8": Int8(images=60),
}


@pytest.mark.parametrize("form", FORMS)
def test_outputs_move_by_the_thresholds(form, model, split, tmp_path):
    before = FORMS[form](model, split)
    decision = ALL.decide(before, Context(split)).data
    after = ALL(before, split)
    moved = outputs(before, split.queries.pixels) - outputs(after, split.queries.pixels)
    assert decision["moved"] > 0
    wanted = np.broadcast_to(np.float32(decision["thresholds"]), moved.shape)
    np.testing.assert_allclose(moved, wanted, atol=2e-3 * np.abs(outputs(before, split.queries.pixels)).max())
    save(after, tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert np.array_equal(outputs(again, split.queries.pixels), outputs(after, split.queries.pixels))
    assert again.history[-1].after == {"moved": decision["moved"], "flips": decision["flips"]}


def test_a_bias_of_sixteen_bits_stays_one(model, split):
    bias = ALL(Share(bits=4)(model), split).net.head.bias
    assert torch.equal(bias, bias.half().float())


def test_fewer_images_lie_next_to_a_threshold(model, split):
    """Those that were looked at, in units of the margin."""
    work = Thresholds(sure=0.0, images=len(split.train))
    given, after = outputs(model, split.train.pixels), outputs(work(model, split), split.train.pixels)
    margins = np.median(np.abs(given), axis=0)

    def near(values):
        return np.exp(-0.5 * np.square(values / margins / work.width)).sum(axis=0)

    assert (near(after) <= near(given) * (1 + 1e-4)).all()
    assert near(after).sum() < 0.95 * near(given).sum()


def test_the_share_of_bits_that_change_is_said(model, split):
    work = Thresholds(sure=0.0, images=len(split.train))
    changed = (outputs(work(model, split), split.train.pixels) >= 0) != (outputs(model, split.train.pixels) >= 0)
    assert work.decide(model, Context(split)).data["flips"] == pytest.approx(changed.mean(), abs=1e-4)
    assert changed.any()


def test_a_budget_of_flips_is_kept_and_spent(model, split):
    """On the images that were looked at, of which all moves together change more."""
    free = Thresholds(sure=0.0, images=len(split.train))
    whole = free.decide(model, Context(split)).data
    half = replace(free, flips=whole["flips"] / 2).decide(model, Context(split)).data
    changed = (outputs(replace(free, flips=whole["flips"] / 2)(model, split), split.train.pixels) >= 0) != (
        outputs(model, split.train.pixels) >= 0
    )
    assert 0.3 * whole["flips"] < changed.mean() <= 0.5 * whole["flips"]
    assert 0 < half["moved"] < whole["moved"]
    assert {*half["thresholds"]} <= {0.0, *whole["thresholds"]}
    assert (
        replace(free, flips=whole["flips"] * 1.01).decide(model, Context(split)).data["thresholds"]
        == whole["thresholds"]
    )
    assert replace(free, flips=0.0).decide(model, Context(split)).data["flips"] == 0


def test_a_budget_goes_where_it_buys_most():
    """Two bits with a heap at zero, of which one has most of it on the side that keeps its bit."""
    heap = np.linspace(-0.02, 0.02, 100)
    far = np.concatenate([np.full(1000, -1.0), np.full(1000, 1.0)])
    cheap = np.concatenate([heap - 0.015, far])
    dear = np.concatenate([heap, far])
    given = np.stack([dear, cheap], axis=1)
    moves = [0.15, 0.15]
    dear_price, cheap_price = ((given >= 0) & (given < moves)).sum(axis=0)
    assert 0 < cheap_price < dear_price
    budget = (dear_price + cheap_price - 1) / given.size  # either, not both
    assert affordable(given, moves, 0.05, budget) == [0.0, 0.15]
    assert affordable(given, moves, 0.05, (cheap_price - 1) / given.size) == [0.0, 0.0]
    assert affordable(given, moves, 0.05, (dear_price + cheap_price) / given.size) == moves


def test_a_layer_without_bias_is_left_with_the_reason(model, split):
    net = model.copy_net()
    net.head.bias = None
    bare = HashModel(net, model.arch)
    assert ALL.decide(bare, Context(split)).data["skipped"] == {
        "head": "a Linear without bias: nothing holds a threshold"
    }
    assert np.array_equal(outputs(ALL(bare, split), split.queries.pixels), outputs(bare, split.queries.pixels))


def test_the_hash_layer_is_the_last_part_of_the_head(model, split):
    assert hash_layer(model.net)[0] == "head"
    path, layer = hash_layer(LowRank(ranks=6, images=60, places=4, skip=())(model, split).net)
    assert path == "head.1"
    assert isinstance(layer, torch.nn.Linear)


def test_it_may_stand_behind_int8_and_before(split, model):
    for order in ((Int8(images=60), ALL), (ALL, Int8(images=60)), (ALL, Share(bits=4))):
        recipe = Recipe.of(*order)
        assert recipe.problems() == []
        assert len(recipe.run(model, split).history) == len(model.history) + 2


def test_settings_and_data_that_it_cannot_work_with(model, split):
    with pytest.raises(RecipeError) as fault:
        Thresholds(reach=1.5, width=0.0, sure=-1.0, images=0, flips=1.5)
    assert len(fault.value.problems) == 5
    with pytest.raises(RecipeError, match=r"step 2 \(thresholds\) needs training images; name a data set with --data"):
        Recipe.of(Fold(), ALL).run(model)
    with pytest.raises(InputError, match="needs training images; name a data set"):
        ALL(model)
    with pytest.raises(InputError, match=r"needs training images, digits.* has none"):
        ALL(model, replace(split, train=split.train.take(np.arange(0))))
