"""What a pass has worked out for a model is asked for once in a step of a recipe, and every time outside of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pytest
from hashpress.compress import thresholds
from hashpress.compress.channels import merge as merge_pass
from hashpress.compress.channels import narrow
from hashpress.compress.codebooks import share as share_pass
from hashpress.compress.factorize import cp as cp_pass
from hashpress.compress.factorize import lowrank as lowrank_pass
from hashpress.compress.integers import int8 as int8_pass
from hashpress.compress.passes import Cp, Int8, LowRank, Merge, Narrow, Prune, Share, Thresholds
from hashpress.compress.prune import prune as prune_pass
from hashpress.compress.recipe.load import Recipe
from hashpress.core.data import load_data
from hashpress.core.once import once, remembering
from hashpress.hashnets.retrieval.codes import outputs
from small_models import a_model


@dataclass(frozen=True)
class Adder:
    """Counts how often it is asked."""

    plus: int
    asked: list[int]

    @once
    def added(self, model: object, seed: int = 0) -> list[object]:
        self.asked.append(seed)
        return [model, self.plus + seed]


def test_the_same_question_is_answered_once_in_the_block_and_only_there():
    model, other, asked = object(), object(), []
    adder = Adder(2, asked)
    with remembering(model):
        first = adder.added(model, seed=1)
        assert Adder(2, asked).added(model, seed=1) is first  # an equal one
        assert asked == [1]
        assert adder.added(model, seed=2) == [model, 4]
        assert Adder(3, asked).added(model, seed=1) == [model, 4]
        assert adder.added(other, seed=1)[0] is other
        assert adder.added(other, seed=1)[0] is other
        assert asked == [1, 2, 1, 1, 1]
    assert adder.added(model, seed=1) is not first
    assert len(asked) == 6


def test_a_block_in_a_block_and_one_that_failed_leave_what_was_there():
    model, asked = object(), []
    adder = Adder(0, asked)
    with remembering(model):
        adder.added(model)
        with suppress(KeyError), remembering(object()):
            adder.added(model)
            raise KeyError
        adder.added(model)
    adder.added(model)
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("work", "room", "name"),
    [
        (Prune(density=0.5, scope="sensitivity", images=40), prune_pass, "measured"),
        (Int8(images=40), int8_pass.ranges, "watch"),
        (LowRank(speedup=1.1, images=40), lowrank_pass, "count"),
        (Cp(share=0.5), cp_pass, "count"),
        (Merge(share=0.3, by="outputs", refit=40), merge_pass, "by_outputs"),
        (Narrow(ratio=0.3, score="taylor"), narrow, "channels"),
        (Share(bits=3), share_pass.kmeans, "kmeans"),
        (Thresholds(), thresholds, "outputs"),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "phase") else "",
)
def test_a_step_works_out_its_decision_once(work, room, name, monkeypatch):
    split, model = load_data("digits?size=16&limit=300"), a_model(widths=[4, 6, 10], bits=8)
    asked, function = [], getattr(room, name)
    monkeypatch.setattr(room, name, lambda *args, **more: asked.append(1) or function(*args, **more))
    alone = work(model, split, seed=0)
    times = len(asked)
    assert times
    ran = Recipe.of(work).run(model, split, seed=0)
    assert len(asked) == 2 * times
    pixels = split.queries.pixels
    assert np.array_equal(outputs(alone, pixels), outputs(ran, pixels))
