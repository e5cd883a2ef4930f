"""Channels that go everywhere at once: groups against torch-pruning, networks against small ones built by hand."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import small_models
import torch
from hashpress.compress.channels import removal
from hashpress.compress.channels.graph import channels
from hashpress.compress.channels.least_squares import refit
from hashpress.compress.channels.narrow import Narrow, layers_with_fewer_inputs
from hashpress.compress.fold import Fold
from hashpress.compress.observe.macs import count
from hashpress.core.data import load_data
from hashpress.core.errors import InputError, ModelFileError, RecipeError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile.edits import edit_from_json, edit_to_json, rebuild
from hashpress.modelfile.file import load, save
from hashpress.modelfile.layers.narrowed import narrow
from small_models import SPEC, some_images

a_model = partial(small_models.a_model, norms=True)


def removed_of(model, layers_and_rows):
    found = channels(model)
    return found, np.unique([found.layers[path].outputs[row] for path, row in layers_and_rows])


def fresh(model):
    """The network as a loaded file would have it: built from the edits as JSON, filled by name."""
    edits = [edit_from_json(edit_to_json(edit)) for edit in model.edits]
    net = rebuild(model.arch, edits)
    net.load_state_dict(copy.deepcopy(model.net.state_dict()), strict=True, assign=True)
    return net.eval()


# the network that is left


def test_a_narrow_lenet_is_the_small_one_built_by_hand():
    model = a_model(widths=[4, 6, 10])
    found, removed = removed_of(
        model, [("encoder.conv1", 1), ("encoder.conv2", 0), ("encoder.conv2", 5), ("encoder.fc1", 3)]
    )
    net = model.copy_net()
    edits = removal.cut(net, found, removed)
    small = a_model(widths=[3, 4, 9]).net
    a, b, c = [0, 2, 3], [1, 2, 3, 4], [0, 1, 2, 4, 5, 6, 7, 8, 9]
    old, state = model.net.state_dict(), {}
    state["encoder.conv1.weight"], state["encoder.conv1.bias"] = (
        old["encoder.conv1.weight"][a],
        old["encoder.conv1.bias"][a],
    )
    state["encoder.conv2.weight"] = old["encoder.conv2.weight"][b][:, a]
    state["encoder.conv2.bias"] = old["encoder.conv2.bias"][b]
    features = old["encoder.fc1.weight"].reshape(10, 6, -1)[:, b].flatten(1)
    state["encoder.fc1.weight"], state["encoder.fc1.bias"] = features[c], old["encoder.fc1.bias"][c]
    state["head.weight"], state["head.bias"] = old["head.weight"][:, c], old["head.bias"]
    small.load_state_dict(state, strict=True)
    images = torch.randn(5, 1, 16, 16)
    assert torch.equal(net(images), small(images))
    again = fresh(HashModel(net, model.arch, tuple(edits)))
    assert torch.equal(again(images), small(images))


@pytest.mark.parametrize("encoder", ["resnet20", "resnet18", "resnet50", "smallconv"])
def test_removing_silent_channels_changes_nothing(encoder):
    """A channel whose producers give zero everywhere can go; the outputs stay to the last rounding."""
    spec = ImageInput((3, 32, 32), (0.5,) * 3, (0.5,) * 3)
    widths = {"resnet20": [4, 8, 16], "resnet18": [4, 6, 8, 8], "resnet50": [4, 4, 8, 8], "smallconv": [6, 6, 8, 20]}
    model = a_model(encoder, spec=spec, widths=widths[encoder])
    found = channels(model)
    generator = np.random.default_rng(0)
    removed = np.concatenate(
        [generator.choice(space, max(1, len(space) // 3), replace=False) for space in found.spaces()]
    )
    for path, layer in found.layers.items():
        gone = np.isin(layer.outputs, removed)
        values = model.net.get_submodule(path) if layer.kind != "pad" else None
        if layer.produces or layer.kind == "norm":
            values.weight.data[gone] = 0
            if values.bias is not None:
                values.bias.data[gone] = 0
    net = model.copy_net()
    edits = removal.cut(net, found, removed)
    images = torch.randn(3, *spec.shape)
    assert torch.allclose(net(images), model.net(images), atol=1e-4, rtol=1e-4)
    thin = HashModel(net, model.arch, tuple(edits))
    assert torch.equal(fresh(thin)(images), net(images))
    assert count(thin).macs < count(model).macs


def test_groups_are_those_of_torch_pruning():
    """Independent oracle: torch-pruning's dependency graph, in networks without channel padding."""
    tp = pytest.importorskip("torch_pruning")
    spec = ImageInput((3, 32, 32), (0.5,) * 3, (0.5,) * 3)
    for encoder, widths in (("resnet18", [4, 6, 8, 8]), ("resnet50", [4, 4, 8, 8]), ("smallconv", [6, 6, 8, 20])):
        model = a_model(encoder, spec=spec, widths=widths)
        found = channels(model)
        modules = dict(model.net.named_modules())
        names = {layer: path for path, layer in modules.items()}
        graph = tp.DependencyGraph().build_dependency(model.net, example_inputs=torch.randn(1, *spec.shape))
        for path, layer in found.layers.items():
            if not layer.produces or path == "head":
                continue
            pruner = tp.prune_conv_out_channels if layer.kind == "conv" else tp.prune_linear_out_channels
            theirs = {}
            for item in graph.get_pruning_group(modules[path], pruner, idxs=[1]):
                if item.dep.target.module in names and not str(item.dep.target.name).startswith("_"):
                    role = "inputs" if "in_channels" in item.dep.handler.__name__ else "outputs"
                    theirs.setdefault((names[item.dep.target.module], role), set()).update(item.idxs)
            label = layer.outputs[1]
            ours = {
                (where, role): set(np.flatnonzero(getattr(other, role) == label).tolist())
                for where, other in found.layers.items()
                for role in (("outputs",) if other.kind == "norm" else ("inputs", "outputs"))
                if (getattr(other, role) == label).any()
            }
            assert ours == theirs, path


