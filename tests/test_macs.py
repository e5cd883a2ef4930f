import pytest
import torch
from hashpress.compress.layers import forms
from hashpress.compress.layers.decoded import replace_form
from hashpress.compress.macs import count, count_net
from hashpress.core.errors import InputError
from hashpress.core.model import HashModel
from hashpress.hashnets.build import build, default_arch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode


def test_lenet5_is_what_everyone_counts():
    arch = default_arch("lenet5", 10)
    costs = count(HashModel(build(arch), arch))
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
    replace_form(net, "encoder.fc1", forms.Shared((500, 800), 16))
    costs = count(HashModel(net, arch))
    assert costs["encoder.fc1"].macs == 400_000
    assert costs["encoder.fc1"].parameters == 516


def test_an_input_that_does_not_fit_is_named():
    with pytest.raises(InputError, match=r"\(4, 8, 8\)"):
        count_net(nn.Conv2d(3, 2, 3), (4, 8, 8))
