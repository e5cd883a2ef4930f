"""Every option of every operator that is compiled: the compiled network equals torch's, or it is refused by the layer's name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from hashpress.core.errors import TargetError
from hashpress.targets.graph.operators import OPERATORS, arguments, rewritings, unsupported
from hashpress.targets.table import resolve
from nets_for_targets import Compiled, settled
from torch import nn

BOUND = 1e-5  # of the largest output
SIDE = 8  # of images, and the number of channels: what is applied along the wrong axis still has the right shape


class Layer(nn.Module):
    """A convolution, the operation, and what makes every output depend on all of its results."""

    def __init__(self, operation: Callable[[Layer, torch.Tensor], torch.Tensor], **values: torch.Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.operation = nn.Conv2d(3, SIDE, 3, padding=1), operation
        self.norm, self.plain = nn.BatchNorm2d(SIDE, eps=0.3, momentum=0.7), nn.Conv2d(SIDE, SIDE, 1, bias=False)
        for name, value in values.items():
            self.register_parameter(name, nn.Parameter(value))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.operation(self, self.conv(images))


class Wrapped(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.mine = layer

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.mine(images)


def some(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


def pooled(x):
    return x.mean((2, 3))


COMPILED = {  # an operation each: the bundle's outputs are torch's
    "add, alpha": (lambda s, x: torch.add(x, s.plain(x), alpha=0.25), {}),
    "add a number, alpha": (lambda s, x: torch.add(x, 1, alpha=0.5), {}),
    "add in place, alpha": (lambda s, x: s.plain(x).add_(x, alpha=0.1), {}),
    "sub, alpha": (lambda s, x: torch.sub(x, s.plain(x), alpha=2), {}),
    "rsub, alpha": (lambda s, x: torch.rsub(x, s.plain(x), alpha=3), {}),
    "rsub of a number, alpha": (lambda s, x: torch.rsub(x, 2, alpha=3), {}),
    "number minus": (lambda s, x: 1.5 - x, {}),
    "add a parameter, alpha": (lambda s, x: torch.add(x, s.p, alpha=1), {"p": some(SIDE, 1, 1)}),
    "divided by a number": (lambda s, x: x / 3, {}),
    "number of a tensor": (lambda s, x: x * torch.tensor(0.5) + torch.tensor(2.0), {}),
    "average, divisor": (lambda s, x: F.avg_pool2d(x, 2, divisor_override=3), {}),
    "average, divisor, padded": (lambda s, x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5), {}),
    "average, divisor, not counted": (lambda s, x: F.avg_pool2d(x, 3, 2, 1, False, False, 5), {}),
    "average, divisor, rounded up in vain": (lambda s, x: F.avg_pool2d(x, 2, ceil_mode=True, divisor_override=3), {}),
    "average": (lambda s, x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False), {}),
    "average, not square": (lambda s, x: F.avg_pool2d(x, (2, 3), (1, 2), (1, 0)), {}),
    "maximum": (lambda s, x: F.max_pool2d(x, 3, 2, 1, 1, ceil_mode=True), {}),
    "maximum, dilated": (lambda s, x: F.max_pool2d(x, 2, 2, 0, 2), {}),
    "maximum, not square": (lambda s, x: F.max_pool2d(x, (2, 3), (1, 2), (1, 1)), {}),
    "adaptive": (lambda s, x: F.adaptive_avg_pool2d(x, (4, 2)), {}),
    "mean": (lambda s, x: x.mean((2, 3)), {}),
    "mean, kept": (lambda s, x: x.mean((-1, 2), keepdim=True), {}),
    "relu6": (lambda s, x: F.relu6(x * 9), {}),
    "hardtanh": (lambda s, x: F.hardtanh(x, -0.2, 0.3), {}),
    "hardtanh in place": (lambda s, x: F.hardtanh(x, -0.2, 0.3, inplace=True), {}),
    "clamp": (lambda s, x: x.clamp(-0.1, 0.4), {}),
    "clamp, least": (lambda s, x: x.clamp(min=0.1), {}),
    "clamp, most": (lambda s, x: torch.clamp_max(x, 0.1), {}),
    "clamp_min in place": (lambda s, x: x.clamp_min_(-0.1), {}),
    "leaky": (lambda s, x: F.leaky_relu(x, 0.2), {}),
    "leaky by default": (lambda s, x: F.leaky_relu(x), {}),
    "leaky, falling": (lambda s, x: F.leaky_relu(x, -0.5, inplace=True), {}),
    "leaky, steep": (lambda s, x: F.leaky_relu(x, 3.0), {}),
    "hardswish": (lambda s, x: F.hardswish(x * 3), {}),
    "hardsigmoid": (lambda s, x: F.hardsigmoid(x * 3), {}),
    "silu": (lambda s, x: F.silu(x), {}),
    "batch norm": (lambda s, x: s.norm(x), {}),
    "dropout at rest": (lambda s, x: F.dropout(x, 0.5, training=False), {}),
    "slice": (lambda s, x: x[:, :, 1:6, ::3], {}),
    "slice from the end": (lambda s, x: x[:, -3:, -5:-1], {}),
    "slice from before the first": (lambda s, x: x[:, -100:, -9:4, 2:100], {}),
    "slice of a vector": (lambda s, x: s.plain(x[:, :, :1, :1])[:, -3:].flatten(1), {}),
    "padding": (lambda s, x: F.pad(x, (1, 2, 0, 3, 1, 2)), {}),
    "padding that crops": (lambda s, x: F.pad(x, (1, -2, -1, 0)), {}),
    "flatten of a range": (lambda s, x: pooled(x)[:, :, None, None].flatten(1, 3), {}),
    "squeeze": (lambda s, x: x.mean((2, 3), keepdim=True).squeeze((2, 3)), {}),
    "float": (lambda s, x: x.float() + 1, {}),
    "permuted by nothing": (lambda s, x: x.permute(0, 1, 2, 3), {}),
    "one number a channel, added": (lambda s, x: x + s.p, {"p": some(SIDE, 1, 1)}),
    "one number a channel, multiplied": (lambda s, x: s.p * x, {"p": some(1, SIDE, 1, 1)}),
    "one number a feature": (lambda s, x: pooled(x) * s.p + s.p, {"p": some(SIDE)}),
    "weight times a number": (lambda s, x: F.conv2d(x, s.p * 0.5, s.q, padding=1), {"p": some(SIDE, SIDE, 3, 3), "q": some(SIDE)}),
    "weight through a number": (lambda s, x: F.linear(pooled(x), -s.p / 3), {"p": some(5, SIDE)}),
    "weight seen in another order of axes": (lambda s, x: pooled(x) @ s.p.T, {"p": some(5, SIDE)}),
    "addmm, alpha": (lambda s, x: torch.addmm(s.q, pooled(x), s.p.T, alpha=0.5), {"p": some(5, SIDE), "q": some(5)}),
    "convolution, everything": (
        lambda s, x: F.conv2d(x, s.p, s.q, (2, 1), (1, 2), (1, 2), 2), {"p": some(6, SIDE // 2, 3, 3), "q": some(6)}),
    "convolution, same": (lambda s, x: F.conv2d(x, s.p, padding="same"), {"p": some(6, SIDE, 3, 5)}),
    "in place": (lambda s, x: x.sub_(0.5).mul_(2).relu_().tanh_().sigmoid_(), {}),
    "rounding": (lambda s, x: torch.round(x * 5), {}),
    "others": (lambda s, x: (x.abs() + 0.1).sqrt() - (-x).exp(), {}),
}  # fmt: skip
UNLISTED = {  # what the table lists not; here the line names the layer and says what is missing
    "average, divisor, rounded up": (lambda s, x: F.avg_pool2d(x, 3, 2, ceil_mode=True, divisor_override=3), {}, "divisor_override=3"),
    "product of activations": (lambda s, x: x @ x, {}, ""),
    "transposed convolution": (lambda s, x: F.conv_transpose2d(x, s.p), {"p": some(SIDE, SIDE, 2, 2)}, "transposed=True"),
    "dropout that always works": (lambda s, x: F.dropout(x), {}, "evaluation mode"),
    "norm by the batch": (lambda s, x: F.batch_norm(x, None, None, training=True), {}, "statistics of the batch"),
    "double": (lambda s, x: x.double().float(), {}, "another type"),
    "mean in double": (lambda s, x: x.mean((2, 3), dtype=torch.float64), {}, "dtype"),
    "mean of everything": (lambda s, x: x.mean(), {}, "mean"),
    "rounding to decimals": (lambda s, x: torch.round(x, decimals=2), {}, "round.decimals"),
    "clamp by a parameter": (lambda s, x: torch.clamp(x, min=s.p), {"p": some(SIDE, 1, 1)}, "clamp.Tensor"),
    "gelu": (lambda s, x: F.gelu(x), {}, "gelu"),
    "gelu by tanh": (lambda s, x: F.gelu(x, approximate="tanh"), {}, "gelu"),
    "softmax": (lambda s, x: x.softmax(1), {}, "softmax"),
    "reflected": (lambda s, x: F.pad(x, (1, 1, 1, 1), mode="reflect"), {}, ""),
    "repeated": (lambda s, x: F.pad(x, (1, 1, 1, 1), mode="replicate"), {}, ""),
    "adaptive maximum": (lambda s, x: F.adaptive_max_pool2d(x, 2), {}, "adaptive_max_pool2d"),
    "enlarged": (lambda s, x: F.interpolate(x, scale_factor=2), {}, "upsample"),
    "enlarged, smooth": (lambda s, x: F.interpolate(x, scale_factor=2, mode="bilinear"), {}, ""),
    "joined": (lambda s, x: torch.cat([x, x], 1), {}, "cat"),
    "squared": (lambda s, x: x**2, {}, "pow"),
    "divided down": (lambda s, x: torch.div(x, 3, rounding_mode="floor"), {}, "div.Tensor_mode"),
    "divided by itself": (lambda s, x: x / (x + 9), {}, "div"),
    "chosen": (lambda s, x: torch.where(x > 0, x, 0.0), {}, ""),
    "every second backwards": (lambda s, x: x.flip(2), {}, "flip"),
    "softplus": (lambda s, x: F.softplus(x, 2.0), {}, ""),
    "elu": (lambda s, x: F.elu(x, 0.5), {}, "elu"),
    "a table that is made in between": (lambda s, x: x + torch.ones(SIDE, 1, 1), {}, ""),
}  # fmt: skip
REFUSED = {  # what is listed and yet cannot be computed in this shape
    "along columns, added": (lambda s, x: x + s.p, {"p": some(SIDE)}, "one number a channel"),
    "along columns, multiplied": (lambda s, x: s.p * x, {"p": some(SIDE)}, "one number a channel"),
    "along rows": (lambda s, x: x + s.p, {"p": some(SIDE, 1)}, "one number a channel"),
    "along rows, four axes": (lambda s, x: x * s.p, {"p": some(1, 1, SIDE, 1)}, "one number a channel"),
    "one number for all": (lambda s, x: x * s.p, {"p": some(1).squeeze()}, "one number a channel"),
    "channels by channels": (lambda s, x: x.mean((2, 3), keepdim=True) + pooled(x), {}, "broadcast"),
    "bias times a number": (lambda s, x: F.conv2d(x, s.p, s.q * 2), {"p": some(SIDE, SIDE, 1, 1), "q": some(SIDE)}, "q as it is computed"),
    "weight times a parameter": (lambda s, x: F.conv2d(x, s.p * s.q), {"p": some(SIDE, SIDE, 1, 1), "q": some(SIDE, 1, 1, 1)}, "as it is computed"),
    "weight plus a number": (lambda s, x: F.conv2d(x, s.p + 1), {"p": some(SIDE, SIDE, 1, 1)}, "p as it is computed"),
    "part of a weight": (lambda s, x: F.conv2d(x, s.p[:4]), {"p": some(SIDE, SIDE, 1, 1)}, "p as it is computed"),
    "weight of another shape": (lambda s, x: F.conv2d(x, s.p.view(SIDE, SIDE, 1, 1)), {"p": some(SIDE, SIDE)}, "stored as"),
    "weight that is not transposed": (lambda s, x: pooled(x) @ s.p, {"p": some(SIDE, SIDE)}, "product"),
    "weight permuted by nothing": (lambda s, x: pooled(x) @ s.p.permute(0, 1), {"p": some(SIDE, SIDE)}, "product"),
    "weight transposed and reshaped": (lambda s, x: pooled(x) @ s.p.T.reshape(SIDE, 4), {"p": some(SIDE, 4)}, "transposed"),
    "norm without factors": (lambda s, x: F.batch_norm(x, s.p, s.p), {"p": some(SIDE).abs()}, "constant of shape"),
    "mean over channels": (lambda s, x: x.mean(1), {}, "mean over axes"),
    "mean over a vector": (lambda s, x: pooled(x).mean(1, keepdim=True), {}, "mean over axes"),
    "padded by ones": (lambda s, x: F.pad(x, (1, 1), value=1.0), {}, "constant_pad_nd with value=1.0"),
    "adaptive, uneven": (lambda s, x: F.adaptive_avg_pool2d(x, 3), {}, "windows differ"),
    "axes in another order": (lambda s, x: x.transpose(2, 3), {}, "transpose"),
    "reshaped image": (lambda s, x: x.reshape(1, 4, 16, 8), {}, "reshape"),
    "flatten of rows": (lambda s, x: x.flatten(1, 2), {}, "no kernel for|activations are"),
    "channels with steps": (lambda s, x: x[:, ::2], {}, "slice with steps"),
}  # fmt: skip
UNREAD = {  # options that change no value
    ("aten._native_batch_norm_legit_no_training.default", "momentum"), ("aten.clone.default", "memory_format"),
    ("aten.alias.default", "self"), ("aten.detach.default", "self"),  # which torch.export leaves in or not
    *(("aten._assert_tensor_metadata.default", name) for name in ("size", "stride", "dtype", "device", "layout")),
}  # fmt: skip


@pytest.fixture(scope="module")
def host():
    return resolve("host")


class Sum(nn.Module):
    """Many operations, each on a convolution of its own, in one network: what is wrong in one is wrong in the sum."""

    def __init__(self, operations: dict) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(operation, **values) for operation, values in operations.values())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = [layer(images) for layer in self.layers]
        found = [value.mean((2, 3)) if value.ndim == 4 else value for value in found]
        total = found[0]
        for value in found[1:]:
            total = total * 0.9 + value
        return total


def by_width() -> list[list[str]]:
    """The names of COMPILED, twelve at most that give equally many features together."""
    groups: dict[int, list[str]] = {}
    for name, (operation, values) in COMPILED.items():
        groups.setdefault(settled(Layer(operation, **values))(torch.zeros(1, 3, SIDE, SIDE)).shape[1], []).append(name)
    return [names[at : at + 12] for names in groups.values() for at in range(0, len(names), 12)]


@pytest.mark.parametrize("names", by_width(), ids=lambda names: names[0])
def test_compiled_operators_give_what_torch_gives(names, host, tmp_path):
    net = settled(Sum({name: COMPILED[name] for name in names}))
    image = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = net(image).numpy().ravel()
    found = Compiled(net, tuple(image.shape[1:]), host, tmp_path)(image)
    assert abs(wanted).max() > 0
    assert abs(found - wanted).max() < BOUND * abs(wanted).max()


class Row(nn.Module):
    def __init__(self, layers: dict[str, nn.Module]) -> None:
        super().__init__()
        self.row = nn.ModuleDict(layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return sum(layer(images).float().sum() for layer in self.row.values())


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch.export's own use of its deprecated pytree names
def test_operators_and_options_without_a_kernel_are_refused_by_the_layers_name():
    net = settled(Row({f"my {name}": Layer(operation, **values) for name, (operation, values, _) in UNLISTED.items()}))
    program = torch.export.export(net, (torch.zeros(1, 3, SIDE, SIDE),)).run_decompositions(rewritings())
    said = unsupported(program)
    for name, (_, _, words) in UNLISTED.items():
        lines = [line for line in said if line.startswith(f"row.my {name}: no kernel for ")]
        assert any(words in line for line in lines), (name, lines)
    assert not any("\n" in line for line in said)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_compiled_is_refused_by_the_layers_name(name, host, tmp_path):
    operation, values, words = REFUSED[name]
    with pytest.raises(TargetError, match=words) as caught:
        Compiled(settled(Wrapped(Layer(operation, **values))), (3, SIDE, SIDE), host, tmp_path)
    assert str(caught.value).startswith("mine: ")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_every_option_in_the_table_is_compared_with_torch():
    """An option counts as compared where an operation above gives it a value that is not its default."""
    seen = set()
    for names in by_width():
        net = settled(Sum({name: COMPILED[name] for name in names}))
        program = torch.export.export(net, (torch.zeros(1, 3, SIDE, SIDE),)).run_decompositions(rewritings())
        for node in program.graph.nodes:
            if node.op == "call_function" and str(node.target) in OPERATORS:
                defaults = {argument.name: argument.default_value for argument in node.target._schema.arguments}
                given = arguments(node).items()
                seen |= {(str(node.target), option) for option, value in given if value != defaults[option]}
    table = {(name, option) for name, options in OPERATORS.items() for option in options.reads}
    assert table - seen <= UNREAD
    assert set(OPERATORS) <= {name for name, _ in seen | UNREAD}
