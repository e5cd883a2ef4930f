"""Encoders: published parameter counts, output shapes, export; inputs and options that cannot work."""

import sys
from types import ModuleType

import pytest
import torch
from hashpress.core.errors import InputError
from hashpress.core.inputs import ImageInput, TextInput, VectorInput
from hashpress.core.model import Arch
from hashpress.hashnets.build import build, default_arch
from hashpress.hashnets.encoders import ENCODERS
from torch import nn

PUBLISHED = {  # parameters with the classifier they were published with (torchvision's documentation, the papers)
    "lenet300": (10, 266_610),
    "lenet5": (10, 431_080),
    "resnet20": (10, 269_722),
    "resnet32": (10, 464_154),
    "resnet44": (10, 658_586),
    "resnet56": (10, 853_018),
    "alexnet": (1000, 61_100_840),
    "vgg16": (1000, 138_357_544),
    "resnet18": (1000, 11_689_512),
    "resnet34": (1000, 21_797_672),
    "resnet50": (1000, 25_557_032),
    "mobilenet_v2": (1000, 3_504_872),
    "mobilenet_v3_small": (1000, 2_542_856),
    "mobilenet_v3_large": (1000, 5_483_032),
    "efficientnet_b0": (1000, 5_288_548),
}
FAST = ("lenet300", "lenet5", "smallconv", "resnet20", "resnet56")
DIGITS = ImageInput((1, 8, 8), (0.3,), (0.4,))


OTHERS = {"mlp": VectorInput(20), "textcnn": TextInput("words", ("déjà", "vu"), 5)}  # they were published without


def square(side: int, channels: int = 3) -> ImageInput:
    return ImageInput((channels, side, side), (0.5,) * channels, (0.25,) * channels)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(name):
    classes, parameters = PUBLISHED[name]
    with torch.device("meta"):
        net = build(default_arch(name, classes))
    assert sum(value.numel() for value in net.parameters()) == parameters


def test_small_conv_net_has_the_closed_form_count():
    net = build(default_arch("smallconv", 12))
    convolutions = sum(25 * i * o + o for i, o in ((3, 32), (32, 32), (32, 64)))
    assert sum(value.numel() for value in net.parameters()) == convolutions + (64 * 4 * 4 + 1) * 500 + 501 * 12


@pytest.mark.parametrize("name", ENCODERS)
def test_outputs_have_one_column_per_bit_and_keys_two_roots(name):
    arch = default_arch(name, 24, OTHERS.get(name))
    with torch.device("meta"):
        net = build(arch)
        assert net(arch.input.example(2)).shape == (2, 24)
    assert {key.split(".")[0] for key in net.state_dict()} == {"encoder", "head"}


@pytest.mark.parametrize("name", ENCODERS)
def test_meta_and_real_networks_have_the_same_state(name):
    chosen = OTHERS.get(name) or (None if name in FAST else square(64))
    arch = default_arch(name, 7, chosen)
    with torch.device("meta"):
        empty = build(arch).state_dict()
    real = build(arch).state_dict()
    assert list(real) == list(empty)
    assert all(real[key].shape == empty[key].shape and real[key].dtype == empty[key].dtype for key in real)


@pytest.mark.parametrize("name", FAST)
def test_export_and_trace_agree_with_the_network(name):
    arch = default_arch(name, 16)
    net = build(arch).eval()
    images = torch.rand(3, *arch.input.shape)
    expected = net(images)
    exported = torch.export.export(net, (images,)).module()
    traced = torch.fx.symbolic_trace(net)
    torch.testing.assert_close(exported(images), expected)
    torch.testing.assert_close(traced(images), expected)


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "resnet50"])
def test_big_encoders_export_at_64_pixels(name):
    net = build(default_arch(name, 16, square(64))).eval()
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(torch.export.export(net, (images,)).module()(images), net(images))


@pytest.mark.parametrize("name", ["lenet300", "smallconv", "resnet20"])
def test_embedded_digits_fit(name):
    assert build(default_arch(name, 16, DIGITS)).eval()(torch.zeros(2, 1, 8, 8)).shape == (2, 16)


