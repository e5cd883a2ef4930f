"""Multiplications: closed forms, torch's own counter, and what compressed layers really multiply."""

import re
from pathlib import Path

import nets_foreign
import pytest
import torch
from hashpress.compress.observe.macs import OWN, count, count_net
from hashpress.compress.passes import Fastfood, Fold, HashWeights, Int8, ProductQuantize
from hashpress.core.data import load_data
from hashpress.core.errors import InputError
from hashpress.core.model import HashModel
from hashpress.hashnets.build import build, default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile.layers import int8, shared
from hashpress.modelfile.layers.base import compress_layer
from hashpress.modelfile.layers.int8 import Quantized
from hashpress.modelfile.layers.pq import ProductQuantized
from small_models import a_model
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode


def test_a_network_that_looks_at_its_values_is_counted_too():
    net = nets_foreign.Looking()
    costs = count_net(net, (1, 8, 8))
    assert {layer.path: layer.macs for layer in costs.layers} == {"first": 36 * 8 * 9, "out": 288 * 48}
    assert costs.by_path["first"].output == (8, 6, 6)
    assert costs.parameters == sum(value.numel() for value in net.parameters())
    assert net.training
    with pytest.raises(InputError, match=r"\(2, 8, 8\)"):
        count_net(net, (2, 8, 8))


def test_lenet5_is_what_everyone_counts():
    arch = default_arch("lenet5", 10)
    costs = count(untrained(arch))
    # 24x24x20x25, 8x8x50x20x25, 800x500, 500x10
    assert [layer.macs for layer in costs.layers] == [288_000, 1_600_000, 400_000, 5_000]
    assert [layer.parameters for layer in costs.layers] == [520, 25_050, 400_500, 5_010]
    assert costs["encoder.conv2"].input == (20, 12, 12)
    assert costs["encoder.conv2"].output == (50, 8, 8)
    assert costs.parameters == 431_080


@pytest.mark.parametrize("encoder", ["resnet20", "smallconv", "resnet18", "resnet50", "alexnet", "vgg16"])
def test_totals_agree_with_torch_and_nothing_is_allocated(encoder):
    arch = default_arch(encoder, 48)
    with torch.device("meta"):
        net = build(arch).eval()
    costs = count(HashModel(net, arch))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.empty(1, *arch.input.shape, device="meta"))
    assert costs.macs * 2 == counter.get_total_flops()
    assert costs.parameters == sum(value.numel() for value in net.parameters())


def test_grouped_dilated_transposed_and_functional():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(4, 8, (3, 1), (2, 1), (1, 0), (2, 1), groups=2)
            self.b = nn.ConvTranspose2d(8, 2, 2, 2)
            self.weight = nn.Parameter(torch.zeros(5, 2))

        def forward(self, images):
            hidden = self.a(self.a.weight.new_zeros(1, 4, 9, 7) + images)
            hidden = self.b(hidden)
            return functional.linear(hidden.mean((2, 3)), self.weight) @ torch.zeros(5, 3)

    net = Odd()
    costs = count_net(net, (4, 9, 7))
    rows, columns = 4, 7  # (9 + 2 - 2 * 2 - 1) // 2 + 1
    assert costs["a"].output == (8, rows, columns)
    assert costs["a"].macs == rows * columns * 8 * 2 * 3
    assert costs["b"].macs == rows * columns * 8 * 2 * 4
    assert costs[""].macs == 5 * 2 + 5 * 3
    assert costs[""].parameters == 10
    assert not net.a.weight.is_meta


def test_a_layer_called_twice_counts_twice_and_shared_parameters_once():
    layer = nn.Linear(6, 6)
    costs = count_net(nn.Sequential(layer, nn.ReLU(), layer), (6,))
    assert (costs.macs, costs.parameters) == (72, 42)


def test_decoded_layers_multiply_as_dense_ones_and_hold_their_form():
    arch = default_arch("lenet5", 10)
    net = build(arch)
    compress_layer(net, "encoder.fc1", shared.SharedWeight((500, 800), 16))
    costs = count(HashModel(net, arch))
    assert costs["encoder.fc1"].macs == 400_000
    assert costs["encoder.fc1"].parameters == 516


@pytest.fixture(scope="module")
def split():
    return load_data("digits?size=16&limit=100")


def figures(model):
    return {layer.path: layer.macs for layer in count(model).layers}


@pytest.mark.parametrize(("encoder", "widths"), [("lenet5", [4, 6, 20]), ("resnet20", [4, 4, 8])])
def test_integers_multiply_as_often_as_the_plain_layers(encoder, widths, split):
    model = Fold()(a_model(encoder, widths=widths))
    small = Int8(bits=4, images=20)(model, split)
    assert len(small.edits) - len(model.edits) == len(figures(model))
    assert figures(small) == figures(model)


def test_grouped_integer_convolutions(split):
    def counted(layer):
        net = nn.Sequential(layer)
        before = count_net(net, (4, 9, 7))["0"].macs
        Quantized("0", 0.1, 0, 0.0).apply(net)
        assert count_net(net, (4, 9, 7))["0"].macs == before
        return before

    assert counted(nn.Conv2d(4, 8, (3, 1), (2, 1), (1, 0), (2, 1), groups=2)) == 4 * 7 * 8 * 2 * 3


def test_hashed_weights_multiply_as_often_as_the_plain_layers(split):
    model = a_model(widths=[4, 6, 20])
    small = HashWeights(share=0.25, skip=())(model, split)
    assert {type(layer).__name__ for layer in small.net.modules()} >= {"HashedLinear", "CompressedConv2d"}
    assert figures(small) == figures(model)


def test_look_up_counts_the_products_that_it_computes(split, monkeypatch):
    model = ProductQuantize(entries=8, sweeps=0)(a_model(widths=[4, 6, 20]), split)
    products, real = [], torch.bmm

    def noted(left, right):
        products.append(left.numel() * right.shape[2])
        return real(left, right)

    monkeypatch.setattr(torch, "bmm", noted)
    outputs(model, split.queries.pixels[:1])
    assert len(products) == 4
    assert list(figures(model).values()) == products


def test_look_up_of_groups_and_padding():
    net = nn.Sequential(nn.Conv2d(6, 10, 3, padding=(2, 1), groups=2))
    ProductQuantized("0", 3, 2, 5).apply(net)
    net.eval()
    # two groups of two subspaces of 2 channels (the last one filled up), 5 codewords, 8 + 4 rows, 6 + 2 columns
    assert count_net(net, (6, 8, 6))["0"].macs == 2 * (2 * 2) * 5 * 12 * 8


def test_fastfood_multiplies_by_its_diagonals(split):
    model = Fastfood()(a_model(widths=[4, 6, 20]), split)
    assert figures(model)["encoder.fc1"] == 3 * 6 + 3 * 8 + 20  # three blocks of 8 take 6 inputs to 20 outputs


def test_no_forward_operator_of_ours_is_forgotten():
    weights = {"hashpress::hashed_weight"}  # decodes, the convolution behind it is counted
    layers = ("int8", "hashed", "fastfood", "pq")
    text = "".join((Path(int8.__file__).parent / f"{name}.py").read_text("utf-8") for name in layers)
    found = {name for name in re.findall(r'custom_op\("([^"]+)"', text) if not name.endswith("_backward")}
    assert found - weights == set(OWN)


def test_an_input_that_does_not_fit_is_named():
    with pytest.raises(InputError, match=r"\(4, 8, 8\)"):
        count_net(nn.Conv2d(3, 2, 3), (4, 8, 8))
