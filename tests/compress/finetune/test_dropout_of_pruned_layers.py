"""Dropout in front of pruned layers drops less while they learn again: its own rate times the root of what is left."""

import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.finetune.dropout import dropout_rates, reduced_dropout
from hashpress.compress.finetune.masks import masks_of
from hashpress.compress.passes import Finetune, Prune
from hashpress.core.data.images import Split
from hashpress.core.inputs import ImageInput
from small_models import a_model, some_images

SPEC = ImageInput((3, 64, 64), (0.5,) * 3, (0.5,) * 3)
KEPT = {"encoder.classifier.1": 0.25, "encoder.classifier.4": 0.04}
RATES = {"encoder.classifier.0": 0.4 * 0.5, "encoder.classifier.3": 0.4 * 0.2}  # the root of a quarter, of a 25th


@pytest.fixture(scope="module")
def alexnet():
    return a_model("alexnet", spec=SPEC, widths=(4, 4, 4, 4, 4), hidden=(20, 10), dropout=0.4)


@pytest.fixture(scope="module")
def pruned(alexnet):
    return Prune(density={**KEPT, "*": 1.0})(alexnet)


def spec_rates(model):
    return dropout_rates(model.net, masks_of(model), model.arch.input)


def test_each_rate_falls_with_the_root_of_the_weights_left(pruned):
    assert spec_rates(pruned) == pytest.approx(RATES, rel=1e-3)
    assert Finetune().decide(pruned, Context()).data["dropout"] == spec_rates(pruned)


def test_nothing_is_said_where_nothing_was_pruned_or_nothing_drops(alexnet, pruned):
    assert spec_rates(alexnet) == {}
    assert "dropout" not in Finetune().decide(alexnet, Context()).data
    assert spec_rates(Prune(density=0.5)(a_model("lenet5"))) == {}
    without = a_model("alexnet", spec=SPEC, widths=(4,) * 5, hidden=(20, 10), dropout=0.0)
    assert spec_rates(Prune(density=0.5)(without)) == {}


def test_only_what_reads_a_dropout_counts(alexnet):
    only = {"encoder.classifier.4": 0.04, "head": 0.04}
    assert spec_rates(Prune(density={**only, "*": 1.0}, skip=("encoder.classifier.1",))(alexnet)) == pytest.approx(
        {"encoder.classifier.3": 0.4 * 0.2}, rel=1e-3
    )


def test_the_rates_hold_while_it_learns_and_are_put_back(pruned, monkeypatch):
    seen = set()
    real = torch.nn.functional.dropout

    def heard(values, p=0.5, training=True, inplace=False):
        if training:
            seen.add(round(p, 4))
        return real(values, p, training, inplace)

    monkeypatch.setattr(torch.nn.functional, "dropout", heard)
    images = some_images(SPEC, 8)
    split = Split("drawn", "A", images, images, images, ("a", "b", "c", "d"))
    tuned = Finetune(epochs=1, batch=4, system="dpsh", distill=0.0)(pruned, split)
    assert sorted(seen) == pytest.approx(sorted(RATES.values()), rel=1e-3)
    assert [tuned.net.get_submodule(path).p for path in RATES] == [0.4, 0.4]


def test_they_are_put_back_when_training_fails(pruned):
    net = pruned.copy_net().train()
    with pytest.raises(RuntimeError, match="failed"), reduced_dropout(net, masks_of(pruned), SPEC):  # noqa: PT012  the block fails
        assert net.get_submodule("encoder.classifier.0").p == pytest.approx(0.2, rel=1e-3)
        assert net.training
        raise RuntimeError("failed")
    assert net.get_submodule("encoder.classifier.0").p == 0.4
