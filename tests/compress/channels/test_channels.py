"""What happens to channels on the way, in networks as users write them: cut networks run, layers left alone say why."""

from __future__ import annotations

import nets_foreign
import numpy as np
import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.channels.graph import channels
from hashpress.compress.channels.removal import cut
from hashpress.compress.passes import Merge, Narrow
from hashpress.core.data import load_data
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile.file import load, save

SPLIT = load_data("digits?limit=60")
FREE = {"mean_pixels", "mean_columns", "viewed_freely", "padded_ones", "padded_zeros", "padded_mirror", "named"}
PASSES = {"narrow": Narrow(ratio=0.5), "merge": Merge(share=0.4, kinds=("dense", "conv"))}


def of(name: str) -> HashModel:
    return untrained(default_arch(f"nets_foreign:{name}", 12, ImageInput.of(SPLIT)), seed=3, trust_code=True)


@pytest.mark.parametrize("name", nets_foreign.FOLLOWED)
@pytest.mark.parametrize("work", PASSES)
def test_what_was_cut_runs(name, work, tmp_path):
    """The first layer is thinner where its channels can be followed, and whole where they cannot."""
    result = PASSES[work](of(name), SPLIT)
    given = outputs(result, SPLIT.queries.pixels)
    assert given.shape == (len(SPLIT.queries), 12)
    save(result, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(
        outputs(load(tmp_path / "a.safetensors", trust_code=True), SPLIT.queries.pixels), given
    )
    width = result.net.encoder.first.out_channels
    assert width == ({"narrow": 4, "merge": 5}[work] if name in FREE else 8)


@pytest.mark.parametrize("name", [name for name in sorted(FREE) if name != "padded_ones"])
def test_channels_that_are_zero_can_go(name):
    model = of(name)
    first = model.net.encoder.first
    first.weight.data[[1, 4]], first.bias.data[[1, 4]] = 0, 0
    found = channels(model)
    net = model.copy_net()
    edits = cut(net, found, found.layers["encoder.first"].outputs[[1, 4]])
    assert edits
    images = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(net(images), model.net(images))


@pytest.mark.parametrize(
    ("name", "straight"), [("padded_ones", False), ("padded_zeros", True), ("padded_mirror", True)]
)
def test_scales_do_not_pass_a_border_of_ones(name, straight):
    """A neuron three times another: one goes at no cost where what follows gives three times as much, and only there."""
    model = of(name)
    first = model.net.encoder.first
    first.weight.data[3], first.bias.data[3] = 3 * first.weight.data[1], 3 * first.bias.data[1]
    wanted = outputs(model, SPLIT.queries.pixels)
    merged = Merge(share={"encoder.first": 1 / 8}, kinds=("conv",))(model)
    cost = merged.history[-1].after["layers"]["encoder.first"]["saliency"]
    lost = np.abs(outputs(merged, SPLIT.queries.pixels) - wanted).max()
    assert (cost < 1e-9, lost < 1e-5) == (straight, straight)


@pytest.mark.parametrize(
    ("name", "path", "reason"),
    [
        ("grouped", "encoder.second", "a convolution in 4 groups"),
        ("multiplied", "encoder.second", "a depthwise convolution with 2 outputs for every input"),
        ("grouped", "encoder.first", "passes encoder.second, a convolution in 4 groups"),
        ("viewed", "encoder.first", "makes 512 features, whatever there is"),
        ("mean_channels", "encoder.first", "passes mean, which is not known"),
        ("one_number", "encoder.first", "passes sum, which is not known"),
        ("old_norm", "encoder.first", "computed from others"),
        ("scaled_by_itself", "*", "cannot be traced: Tensor.item"),
        ("kinds", "encoder.up", "layers of type ConvTranspose2d are not treated"),
        ("kinds", "encoder.rows", "layers of type GRU are not treated"),
        ("kinds", "encoder.norm", "a GroupNorm, which is not known"),
        ("kinds", "encoder.bent", "a PReLU, which is not known"),
        ("rows", "encoder.mix", "a dense layer on several rows an image"),
        ("unused", "encoder.aux", "is not called as a layer of its own"),
        ("standardised", "encoder.0", "a Standardised may compute in a way of its own"),
        ("attending", "encoder.heads.out_proj", "a NonDynamicallyQuantizableLinear may compute"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("work", PASSES)
def test_layers_left_alone_say_why(name, path, reason, work):
    left = PASSES[work].decide(of(name), Context(SPLIT)).data["skipped"]
    assert reason in left[path]


@pytest.mark.parametrize("work", PASSES)
@pytest.mark.parametrize("name", [*nets_foreign.NETS, *nets_foreign.FOLLOWED])
def test_every_layer_stands_in_the_ledger(name, work):
    """Convolutions, dense and recurrent layers are named as thinner, or as left with a reason."""
    model = of(name)
    decision = PASSES[work].decide(model, Context(SPLIT)).data
    told = {*decision["skipped"], *decision.get("widths", ()), *decision.get("layers", ())}
    kinds = (torch.nn.Conv2d, torch.nn.Linear, torch.nn.ConvTranspose2d, torch.nn.RNNBase)
    layers = {path for path, layer in model.net.named_modules() if isinstance(layer, kinds)}
    assert "*" in told or layers <= told
