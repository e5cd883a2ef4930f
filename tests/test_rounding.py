"""Which way weights are rounded: what compensation and learning on the code may do, and what they gain."""

from __future__ import annotations

import pytest
import torch
from hashpress.compress import rounding
from hashpress.compress.passes.int8 import Int8
from hashpress.core.data import load_data
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
    model, pixels = a_model(widths=[4, 6, 10], bits=32), split.train.pixels
    grids = Int8(bits=3, images=64)._grids(model, pixels, 0)[1]
    start = {}
    for path, grid in grids.items():
        layer = model.net.get_submodule(path)
        start[path] = (rounding.nearest(layer.weight.detach(), grid), layer.bias.detach())
    found = rounding.learned(model, grids, start, pixels, steps=80, batch=16, lr=0.05, seed=0)
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
    same = rounding.learned(model, grids, start, pixels, steps=1, batch=16, lr=100.0, seed=0)
    assert all(torch.equal(same[path][0], start[path][0]) for path in start)  # what made it worse is dropped


def test_code_loss_is_zero_at_the_original_and_counts_flips():
    wanted, margins = torch.tensor([[1.0, -2.0]]), torch.tensor([1.0, 2.0])
    assert float(rounding.code_loss(wanted, wanted, margins)) == 0
    flipped = torch.tensor([[-1.0, -2.0]])
    assert float(rounding.code_loss(flipped, wanted, margins)) == pytest.approx((4 + 0) / 2 + (2 + 0) / 2)