@pytest.mark.parametrize(("name", "sides"), [("smallconv", range(8, 40)), ("lenet5", range(16, 40))])
def test_every_side_from_the_smallest_on_works(name, sides):
    for side in sides:
        arch = default_arch(name, 8, square(side, 1))
        assert build(arch)(torch.zeros(1, 1, side, side)).shape == (1, 8)


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
@pytest.mark.parametrize(("side", "grid"), [(64, None), (64, 6), (160, None)])
def test_dense_layers_follow_the_grid(name, side, grid):
    arch = default_arch(name, 8, square(side), grid=grid, widths=[4] * (5 if name == "alexnet" else 13), hidden=[8, 8])
    with torch.device("meta"):
        assert build(arch)(torch.zeros(1, 3, side, side)).shape == (1, 8)


def test_small_pools_count_pixels_inside_only():
    pool = build(default_arch("smallconv", 8)).encoder.pool2
    torch.testing.assert_close(pool(torch.ones(1, 1, 8, 8)), torch.ones(1, 1, 4, 4))


def test_shortcut_takes_every_second_pixel_and_fills_both_sides_with_zeros():
    block = build(default_arch("resnet20", 8)).eval().encoder.layer2[0]
    nn.init.zeros_(block.bn2.weight)  # leaves the shortcut alone
    images = torch.rand(1, 16, 6, 6)
    result = block(images)
    torch.testing.assert_close(result[:, 8:24], images[:, :, ::2, ::2])
    assert not result[:, :8].any()
    assert not result[:, 24:].any()


def test_widths_are_options():
    arch = default_arch("resnet20", 8, widths=(8, 20, 31))
    assert build(arch)(torch.zeros(1, 3, 32, 32)).shape == (1, 8)
    assert Arch.from_json(arch.to_json()) == arch


def test_seed_decides_the_values_and_leaves_the_global_generator_alone():
    arch = default_arch("smallconv", 8)
    before = torch.get_rng_state()
    first, again, other = build(arch, seed=3), build(arch, seed=3), build(arch, seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.encoder.conv1.weight, other.encoder.conv1.weight)


@pytest.mark.parametrize("name", ["smallconv", "lenet5", "lenet300"])
def test_signal_keeps_its_scale(name):
    arch = default_arch(name, 8, square(28, 1))
    features = build(arch).encoder(torch.randn(64, 1, 28, 28))
    assert 0.05 < features.std() < 20


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        (lambda: default_arch("resnet21", 8), ["unknown encoder 'resnet21'", "resnet20"]),
        (lambda: default_arch("alexnet", 8, square(48)), ["63x63", "48x48"]),
        (lambda: default_arch("lenet5", 8, DIGITS), ["16x16", "8x8"]),
        (lambda: default_arch("smallconv", 8, ImageInput((8,), (0.5,), (1.0,))), ["(C, H, W)"]),
        (lambda: default_arch("smallconv", 8, depth=3), ["no option 'depth'", "widths"]),
        (lambda: default_arch("resnet20", 8, widths=[16, 32]), ["3 positive numbers"]),
        (lambda: default_arch("vgg16", 8, widths=[0] * 13), ["13 positive numbers"]),
        (lambda: default_arch("nowhere.to:be", 8), ["say what its input looks like"]),
        (lambda: default_arch("nowhere.to:be", 8, DIGITS), ["would import and run code", "trust_code"]),
        (lambda: default_arch("resnet20", 0), ["at least one bit"]),
    ],
)
def test_what_cannot_work_is_said_in_one_line(arch, words):
    with pytest.raises(InputError) as caught:
        build(arch())
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


class Foreign(nn.Module):
    def __init__(self, shape, hidden):
        super().__init__()
        self.layer = nn.Linear(shape[0] * shape[1] * shape[2], hidden)

    def forward(self, images):
        return self.layer(images.flatten(1))


def test_code_of_the_user_is_built_when_trusted(monkeypatch):
    module = ModuleType("somebodys_nets")
    module.make, module.flat = Foreign, lambda shape: nn.Identity()
    monkeypatch.setitem(sys.modules, "somebodys_nets", module)
    arch = default_arch("somebodys_nets:make", 12, DIGITS, hidden=9)
    net = build(arch, trust_code=True)
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 12)
    assert net.head.in_features == 9
    with torch.device("meta"):
        assert list(build(arch, trust_code=True).state_dict()) == list(net.state_dict())
    with pytest.raises(InputError, match="features"):
        build(default_arch("somebodys_nets:flat", 12, DIGITS), trust_code=True)
    for missing in ("somebodys_nets:gone", "no_such_module_anywhere:make"):
        with pytest.raises(InputError, match="cannot be imported"):
            build(default_arch(missing, 12, DIGITS), trust_code=True)
