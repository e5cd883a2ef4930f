"""Hooks see and replace what they say, are gone afterwards, and keep nothing alive; the runner shows every image once."""

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from hashpress.compress.observe import hooks as module
from hashpress.compress.observe.hooks import (
    calls,
    first_call,
    first_inputs,
    first_outputs,
    hooks,
    layers_at,
    output_axes,
)
from hashpress.compress.observe.runner import observe
from hashpress.core.errors import InputError
from hashpress.core.inputs import ImageInput
from torch import nn

SPEC = ImageInput((1, 4, 4), (0.5,), (0.25,))
PIXELS = np.random.default_rng(0).integers(0, 256, (23, 1, 4, 4), dtype=np.uint8)


class Refuses(nn.Module):
    def forward(self, _):
        raise AssertionError("this layer was not to run")


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 5), nn.Linear(5, 2)).eval()


def hooked(net):
    return [layer for layer in net.modules() if layer._forward_hooks or layer._forward_pre_hooks]


def test_inputs_and_outputs_can_be_replaced_and_hooks_are_gone_even_after_an_error(net):
    images = torch.randn(2, 1, 4, 4)
    before = net(images)
    with hooks(layers_at(net, ["3"]), before=lambda *_: (torch.ones(2, 12),)):
        assert torch.equal(net(images), net[4](net[3](torch.ones(2, 12))))
    wanted = net[4](2 * net[:4](images) + 1)
    with hooks(layers_at(net, ["3"]), after=lambda path, _layer, _inputs, output: 2 * output + len(path)):
        assert torch.equal(net(images), wanted)
    with (
        pytest.raises(ZeroDivisionError),
        hooks(dict(net.named_modules()), before=lambda *_: None, after=lambda *_: 1 / 0),
    ):
        net(images)
    assert hooked(net) == []
    assert torch.equal(net(images), before)


def test_calls_come_in_the_order_in_which_layers_run_with_the_shapes_they_give(net):
    assert calls(net, ["4", "0"], SPEC) == [("0", (1, 3, 2, 2)), ("4", (1, 2))]
    assert output_axes(net, ["0", "3"], SPEC) == {"0": 4, "3": 2}
    with pytest.raises(InputError, match="no layer '9'"):
        calls(net, ["9"], SPEC)


def test_what_follows_the_last_layer_asked_for_does_not_run(net):
    images = torch.randn(2, 1, 4, 4)
    flat = net[:3](images).detach()
    cut = nn.Sequential(*net[:4], Refuses())
    for given, output in (first_call(cut, "3", images), (first_inputs(cut, ["3"], images)["3"], net[3](flat))):
        assert torch.equal(given, flat)
        assert torch.equal(output, net[3](flat))
    found = first_outputs(cut, ["0", "2"], images)
    assert found.keys() == {"0", "2"}
    assert torch.equal(found["2"], flat)
    assert not found["0"].requires_grad
    assert hooked(cut) == []


@pytest.mark.parametrize("get", [first_inputs, first_outputs])
def test_a_layer_that_runs_twice_is_taken_at_its_first_call(get):
    layer, last = nn.Linear(3, 3), nn.Linear(3, 2)
    net, images = nn.Sequential(layer, layer, last), torch.randn(2, 3)
    wanted = images if get is first_inputs else layer(images)
    assert torch.equal(get(net, ["0", "2"], images)["0"], wanted)


@pytest.mark.parametrize("get", [first_outputs, lambda net, paths, images: first_call(net, paths[0], images)])
def test_a_run_that_stops_leaves_none_of_its_tensors_behind(net, get):
    """Without the garbage collector: what an exception that stops a run holds would be as large as the network's outputs."""
    alive = []
    with hooks(layers_at(net, ["0", "1"]), after=lambda *call: alive.append(weakref.ref(call[3]))):
        gc.disable()
        try:
            get(net, ["3"], torch.randn(2, 1, 4, 4))
            assert len(alive) == 2
            assert [tensor() for tensor in alive] == [None, None]
        finally:
            gc.enable()


def test_no_other_file_registers_forward_hooks():
    own = Path(module.__file__)
    files = own.parents[1].rglob("*.py")
    assert [path.name for path in files if "register_forward" in path.read_text(encoding="utf-8")] == [own.name]


@pytest.mark.parametrize(("batch", "values", "sizes"), [(10, 1 << 20, [10, 10, 3]), (100, 7 * 16, [7, 7, 7, 2])])
def test_the_runner_shows_every_image_once_in_bounded_batches(net, batch, values, sizes):
    given, got = [], []
    net.train()
    observe(
        net, SPEC, PIXELS, {"3": lambda x, _: given.append(x), "4": lambda _, y: got.append(y)},
        what="test", batch=batch, values=values,
    )  # fmt: skip
    assert [len(x) for x in given] == sizes
    whole = SPEC.normalise(PIXELS)
    assert torch.allclose(torch.cat(given), net[:3](whole), atol=1e-6)
    assert torch.allclose(torch.cat(got), net(whole), atol=1e-6)
    assert not net.training
    assert hooked(net) == []


@pytest.mark.parametrize(("first", "expected"), [(False, 6), (True, 3)])
def test_the_runner_hands_on_every_call_or_the_first_of_each_batch(first, expected):
    layer = nn.Linear(16, 16)
    net, seen = nn.Sequential(nn.Flatten(), layer, layer), []
    observe(net, SPEC, PIXELS, {"1": lambda x, _: seen.append(x)}, what="test", batch=10, first=first)
    assert len(seen) == expected
    if first:
        assert torch.equal(torch.cat(seen), SPEC.normalise(PIXELS).flatten(1))
