"""Networks as users write them, with what no pass may stumble over; images are (1, 8, 8), features 48 or 64 wide."""

import torch
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
    "looking": Looking,
    "reflected": lambda: _stack(nn.Conv2d(1, 8, 3, padding=1, padding_mode="reflect")),
    "parametrized": lambda: _stack(nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 8, 3, padding=1))),
    "standardised": lambda: _stack(Standardised(1, 8, 3, padding=1)),
}


def __getattr__(name):  # an encoder is named module:function
    if name not in NETS:
        raise AttributeError(name)
    return lambda _shape: NETS[name]()
