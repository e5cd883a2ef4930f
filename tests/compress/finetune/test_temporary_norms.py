"""Batch norms for the time of training: the network is the same before and after, but what it learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.factorize.cp import Cp
from hashpress.compress.finetune.temporary_norms import with_temporary_norms
from hashpress.compress.passes import Fastfood, Finetune, Fold, Prune
from hashpress.core.data import load_data
from hashpress.core.data.images import Split
from hashpress.core.inputs import ImageInput
from hashpress.core.model import Arch, HashModel
from hashpress.hashnets.build import untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.hashnets.training import train
from torch import nn

SETTINGS = {"epochs": 3, "lr": 0.01, "optimizer": "sgd", "batch": 32, "norms": True}


@pytest.fixture(scope="module")
def split() -> Split:
    return load_data("digits?limit=200")


@pytest.fixture(scope="module")
def whole(split: Split) -> HashModel:
    """A folded ResNet-20 whose norms did something."""
    arch = Arch("resnet20", 10, ImageInput.of(split))
    start = untrained(arch, seed=3)
    return Fold()(Finetune(epochs=1, system="onehot", distill=0.0)(start, split))


@pytest.fixture(scope="module")
def small(whole: HashModel, split: Split) -> HashModel:
    return Cp(order=3, share={"re:encoder.layer1.*": 0.3})(whole, split)


def test_the_network_computes_the_same_with_norms_and_behind_them(small: HashModel, split: Split) -> None:
    wanted, names = outputs(small, split.queries.pixels), set(small.net.state_dict())
    net = small.copy_net()
    inputs = small.arch.input.normalise(split.queries.pixels)
    with torch.no_grad():
        with with_temporary_norms(net, split.train, small.arch.input) as paths:
            assert sorted(paths) == sorted(
                path
                for path, layer in small.net.named_modules()
                if isinstance(layer, nn.Conv2d) and layer.bias is not None
            )
            assert len(paths) > 10
            within = net.eval()(inputs).numpy()
            for path in paths:  # as training would move them
                layer = net.get_submodule(path)
                layer.norm.weight *= 1.3
                layer.norm.bias += 0.1
                layer.norm.running_mean -= 0.2
            moved = net.eval()(inputs).numpy()
        after = net.eval()(inputs).numpy()
    scale = np.abs(wanted).mean()
    assert np.abs(within - wanted).max() < 1e-4 * scale
    assert np.abs(moved - wanted).max() > 0.1 * scale
    assert np.abs(after - moved).max() < 1e-4 * np.abs(moved).mean()
    assert set(net.state_dict()) == names


class Twice(nn.Module):
    """A convolution that runs twice and one that never does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.idle = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.again(self.again(self.first(images)))


def test_a_convolution_that_does_not_run_once_gets_none(split: Split) -> None:
    with with_temporary_norms(Twice(), split.train, ImageInput((1, 8, 8), split.mean, split.std)) as paths:
        assert paths == ["first"]
    arch = Arch("lenet5", 10, ImageInput((1, 8, 8), split.mean, split.std))
    assert Finetune(**SETTINGS).decide(HashModel(Twice().eval(), arch), Context(split)).data["normed"] == ["first"]


