"""Every kernel against torch in float64, on memory full of NaN, for register files of several machines."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hashpress.core.errors import TargetError
from hashpress.targets.table import resolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nets_for_targets import Compiled, difference, settled
from torch import nn

BOUND = 2e-6  # of the largest output; sums of a few thousand float32 products


@pytest.fixture(scope="module")
def host():
    return resolve("host")


CONVOLUTIONS = {
    "3x3": (nn.Conv2d(3, 16, 3, padding=1), (3, 12, 12)),
    "channels that fill no block": (nn.Sequential(nn.Conv2d(3, 20, 5), nn.Conv2d(20, 50, 5)), (3, 14, 14)),
    "odd sizes": (nn.Sequential(nn.Conv2d(3, 17, 3, padding=1), nn.Conv2d(17, 33, 3, 2, 1)), (3, 13, 27)),
    "11x11 stride 4": (nn.Conv2d(3, 24, 11, 4, 2), (3, 63, 63)),
    "7x7 stride 2": (nn.Conv2d(3, 32, 7, 2, 3, bias=False), (3, 32, 32)),
    "1x1": (nn.Sequential(nn.Conv2d(4, 40, 1), nn.Conv2d(40, 70, 1, stride=2)), (4, 9, 9)),
    "dilated": (
        nn.Sequential(nn.Conv2d(2, 16, 3, dilation=2, padding=2), nn.Conv2d(16, 8, 3, dilation=3)),
        (2, 15, 15),
    ),
    "not square": (nn.Conv2d(3, 16, (3, 5), (2, 1), (0, 2)), (3, 11, 9)),
    "groups of blocks": (nn.Sequential(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 64, 3, groups=2)), (3, 10, 10)),
    "groups inside blocks": (nn.Sequential(nn.Conv2d(3, 24, 3), nn.Conv2d(24, 36, 3, groups=4)), (3, 10, 10)),
    "depthwise": (nn.Sequential(nn.Conv2d(3, 24, 3), nn.Conv2d(24, 24, 3, 2, 1, groups=24)), (3, 10, 10)),
    "one pixel": (nn.Sequential(nn.Conv2d(3, 16, 4), nn.Conv2d(16, 24, 1)), (3, 4, 4)),
    "border wider than one reader needs": (nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 5, padding=4)), (3, 6, 6)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name, host, tmp_path):
    net, shape = CONVOLUTIONS[name]
    assert difference(settled(net), shape, host, tmp_path) < BOUND


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(data=st.data())
def test_any_convolution(data, host, tmp_path_factory):
    torch.manual_seed(0)  # else weights are new ones when an example runs again
    groups = data.draw(st.sampled_from([1, 1, 1, 2, 3]))
    channels = [groups * data.draw(st.integers(1, 24)) for _ in range(2)]
    kernel = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride, dilation = (data.draw(st.tuples(st.integers(1, 3), st.integers(1, 2))) for _ in range(2))
    padding = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    side = [data.draw(st.integers(max(1, r - 2 * p), r + 12)) for r, p in zip(reach, padding, strict=True)]
    conv = nn.Conv2d(channels[0], channels[1], kernel, stride, padding, dilation, groups, bias=data.draw(st.booleans()))
    net = nn.Sequential(nn.Conv2d(2, channels[0], 1), conv, nn.ReLU() if data.draw(st.booleans()) else nn.Identity())
    with torch.no_grad():
        conv.weight += 0.1  # no sum is near zero, or all of them negative before a relu
        if conv.bias is not None:
            conv.bias += 1.0
    image = torch.randn(1, 2, *side, generator=torch.Generator().manual_seed(0))  # as ``difference`` draws it
    if net.eval()(image).abs().max() == 0:
        return
    assert difference(net, (2, *side), host, tmp_path_factory.mktemp("any")) < BOUND


@pytest.mark.parametrize(("lanes", "registers"), [(4, 16), (4, 32), (8, 16), (16, 32)])
def test_register_files(lanes, registers, host, tmp_path):
    net = nn.Sequential(
        nn.Conv2d(3, 20, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(20, 36, 3, 2, 1),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36 * 16, 21),
    )
    target = replace(host, lanes=lanes, registers=registers)
    assert difference(settled(net), (3, 16, 16), target, tmp_path) < BOUND


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.second, self.third = nn.Conv2d(12, 12, 3, padding=1), nn.Conv2d(12, 24, 3, 2, 1, bias=False)
        self.short, self.last, self.alone = nn.Conv2d(12, 24, 1, 2), nn.BatchNorm2d(24), nn.BatchNorm2d(24)

    def forward(self, images):
        one = torch.relu(self.norm(self.first(images)))
        two = torch.relu(one + self.second(one))  # the sum joins a convolution, whichever side it stands on
        three = self.last(self.third(two)) + self.short(two)
        four = three + three  # one value twice: a kernel of its own
        return torch.sigmoid(self.alone(torch.tanh(four)) * three)


class OptionA(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, before, 3, padding=1), nn.Conv2d(before, after, 3, 2, 1)

    def forward(self, images):
        hidden = torch.relu(self.one(images))
        extra = self.two.out_channels - self.one.out_channels
        short = nn.functional.pad(hidden[:, :, ::2, ::2], (0, 0, 0, 0, extra // 2, extra - extra // 2))
        return torch.relu(self.two(hidden) + short)


class CropPad(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 1)

    def forward(self, images):
        cut = self.conv(images)[:, 1:5, 2:6:2, 1:-1]  # what was cut off must not come back as padding
        return nn.functional.pad(cut, (1, 2, 1, 0, 1, 1))


GRAPHS = {
    "crop and pad": (CropPad(), (3, 8, 8)),
    "residual": (Residual(), (3, 10, 10)),
    "option A": (OptionA(16, 32), (3, 8, 8)),
    "option A, odd channels": (OptionA(7, 20), (3, 9, 9)),
    "dense only": (nn.Sequential(nn.Flatten(), nn.Linear(64, 300), nn.Tanh(), nn.Linear(300, 10)), (1, 8, 8)),
    "dense with batch norm": (nn.Sequential(nn.Flatten(), nn.Linear(27, 40), nn.BatchNorm1d(40), nn.ReLU()), (3, 3, 3)),
    "relu behind flatten": (nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.ReLU(), nn.Linear(80, 6)), (3, 6, 6)),
    "pool first": (nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(3, 4, 3)), (3, 12, 12)),
    "max pool": (nn.Sequential(nn.Conv2d(3, 20, 1), nn.MaxPool2d(3, 2, 1)), (3, 11, 11)),
    "max pool, rounding up": (nn.Sequential(nn.Conv2d(3, 20, 1), nn.MaxPool2d(3, 2, ceil_mode=True), nn.ReLU()), (3, 12, 12)),
    "mean pool, padding counted": (nn.Sequential(nn.Conv2d(3, 20, 1), nn.AvgPool2d(3, 2, 1)), (3, 11, 11)),
    "mean pool, padding not counted": (
        nn.Sequential(nn.Conv2d(3, 20, 1), nn.AvgPool2d(3, 2, 1, count_include_pad=False)), (3, 11, 11)),
    "mean pool, rounding up": (nn.Sequential(nn.Conv2d(3, 20, 1), nn.AvgPool2d(3, 2, ceil_mode=True)), (3, 12, 12)),
    "global mean": (nn.Sequential(nn.Conv2d(3, 20, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 9)), (3, 9, 9)),
    "adaptive": (nn.Sequential(nn.Conv2d(3, 20, 3), nn.AdaptiveAvgPool2d(2), nn.Flatten()), (3, 10, 10)),
    "zero padding as a layer": (nn.Sequential(nn.Conv2d(3, 6, 1), nn.ZeroPad2d((1, 2, 0, 3)), nn.Conv2d(6, 6, 3)), (3, 6, 6)),
    "one layer twice": (nn.Sequential(*[nn.Conv2d(3, 3, 3, padding=1)] * 2), (3, 8, 8)),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs(name, host, tmp_path):
    net, shape = GRAPHS[name]
    assert difference(settled(net), shape, host, tmp_path) < BOUND


def test_layers_share_one_kernel_and_no_layout_changes_between_them(host, tmp_path):
    net = settled(nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), *[nn.Conv2d(16, 16, 3, padding=1) for _ in range(4)]))
    plan = Compiled(net, (3, 8, 8), host, tmp_path).plan
    assert [step.kernel.op for step in plan.steps] == ["copy", *["conv"] * 5, "copy"]
    assert len({step.kernel for step in plan.steps[2:5]}) == 1


def test_fusion_leaves_one_step_a_convolution(host, tmp_path):
    plan = Compiled(settled(OptionA(16, 32)), (3, 8, 8), host, tmp_path).plan
    assert [step.name for step in plan.steps] == ["load", "one", "slice1", "two", "store"]


@pytest.mark.parametrize(
    ("net", "shape", "words"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softmax(1)), (3, 8, 8), "1: no kernel for softmax"),
        (nn.AdaptiveAvgPool2d(3), (3, 8, 8), "windows differ in size"),
        (nn.Linear(3, 4), (3, 8, 8), "cannot be lowered|no kernel"),
    ],
)
def test_what_no_kernel_covers_is_said_in_one_line(net, shape, words, host, tmp_path):
    with pytest.raises(TargetError, match=words) as caught:
        Compiled(net.eval(), shape, host, tmp_path)
    assert "\n" not in str(caught.value)
