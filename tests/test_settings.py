"""Settings of passes that are built in Python: wrong types are named before anything is compared with them."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hashpress.compress.passes import PASSES, Finetune, Int8, Prune
from hashpress.core.errors import RecipeError

NEEDED = {"cp": {"rank": 4}, "lowrank": {"speedup": 2.0}, "narrow": {"ratio": 0.5}, "prune": {"density": 0.5}}


@pytest.mark.parametrize(
    ("name", "setting"), [(name, field.name) for name, kind in PASSES.items() for field in fields(kind)]
)
def test_every_setting_refuses_what_is_no_setting(name, setting):
    with pytest.raises(RecipeError, match=rf"{name}: {setting} must be .*, found <object object"):
        PASSES[name](**NEEDED.get(name, {}) | {setting: object()})


def test_all_wrong_types_are_named_together():
    with pytest.raises(RecipeError) as caught:
        Int8(bits={"*": 2.5}, skip="head", images=np.int64(3))
    assert list(caught.value.problems) == [
        "int8: bits must be a whole number or a table of whole numbers, found {'*': 2.5}",
        "int8: skip must be a list of texts, found 'head'",
        "int8: images must be a whole number, found np.int64(3)",
    ]


def test_right_types_pass():
    assert Int8(bits={"*": 4}, skip=("head",), lr=1).lr == 1
    assert Prune(density=np.float64(0.5), finetune=Finetune(epochs=1)).density == 0.5
