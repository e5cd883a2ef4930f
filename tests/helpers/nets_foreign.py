"""Networks as users write them, with what no pass may stumble over; images are (1, 8, 8), features 48 or 64 wide."""

import warnings

import torch
from nets_followed import FOLLOWED
from torch import nn
from torch.nn import functional


class Unused(nn.Module):
    """Auxiliary layers that never run; one that is read as weights alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.aux = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(300, 40)
        self.other, self.direct = nn.Conv2d(8, 16, 3), nn.Linear(512, 48)

    def forward(self, x):
        x = functional.relu(self.conv(x)).flatten(1)
        return functional.relu(functional.linear(x, self.direct.weight, self.direct.bias))


class Rows(nn.Module):
    """Dense layers on several rows an image; a batch norm that looks at the rows, not at the layer's outputs."""

    def __init__(self, width: int, *, norm: bool = False) -> None:
        super().__init__()
        self.embed, self.mix = nn.Linear(8, width), nn.Linear(width, width)
        self.norm, self.out = nn.BatchNorm1d(8) if norm else nn.Identity(), nn.Linear(8 * width, 64)

    def forward(self, x):
        x = functional.relu(self.norm(self.embed(x[:, 0])))
        return functional.relu(self.out(functional.relu(self.mix(x)).flatten(1)))


class Attending(nn.Module):
    """Attention, whose last layer is called by nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.heads = nn.Linear(8, 16), nn.MultiheadAttention(16, 2, batch_first=True)
        self.norm, self.out = nn.LayerNorm(16), nn.Linear(128, 64)

    def forward(self, x):
        x = self.embed(x[:, 0])
        x = self.norm(x + self.heads(x, x, x, need_weights=False)[0])
        return functional.relu(self.out(x.flatten(1)))


class Twice(nn.Module):
    """A convolution that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.out = nn.Linear(512, 64)

    def forward(self, x):
        x = functional.relu(self.again(functional.relu(self.again(functional.relu(self.first(x))))))
        return functional.relu(self.out(x.flatten(1)))


class Halves(nn.Module):
    """Channels that are split in two."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(8, 16, 3), nn.Linear(16, 48)

    def forward(self, x):
        one, other = functional.relu(self.first(x)).chunk(2, 1)
        return functional.relu(self.out(functional.relu(self.second(one * other)).mean((2, 3))))


class Standardised(nn.Conv2d):
    """A convolution whose weight is standardised at every call."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return functional.conv2d(x, weight / weight.std((1, 2, 3), keepdim=True), self.bias, 1, self.padding)


class Squeezed(nn.Module):
    """Channels weighted by what they hold; few of the inputs are independent."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.narrow, self.wide = nn.Conv2d(1, 16, 3, padding=1), nn.Linear(16, 8), nn.Linear(8, 16)
        self.out = nn.Linear(16, 48)

    def forward(self, x):
        x = functional.relu(self.conv(x))
        gate = torch.sigmoid(self.wide(functional.relu(self.narrow(x.mean((2, 3))))))
        return functional.relu(self.out((x * gate[:, :, None, None]).mean((2, 3))))


class Untraceable(nn.Module):
    """A way that depends on the size of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(128, 48)

    def forward(self, x):
        x = functional.relu(self.first(x))
        if x.shape[2] > 4:
            x = functional.relu(self.second(x))
        return functional.relu(self.out(x.flatten(1)))


class Alias(nn.Module):
    """A convolution of two names, called by both; two of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.alias, self.tied = self.again, nn.Conv2d(8, 8, 3, padding=1)
        self.source, self.out = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(512, 64)
        self.tied.weight = self.source.weight

    def forward(self, x):
        for layer in (self.first, self.again, self.alias, self.tied, self.source):
            x = functional.relu(layer(x))
        return functional.relu(self.out(x.flatten(1)))


class Normed(nn.Module):
    """A batch norm behind ``conv``, whose weight may be used by ``tied`` too, whose bias by ``lent``, or whose both by ``read``."""

    def __init__(self, conv: nn.Module, *, tied: bool = False, lent: bool = False, read: bool = False) -> None:
        super().__init__()
        self.first, self.conv, self.norm = nn.Conv2d(1, 8, 3, padding=1), conv, nn.BatchNorm2d(8)
        self.last, self.out, self.read = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(512, 64), read
        if tied:
            self.last.weight = conv.weight
        if lent:
            self.last.bias = conv.bias

    def forward(self, x):
        x = functional.relu(self.norm(self.conv(functional.relu(self.first(x)))))
        if self.read:
            x = functional.relu(functional.conv2d(x, self.conv.weight, self.conv.bias, padding=1))
        return functional.relu(self.out(functional.relu(self.last(x)).flatten(1)))


class Shut(nn.Module):
    """Channels times a gate that is shut, until its layer changes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.out = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 1), nn.Linear(288, 48)

    def forward(self, x):
        x = self.conv(x)
        return functional.relu(self.out((x * functional.relu(self.gate(x) - 1e4)).flatten(1)))