class Tied(nn.Module):
    """Two convolutions of one weight, and one with a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left, self.right = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.right.weight = self.left.weight

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.right(torch.relu(self.left(self.first(images))))


def test_convolutions_of_one_weight_get_none(split: Split) -> None:
    net, spec = Tied().eval(), ImageInput((1, 8, 8), split.mean, split.std)
    inputs = spec.normalise(split.queries.pixels)
    with torch.no_grad():
        wanted = net(inputs)
        with with_temporary_norms(net, split.train, spec) as paths:
            assert paths == ["first"]
        assert (net(inputs) - wanted).abs().max() < 1e-5


def test_statistics_are_those_of_all_images_however_few_run_together(
    small: HashModel, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():
        inputs = small.arch.input.normalise(split.train.pixels)
        values = small.net.encoder.conv1(inputs).transpose(0, 1).flatten(1).double()
    sizes: list[int] = []
    monkeypatch.setattr("hashpress.compress.finetune.temporary_norms.VALUES", 7 * 64)
    net = small.copy_net()
    net.encoder.conv1.register_forward_hook(lambda _layer, _args, output: sizes.append(len(output)))
    with with_temporary_norms(net, split.train, small.arch.input):
        norm = net.encoder.conv1.norm
    assert sum(sizes[1:]) == len(split.train), "one image alone tells how often a layer runs"
    assert max(sizes) == 7
    np.testing.assert_allclose(norm.running_mean, values.mean(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(norm.running_var, values.var(1, correction=0), rtol=1e-5, atol=1e-6)


class Mixed(nn.Module):
    """Fastfood on eight rows an image and on one, no bias in a third."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.flat = nn.Linear(8, 40), nn.Linear(320, 30)
        self.last = nn.Linear(30, 20, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = torch.relu(self.rows(images[:, 0]))
        return self.last(torch.relu(self.flat(rows.flatten(1))))


def fried(split: Split) -> HashModel:
    torch.manual_seed(3)
    model = HashModel(Mixed().eval(), Arch("lenet5", 20, ImageInput((1, 8, 8), split.mean, split.std)))
    made = Fastfood(precision="float32")(model, seed=3)
    assert len(made.edits) == 3
    return made


def test_norms_stand_behind_fastfood_too_and_go_into_its_last_diagonal(split: Split) -> None:
    model = fried(split)
    wanted, net = outputs(model, split.queries.pixels), model.copy_net()
    inputs = model.arch.input.normalise(split.queries.pixels)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        with with_temporary_norms(net, split.train, model.arch.input) as paths:
            assert paths == ["rows", "flat"], "the third has no bias"
            within = net.eval()(inputs).numpy()
            for path in paths:
                net.get_submodule(path).norm.weight *= 1.5
                net.get_submodule(path).norm.running_mean += 0.1
            moved = net(inputs).numpy()
        after = net(inputs).numpy()
    np.testing.assert_allclose(within, wanted, atol=1e-4 * np.abs(wanted).mean())
    np.testing.assert_allclose(after, moved, atol=1e-4 * np.abs(moved).mean())
    changed = {name for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"rows.form.norms", "rows.bias", "flat.form.norms", "flat.bias"}


def test_a_batch_of_one_image_trains_behind_fastfood(split: Split) -> None:
    model = fried(split)
    taught = HashModel(Mixed().eval(), model.arch)
    three = replace(split, train=split.train.take(np.arange(3)))
    learned = Finetune(epochs=2, batch=2, norms=True)(model, three, reference=taught)
    assert not np.array_equal(outputs(learned, split.queries.pixels), outputs(model, split.queries.pixels))


def test_no_epochs_change_nothing(small: HashModel, whole: HashModel, split: Split) -> None:
    same = Finetune(**{**SETTINGS, "epochs": 0})(small, split, reference=whole)
    assert all(torch.equal(value, small.net.state_dict()[key]) for key, value in same.net.state_dict().items())


def test_training_with_norms_gives_the_same_layers_other_values_and_keeps_zeros(
    whole: HashModel, small: HashModel, split: Split
) -> None:
    sparse = Prune(density=0.5)(small)
    with_norms = Finetune(**SETTINGS)(sparse, split, reference=whole)
    alone = Finetune(**{**SETTINGS, "norms": False})(sparse, split, reference=whole)
    assert with_norms.edits == sparse.edits
    assert with_norms.net.state_dict().keys() == sparse.net.state_dict().keys()
    wanted = outputs(whole, split.train.pixels)
    before, after, other = (
        float(np.mean((outputs(model, split.train.pixels) - wanted) ** 2)) for model in (sparse, with_norms, alone)
    )
    assert after < 0.8 * before
    assert after != other
    for path, layer in with_norms.net.named_modules():
        if isinstance(layer, nn.Conv2d):
            was, weight = sparse.net.get_submodule(path).weight, layer.weight
            assert not weight[was == 0].any()
            assert not torch.signbit(weight[was == 0]).any(), "a minus zero costs four bytes in the file"


def test_a_stopped_training_goes_on_with_its_norms(
    whole: HashModel, small: HashModel, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = Finetune(**SETTINGS)
    at_once = outputs(learn(small, split, reference=whole), split.queries.pixels)

    def stop(*args: object) -> None:
        keep(*args)
        raise KeyboardInterrupt

    keep = train.save_state
    with monkeypatch.context() as patch:
        patch.setattr(train, "save_state", stop)
        with pytest.raises(KeyboardInterrupt):
            learn(small, split, reference=whole, work=tmp_path)
    assert (tmp_path / "finetune.checkpoint").exists()
    gone_on = learn(small, split, reference=whole, work=tmp_path)
    np.testing.assert_array_equal(outputs(gone_on, split.queries.pixels), at_once)


def test_the_ledger_names_the_layers(small: HashModel, split: Split) -> None:
    assert "encoder.conv1" in Finetune(**SETTINGS).decide(small, Context(split)).data["normed"]
    assert "normed" not in Finetune().decide(small, Context(split)).data