def test_shortcuts_with_zero_channels_keep_count():
    model = a_model("resnet20", spec=ImageInput((3, 16, 16), (0.5,) * 3, (0.5,) * 3), widths=[4, 8, 16])
    found = channels(model)
    stream = {len(space) for space in found.spaces()}
    assert stream == {4, 8, 16}
    first = found.layers["encoder.conv1"].outputs
    assert np.array_equal(found.layers["encoder.layer2.0.conv2"].outputs[2:6], first)
    assert np.array_equal(found.layers["encoder.layer3.0.conv2"].outputs[6:10], first)
    assert np.array_equal(found.layers["head"].inputs[6:10], first)
    gone = np.array([first[0], found.layers["encoder.layer2.0.conv2"].outputs[7]])
    net = model.copy_net()
    removal.cut(net, found, gone)
    block = net.encoder.layer2[0]
    assert (block.before, block.behind) == (2, 1)
    assert net(torch.randn(2, 3, 16, 16)).shape == (2, 12)


# decisions


def test_hash_outputs_and_inputs_are_never_cut():
    for encoder in ("lenet300", "lenet5"):
        model = a_model(encoder)
        thin = Narrow(ratio=0.7)(model)
        state = thin.net.state_dict()
        assert state["head.weight"].shape[0] == 12
        assert outputs(thin, some_images().pixels).shape == (40, 12)


def test_widths_are_multiples():
    spec = ImageInput((3, 16, 16), (0.5,) * 3, (0.5,) * 3)
    model = a_model("resnet20", spec=spec, widths=[16, 32, 64])
    for settings in ({"ratio": 0.3}, {"macs": 0.5}):
        thin = Narrow(**settings, multiple=8)(model)
        for path, layer in thin.net.named_modules():
            if isinstance(layer, torch.nn.Conv2d):
                assert layer.out_channels % 8 == 0, path
    assert removal.channels_to_keep(20, 0.5, 8, 0.0) == 16
    assert removal.channels_to_keep(20, 0.9, 1, 0.2) == 4
    assert removal.channels_to_keep(6, 0.5, 8, 0.0) == 6


@pytest.mark.parametrize("encoder", ["lenet5", "resnet20"])
def test_macs_target_is_met_as_counted_elsewhere(encoder):
    spec = ImageInput((3, 16, 16), (0.5,) * 3, (0.5,) * 3)
    model = a_model(encoder, spec=spec)
    before = count(model).macs
    for share in (0.8, 0.5, 0.25):
        after = count(Narrow(macs=share)(model)).macs
        assert after <= share * before
        assert after > 0.8 * share * before
    found = channels(model)
    assert sum(layer.macs(len(layer.inputs), len(layer.outputs)) for layer in found.layers.values()) == before


def test_the_cheapest_block_goes_first():
    """Brute force over all single removals of a small network."""
    model = a_model(widths=[3, 4, 5])
    found = channels(model)
    scores = np.random.default_rng(3).random(500)
    before = count(model).macs
    prices = {}
    for space in found.spaces():
        label = space[np.argmin(scores[space])]
        net = model.copy_net()
        edits = removal.cut(net, found, np.array([label]))
        prices[int(label)] = scores[label] / (before - count(HashModel(net, model.arch, tuple(edits))).macs)
    assert removal.by_macs(found, scores, 0.99999).tolist() == [min(prices, key=prices.get)]


@pytest.mark.parametrize("least", [0.0, 0.5, 0.75])
def test_no_layer_becomes_thinner_than_the_least(least):
    model = a_model(widths=[8, 12, 40])
    thin = Narrow(macs=0.75, least=least)(model)
    names = [f"encoder.{name}.weight" for name in ("conv1", "conv2", "fc1")]
    shares = [len(thin.net.state_dict()[name]) / len(model.net.state_dict()[name]) for name in names]
    assert (min(shares) >= 0.75) == (least == 0.75)
    assert min(shares) >= least