def _hooked() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is out of date, and in many networks
        return nn.utils.weight_norm(nn.Conv2d(8, 8, 3, padding=1))


def _conv() -> nn.Conv2d:
    return nn.Conv2d(8, 8, 3, padding=1)


class Gated(nn.Module):
    """Convolutions that see one value an image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.narrow, self.wide = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 8, 1), nn.Conv2d(8, 16, 1)
        self.out = nn.Linear(16, 48)

    def forward(self, x):
        x = functional.relu(self.conv(x))
        gate = torch.sigmoid(self.wide(functional.relu(self.narrow(x.mean((2, 3), keepdim=True)))))
        return functional.relu(self.out((x * gate).mean((2, 3))))


class Looking(nn.Module):
    """Its images are scaled by a number that it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Conv2d(1, 8, 3), nn.Linear(288, 48)

    def forward(self, x):
        scale = x.abs().max().item() or 1.0
        return functional.relu(self.out(functional.relu(self.first(x / scale)).flatten(1)))


class Kinds(nn.Module):
    """Layers of kinds that channels are not followed through."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.bent = nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.PReLU(8)
        self.up, self.rows, self.out = (
            nn.ConvTranspose2d(8, 4, 2, 2),
            nn.GRU(64, 12, batch_first=True),
            nn.Linear(192, 64),
        )

    def forward(self, x):
        x = functional.relu(self.up(self.bent(self.norm(self.conv(x)))))
        return functional.relu(self.out(self.rows(x.flatten(2).transpose(1, 2).reshape(-1, 16, 64))[0].flatten(1)))


class TiedHalf(nn.Module):
    """Two convolutions of one weight; the inputs of the one can go, those of the other cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.free, self.bound = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(1, 16, 3, padding=1)
        self.one, self.other = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.other.weight, self.out = self.one.weight, nn.Linear(8, 48)

    def forward(self, x):
        half, _ = functional.relu(self.bound(x)).chunk(2, 1)
        one, other = functional.relu(self.one(functional.relu(self.free(x)))), functional.relu(self.other(half))
        return functional.relu(self.out(torch.cat([one.chunk(2, 1)[0], other.chunk(2, 1)[0]], 1).mean((2, 3))))


class Cast(nn.Module):
    """A network in another type than its images."""

    def __init__(self, kind: torch.dtype) -> None:
        super().__init__()
        layers = (nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 48))
        self.kind, self.net = kind, nn.Sequential(*layers).to(kind)

    def forward(self, x):
        return functional.relu(self.net(x.to(self.kind)).float())


def _stack(conv: nn.Module) -> nn.Module:
    return nn.Sequential(conv, nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 48), nn.ReLU())


NETS = {
    "unused": Unused,
    "rows": lambda: Rows(8),
    "wide_rows": lambda: Rows(32),
    "normed_rows": lambda: Rows(8, norm=True),
    "attending": Attending,
    "twice": Twice,
    "halves": Halves,
    "squeezed": Squeezed,
    "untraceable": Untraceable,
    "alias": Alias,
    "gated": Gated,
    "kinds": Kinds,
    "tied_half": TiedHalf,
    "double": lambda: Cast(torch.float64),
    "normed": lambda: Normed(_conv()),
    "normed_tied": lambda: Normed(_conv(), tied=True),
    "normed_lent": lambda: Normed(_conv(), lent=True),
    "normed_read": lambda: Normed(_conv(), read=True),
    "normed_hooked": lambda: Normed(_hooked()),
    "normed_parametrized": lambda: Normed(nn.utils.parametrizations.weight_norm(_conv())),
    "looking": Looking,
    "reflected": lambda: _stack(nn.Conv2d(1, 8, 3, padding=1, padding_mode="reflect")),
    "parametrized": lambda: _stack(nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 8, 3, padding=1))),
    "standardised": lambda: _stack(Standardised(1, 8, 3, padding=1)),
}

OTHERS = {
    "half": lambda: Cast(torch.float16),
    "shut": Shut,
    "brain": lambda: Cast(torch.bfloat16),
    "normed_dense": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 100), nn.BatchNorm1d(100), nn.ReLU()),
}


def __getattr__(name):  # an encoder is named module:function
    made = NETS | FOLLOWED | OTHERS
    if name not in made:
        raise AttributeError(name)
    return lambda _shape: made[name]()
