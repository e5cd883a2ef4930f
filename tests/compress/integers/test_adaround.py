"""Which way weights are rounded: what compensation and learning on the code may do, and what they gain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.integers import adaround
from hashpress.compress.integers.int8 import Int8
from hashpress.compress.recipe.load import Recipe
from hashpress.core.data import load_data
from hashpress.core.errors import InputError, RecipeError
from hashpress.core.inputs import ImageInput
from hashpress.hashnets.retrieval.codes import outputs
from small_models import a_model, flips


@pytest.fixture(scope="module")
def split():
    return load_data("digits?size=16&limit=400")


def test_compensation_and_learning_keep_more_bits(split):
    model = a_model(widths=[8, 16, 60], bits=32)
    rough = flips(model, Int8(bits=3, images=300, correct=False)(model, split), split)
    assert flips(model, Int8(bits=3, images=300, rounding="obs")(model, split), split) < 0.8 * rough
    steps = {"steps": 60, "batch": 32, "lr": 0.02}
    assert flips(model, Int8(bits=3, images=300, rounding="learned", **steps)(model, split), split) < 0.8 * rough


def test_learned_weights_are_one_step_from_where_they_started(split):
    model, pixels, labels = a_model(widths=[4, 6, 10], bits=32), split.train.pixels, split.train.labels
    grids, start = some_grids(model, split)
    settings = {"task": 0.0, "batch": 16, "seed": 0}
    found = adaround.learn_rounding(model, grids, start, pixels, labels, steps=80, lr=0.05, **settings)
    moved = 0
    for path, (whole, _) in found.items():
        real = model.net.get_submodule(path).weight.detach()
        real = real / grids[path].steps.view(-1, *[1] * (real.ndim - 1))
        change = whole - start[path][0]
        moved += int((change != 0).sum())
        assert (change.abs() <= 1).all()
        assert ((real - start[path][0]) * change >= 0).all()
        assert (whole.abs() <= grids[path].top).all()
    assert moved > 0
    same = adaround.learn_rounding(model, grids, start, pixels, labels, steps=1, lr=100.0, **settings)
    assert all(torch.equal(same[path][0], start[path][0]) for path in start)  # what made it worse is dropped


def some_grids(model, split):
    """Return grids of 3 bits, and weights rounded to the nearest of them."""
    grids = Int8(bits=3, images=64).decide(model, Context(split)).plan[1]
    layers = {path: model.net.get_submodule(path) for path in grids}
    return grids, {
        path: (adaround.nearest(layer.weight.detach(), grids[path]), layer.bias.detach())
        for path, layer in layers.items()
    }


def test_a_large_weight_is_made_again_for_the_gradient_and_not_kept(split, monkeypatch):
    """The same outputs and gradients as with the weight kept, and nothing as large as it between the two."""
    monkeypatch.setattr(adaround, "LARGEST", 100)
    monkeypatch.setattr(adaround, "ROWS", 32)  # the last part has 16 rows
    model = a_model(widths=[4, 6, 80], bits=32)
    grids, start = some_grids(model, split)
    path = "encoder.fc1"
    soft = adaround.SoftRounding(model.net.get_submodule(path), grids[path], *start[path])
    assert soft.choice is None
    x, kept = torch.rand(3, soft.layer.in_features, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda value: kept.append(value.numel() * value.is_floating_point()) or value, lambda value: value
    ):
        given = soft(x)
        assert max(kept) <= x.numel()
        given.square().sum().backward()
    again = x.detach().clone().requires_grad_()
    rounded = torch.fake_quantize_per_tensor_affine(again, grids[path].scale, grids[path].zero, 0, 255)
    bias = start[path][1].clone().requires_grad_()
    wanted = torch.nn.functional.linear(rounded, start[path][0] * grids[path].steps[:, None], bias)
    wanted.square().sum().backward()
    for mine, plain in ((given, wanted), (x.grad, again.grad), (soft.bias.grad, bias.grad)):
        torch.testing.assert_close(mine, plain, rtol=1e-5, atol=1e-5)
    assert torch.equal(soft.whole(), start[path][0])  # what was made did not write into it


def test_a_batch_of_large_images_is_taken_in_parts(split, monkeypatch):
    """What is learned is that of the whole batch, also where its last part is smaller."""
    model = a_model(widths=[4, 6, 10], bits=32)
    grids, start = some_grids(model, split)
    settings = {"task": 0.0, "batch": 16, "seed": 0, "steps": 80, "lr": 0.05}
    sizes, normalise = [], ImageInput.normalise
    monkeypatch.setattr(
        ImageInput, "normalise", lambda self, pixels: sizes.append(len(pixels)) or normalise(self, pixels)
    )
    found = []
    for values in (1 << 20, 7 * 16 * 16):
        monkeypatch.setattr(adaround, "VALUES", values)
        found.append(adaround.learn_rounding(model, grids, start, split.train.pixels, split.train.labels, **settings))
    assert {7, 2} <= set(sizes)
    assert any(not torch.equal(found[0][path][0], start[path][0]) for path in start)  # it learned
    for path in start:
        assert torch.equal(found[0][path][0], found[1][path][0])
        torch.testing.assert_close(found[0][path][1], found[1][path][1], rtol=1e-4, atol=1e-6)


def test_code_loss_is_zero_at_the_original_and_counts_flips():
    wanted, margins = torch.tensor([[1.0, -2.0]]), torch.tensor([1.0, 2.0])
    assert float(adaround.code_loss(wanted, wanted, margins)) == 0
    flipped = torch.tensor([[-1.0, -2.0]])
    assert float(adaround.code_loss(flipped, wanted, margins)) == pytest.approx((4 + 0) / 2 + (2 + 0) / 2)


def test_centres_are_the_mean_signs_of_classes():
    wanted = torch.tensor([[1.0, -2.0], [3.0, 0.0], [-5.0, -1.0], [-4.0, 6.0], [2.0, -2.0]])
    found = adaround.centres(wanted, torch.tensor([7, 7, 2, 2, 7]))
    assert torch.equal(found[0], torch.tensor([1.0, -1 / 3]))
    assert torch.equal(found[2], torch.tensor([-1.0, 0.0]))
    assert torch.equal(found[[0, 0, 2]], found[[1, 4, 3]])


def test_task_loss_asks_for_the_side_of_the_centre():
    drawn_to, margins = torch.tensor([[1.0, -0.5]]), torch.tensor([2.0, 1.0])
    assert float(adaround.task_loss(torch.tensor([[2.0, -1.0]]), drawn_to, margins)) == 0
    assert float(adaround.task_loss(torch.tensor([[-2.0, 0.0]]), drawn_to, margins)) == pytest.approx((2 + 0.5) / 2)


def test_classes_draw_codes_to_their_centres(split):
    """With 3 bits, images nobody learned from: more bits on the side of their class than the original's codes alone leave."""
    model = a_model(widths=[8, 16, 60], bits=32)
    wanted = torch.from_numpy(outputs(model, split.train.pixels))
    where = adaround.centres(wanted, torch.from_numpy(split.train.labels))
    of_class = {int(label): row for label, row in zip(split.train.labels, where, strict=True)}
    aim = torch.stack([of_class[int(label)] for label in split.queries.labels])
    shares = []
    for task in (0.0, 4.0):
        work = Int8(bits=3, images=300, rounding="learned", steps=120, lr=0.03, task=task)
        given = torch.from_numpy(outputs(work(model, split), split.queries.pixels))
        shares.append(float(((given >= 0) == (aim >= 0)).double().mean()))
    assert shares[1] > shares[0] + 0.01