def test_impossible_target_is_refused():
    with pytest.raises(RecipeError, match="cannot be reached"):
        Narrow(macs=0.01, least=0.5)(a_model())


@pytest.mark.parametrize("score", ["l1", "l2", "bn", "taylor", "code"])
def test_every_score_gives_a_network_that_saves(score, tmp_path):
    split = load_data("digits?limit=200&size=16")
    model = a_model("resnet20", spec=ImageInput((1, 16, 16), (0.5,), (0.5,)), widths=[4, 8, 8])
    before = copy.deepcopy(model.net.state_dict())
    thin = Narrow(macs=0.6, score=score, images=64)(model, split, seed=1)
    assert all(torch.equal(value, before[name]) for name, value in model.net.state_dict().items())
    save(thin, tmp_path / "thin.safetensors")
    again = load(tmp_path / "thin.safetensors")
    pixels = split.queries.pixels[:20]
    assert np.array_equal(outputs(again, pixels), outputs(thin, pixels))
    twice = Narrow(macs=0.6, score=score, images=64)(model, split, seed=1)
    assert all(torch.equal(value, twice.net.state_dict()[name]) for name, value in thin.net.state_dict().items())


def test_folded_networks_have_no_norms_to_score():
    model = Fold()(a_model("resnet20", spec=ImageInput((1, 16, 16), (0.5,), (0.5,)), widths=[4, 8, 8]))
    with pytest.raises(RecipeError, match="they were folded"):
        Narrow(ratio=0.5, score="bn")(model)
    assert Narrow(ratio=0.5)(model).edits


def test_refit_repairs_what_a_linear_layer_can():
    """A channel that is a mixture of others is removed without loss; oracle: the original's outputs."""
    model = a_model("lenet5", widths=[3, 4, 6])
    conv = model.net.encoder.conv2
    conv.weight.data[3], conv.bias.data[3] = conv.weight.data[1], conv.bias.data[1]
    images = some_images(count=300)
    split = load_data("digits?limit=20&size=16")
    split = type(split)(split.name, split.protocol, images, images, images, split.classes)
    found = channels(model)
    labels = found.layers["encoder.conv2"].outputs
    net = model.copy_net()
    removal.cut(net, found, labels[3:4])
    bare = (net(SPEC.normalise(images.pixels)) - model.net(SPEC.normalise(images.pixels))).square().mean()
    refit(net, model.net, layers_with_fewer_inputs(found, labels[3:4]), images.pixels, SPEC, ridge=1e-9)
    fitted = (net(SPEC.normalise(images.pixels)) - model.net(SPEC.normalise(images.pixels))).square().mean()
    assert fitted < 1e-6 < bare


def test_wrong_settings_and_edits_are_named():
    with pytest.raises(RecipeError, match="either ratio or macs"):
        Narrow()
    with pytest.raises(RecipeError, match="unknown score"):
        Narrow(ratio=0.5, score="magic")
    with pytest.raises(RecipeError, match=r"no layer matches 'encoder\.cnv1'"):
        Narrow(ratio=0.5, skip=("head", "encoder.cnv1"))(a_model())
    with pytest.raises(InputError, match="needs training images"):
        Narrow(ratio=0.5, score="code")(a_model())
    for edit in (
        {"kind": "narrowed", "layer": "encoder.conv1", "inputs": 1, "outputs": 21},
        {"kind": "narrowed", "layer": "encoder.conv1", "inputs": 0, "outputs": 2},
        {"kind": "repadded", "layer": "encoder.conv1", "before": 1, "behind": 1},
    ):
        with pytest.raises(ModelFileError):
            rebuild(a_model().arch, [edit_from_json(edit)])


def test_identity_is_the_identity():
    model = a_model()
    same = Narrow(ratio=0.0)(model)
    assert same.edits == ()
    assert all(torch.equal(value, same.net.state_dict()[name]) for name, value in model.net.state_dict().items())


def test_a_layer_that_was_cut_does_not_hold_on_to_what_went() -> None:
    some = torch.tensor([0, 2])
    for ins, outs in ((slice(2), slice(3)), (some, slice(3)), (slice(2), some), (some, some)):
        layer = torch.nn.Linear(8, 8)
        wanted = layer.weight.detach()[outs][:, ins].clone()
        narrow(layer, ins, outs)
        assert torch.equal(layer.weight, wanted)
        assert layer.weight.is_contiguous()
        assert layer.weight.untyped_storage().nbytes() == 4 * wanted.numel()


def test_refit_looks_at_as_many_images_as_asked():
    digits = load_data("digits?size=16&limit=400")
    model = untrained(default_arch("lenet5", 16, ImageInput.of(digits), widths=[8, 12, 30]), seed=1)
    wanted = outputs(model, digits.queries.pixels)
    work = partial(Narrow, ratio=0.4, score="l2", refit=True)
    lost = [
        np.square(outputs(work(images=count)(model, digits), digits.queries.pixels) - wanted).mean()
        for count in (2, 300)
    ]
    assert lost[1] < 0.7 * lost[0]
