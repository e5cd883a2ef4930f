"""A last batch of one where a batch norm cannot train on it, and networks that answer differently each time."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
from hashpress.compress.passes import Finetune, Prune
from hashpress.core.data.images import Images
from hashpress.core.data.split import Split
from hashpress.core.errors import HashpressError, InputError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.repeatable import check_repeatable
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train
from hashpress.modelfile.file import save
from program import refused
from torch import nn
from torch.nn import functional

SPEC = ImageInput((1, 8, 8), (0.3,), (0.35,))


class Normed(nn.Sequential):
    """Dense features with a batch norm over rows."""

    def __init__(self, shape):
        super().__init__(nn.Flatten(), nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU())


class Plain(nn.Sequential):
    """The same without the norm."""

    def __init__(self, shape):
        super().__init__(nn.Flatten(), nn.Linear(64, 12), nn.ReLU())


class Random(nn.Module):
    """A dropout that is never switched off."""

    def __init__(self, shape):
        super().__init__()
        self.dense = nn.Linear(64, 12)

    def forward(self, images):
        return functional.dropout(self.dense(images.flatten(1)), 0.5)


@pytest.fixture
def made(monkeypatch):
    """Return a model of one of the encoders above."""
    module = types.ModuleType("own_nets")
    for kind in (Normed, Plain, Random):
        setattr(module, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, "own_nets", module)

    def model(kind: type[nn.Module], bits: int = 8) -> HashModel:
        return untrained(default_arch(f"own_nets:{kind.__name__}", bits, SPEC), seed=3, trust_code=True)

    return model


def split(count: int) -> Split:
    generator = np.random.default_rng(0)

    def images(items: int) -> Images:
        return Images(generator.integers(0, 256, (items, 1, 8, 8), dtype=np.uint8), np.arange(items) % 3)

    return Split("noise", "B", images(count), images(30), images(count), ("a", "b", "c"))


TRAININGS = {
    "train": lambda model, data, batch: train(model, data, "dpsh", Schedule(epochs=2, batch=batch)),
    "finetune": lambda model, data, batch: Finetune(epochs=2, batch=batch, system="dpsh")(model, data),
    "prune": lambda model, data, batch: Prune(
        density=0.5, stages=2, finetune={"epochs": 1, "batch": batch, "system": "dpsh"}
    )(model, data),
}


@pytest.mark.parametrize("count", [5, 33, 7])
@pytest.mark.parametrize("how", TRAININGS)
def test_no_batch_of_one_is_left_over(made, how, count):
    for batch in (2, 3, 32):
        small = TRAININGS[how](made(Normed), split(count), batch)
        assert all(bool(torch.isfinite(value).all()) for value in small.net.state_dict().values())


@pytest.mark.parametrize("how", TRAININGS)
def test_batches_of_one_are_refused_where_a_batch_norm_needs_more(made, how):
    with pytest.raises(InputError, match=r"a batch norm cannot train on a batch of one item.* larger batch than 1"):
        TRAININGS[how](made(Normed), split(4), 1)
    TRAININGS[how](made(Plain), split(4), 1)


@pytest.mark.parametrize("how", TRAININGS)
@pytest.mark.parametrize("kind", [Normed, Plain])
def test_one_image_is_refused(made, how, kind):
    with pytest.raises(HashpressError, match="at least two images, got 1"):
        TRAININGS[how](made(kind), split(1), 128)


def test_without_a_norm_batches_are_as_they_were(made):
    seen = []
    model = made(Plain)
    net = model.net
    hook = nn.modules.module.register_module_forward_hook(
        lambda layer, inputs, _: seen.append(len(inputs[0])) if isinstance(layer, Plain) and layer.training else None
    )
    try:
        train(model, split(5), "dpsh", Schedule(epochs=1, batch=2))
    finally:
        hook.remove()
    assert seen[-3:] == [2, 2, 1]
    assert net is model.net


def test_a_network_that_answers_differently_is_not_trained(made):
    with pytest.raises(InputError, match=r"answers differently each time: \d+% of the bits .*training=self.training"):
        TRAININGS["train"](made(Random), split(9), 4)


@pytest.mark.parametrize(
    "command",
    [
        "evaluate random.st --data digits?limit=60",
        "evaluate plain.st --against random.st --data digits?limit=60",
        "compress random.st --recipe data-free -o out.st",
        "compress random.st --recipe data-free --dry-run",
        "compress random.st --recipe smallest --data digits?limit=60 -o out.st",
        "sensitivity random.st --data digits?limit=60",
        "encode random.st digits?limit=60 -o codes.npy",
        "export random.st -o out.onnx",
        "compile random.st -o out.bundle",
        "train --init random.st --data digits?limit=60 -o out.st",
        "train --encoder own_nets:Random --data digits?limit=60 -o out.st",
    ],
)
def test_every_command_says_that_a_network_answers_differently(made, tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    save(made(Random), "random.st")
    save(made(Plain), "plain.st")
    words = command.split()
    assert "answers differently each time" in refused(capsys, *words, "--trust-code")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain.st", "random.st"]


def test_usual_networks_agree_with_themselves(made):
    check_repeatable(made(Normed))
    check_repeatable(made(Normed), split(9))
    state = torch.get_rng_state()
    with pytest.raises(InputError):
        check_repeatable(made(Random), split(9))
    made(Plain)
    assert torch.equal(torch.get_rng_state(), state), "no draw is taken from those of others"