def test_task_is_for_learned_rounding():
    with pytest.raises(RecipeError, match=r"task 1\.0 is for rounding 'learned', got 'obs'"):
        Int8(rounding="obs", task=1.0)
    with pytest.raises(RecipeError, match=r"task must be at least 0, got -1"):
        Int8(rounding="learned", task=-1)


def test_nothing_to_round_and_nothing_to_learn_from(split):
    model = a_model(widths=[4, 6, 10], bits=32)
    same = Int8(bits={}, rounding="learned")(model, split)
    assert torch.equal(
        torch.from_numpy(outputs(same, split.queries.pixels)), torch.from_numpy(outputs(model, split.queries.pixels))
    )
    empty = replace(split, train=split.train.take(np.arange(0)))
    with pytest.raises(InputError, match=r"int8 needs training images, digits.* has none"):
        Int8()(model, empty)


def test_steps_that_end_in_nothing_are_dropped(split):
    model = a_model(widths=[4, 6, 10], bits=32)
    how = {"rounding": "learned", "images": 60}
    kept = Int8(**how, steps=0)(model, split)
    wild = Int8(**how, steps=5, lr=1e30)(model, split)
    assert np.array_equal(outputs(wild, split.queries.pixels), outputs(kept, split.queries.pixels))
    assert wild.history[-1].after["learned"] is False


def test_images_that_come_class_by_class_are_mixed():
    labels = np.repeat(np.arange(5), 20)
    index = np.arange(100)
    found = adaround.mixed(index, labels, 0)
    assert sorted(found) == list(range(100))
    assert set(labels[found[:20]]) == set(range(5))
    shuffled = np.random.default_rng(1).permutation(labels)
    assert adaround.mixed(index, shuffled, 0) is index


def test_a_preview_learns_nothing(split, monkeypatch):
    taken = []
    monkeypatch.setattr(adaround, "code_loss", lambda given, *_: taken.append(len(given)) or given.mean())
    Recipe.of(Int8(rounding="learned", images=60)).preview(a_model(widths=[4, 6, 10], bits=32), split)
    assert set(taken) <= {len(split.train) // 5}  # only what is kept aside was judged, no batch was learned from
