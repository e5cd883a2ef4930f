"""Networks that do something to channels, which passes must follow rightly or not at all; images are (1, 8, 8)."""

import warnings

import torch
from torch import nn
from torch.nn import functional


class Between(nn.Module):
    """A convolution, something, perhaps a convolution, and a dense layer."""

    def __init__(
        self, what, *, wide: int = 512, second: nn.Module | None = None, first: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.first, self.second = first or nn.Conv2d(1, 8, 3, padding=1), second or nn.Identity()
        self.what, self.out = what, nn.Linear(wide, 20)

    def forward(self, x):
        x = self.second(self.what(functional.relu(self.first(x))))
        return functional.relu(self.out(x.flatten(1)))


class Meeting(nn.Module):
    """Channels of a dense layer meet the columns of an image, of which there are as many."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.row, self.out = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(64, 8), nn.Linear(512, 20)

    def forward(self, x):
        return functional.relu(self.out((self.first(x) + self.row(x.flatten(1)[:1])).flatten(1)))


class Shortcut(nn.Module):
    """Channels of ones stand before and behind those that are there."""

    before = behind = 2

    def forward(self, x):
        return functional.pad(x, (0, 0, 0, 0, self.before, self.behind), value=1.0)


class Named(nn.Module):
    """Tensors one behind the other, named."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Conv2d(1, 8, 3), nn.Conv2d(1, 4, 3), nn.Linear(432, 20)

    def forward(self, x):
        return functional.relu(self.out(torch.cat(tensors=[self.first(x), self.second(x)], dim=1).flatten(1)))


def _old_norm() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(nn.Conv2d(1, 8, 3, padding=1))


FOLLOWED = {  # what happens to channels
    "mean_channels": lambda: Between(lambda x: x.mean(1), wide=64),
    "mean_batch": lambda: Between(lambda x: x - x.mean(0, keepdim=True)),
    "mean_pixels": lambda: Between(lambda x: x.mean(dim=(-1, 2)), wide=8),
    "mean_columns": lambda: Between(lambda x: torch.mean(x, 3), wide=64),
    "one_number": lambda: Between(lambda x: x * x.flatten(1).sum(1)[:, None, None, None]),
    "viewed": lambda: Between(lambda x: x.view(-1, 512)),
    "viewed_freely": lambda: Between(lambda x: x.view(x.size(0), -1)),
    "padded_ones": lambda: Between(lambda x: functional.pad(x, (1, 1, 1, 1), value=1.0), wide=800),
    "padded_zeros": lambda: Between(lambda x: functional.pad(x, (1, 1, 1, 1)), wide=800),
    "padded_mirror": lambda: Between(lambda x: functional.pad(x, (1, 1, 1, 1), mode="reflect"), wide=800),
    "padded_features": lambda: Between(lambda x: functional.pad(x.flatten(1), (2, -2))),
    "channels_of_ones": lambda: Between(Shortcut(), wide=768),
    "scaled_by_itself": lambda: Between(lambda x: x / (1 + x.abs().max().item())),
    "grouped": lambda: Between(lambda x: x, second=nn.Conv2d(8, 8, 3, padding=1, groups=4)),
    "multiplied": lambda: Between(lambda x: x, second=nn.Conv2d(8, 16, 3, padding=1, groups=8), wide=1024),
    "old_norm": lambda: Between(lambda x: x, first=_old_norm()),
    "meeting": Meeting,
    "named": Named,
}
