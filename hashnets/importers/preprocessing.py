"""The input of an imported network: what the user says, else what the encoder was published with; what is assumed is told."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...core.errors import CheckpointError, InputError
from ...core.inputs import ImageInput, Input, VectorInput
from ..encoders.spec import IMAGENET


@dataclass(frozen=True)
class Preprocessing:
    """Size (H, W) or (features,), mean and std as far as they are known."""

    size: tuple[int, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def input(self, published: Input | None, channels: int | None, features: int | None) -> tuple[Input, list[str]]:
        """Return the input of a network and what was assumed.

        Raises:
            CheckpointError: nothing says how large the input is, or another number of means than channels.
        """
        if len(self.size) == 1 or (not self.size and published is None and channels is None and features):
            size = self.size[0] if self.size else features or 0
            return VectorInput(size, self.mean, self.std), [] if self.size else [f"vectors of {size} numbers"]
        base = published if isinstance(published, ImageInput) else None
        if not self.size and base is None:
            raise CheckpointError("how large are the images this network takes? say --input-size HEIGHTxWIDTH")
        height, width = self.size or (base.shape[1:] if base else ())
        if channels is None and features and features % (height * width) == 0:
            channels = features // (height * width)
        channels = channels or (base.shape[0] if base else 3)
        assumed = [] if self.size else [f"{height}x{width} pixels"]
        usual = base if base and base.shape[0] == channels else IMAGENET
        mean = self._values("mean", usual.mean, channels, assumed)
        std = self._values("std", usual.std, channels, assumed)
        return ImageInput((channels, height, width), mean, std), assumed

    def _values(self, name: str, usual: tuple[float, ...], channels: int, assumed: list[str]) -> tuple[float, ...]:
        given = getattr(self, name)
        if given:
            if len(given) not in (1, channels):
                raise CheckpointError(f"--{name} has {len(given)} numbers, the network takes {channels} channels")
            return given * channels if len(given) == 1 else given
        values = usual if len(usual) == channels else (round(sum(usual) / len(usual), 4),) * channels
        assumed.append(f"{name} {', '.join(map(str, values))}")
        return values


def parse_size(text: str) -> tuple[int, ...]:
    """Return (H, W) for ``224`` or ``224x256``, (features,) for ``vector:N``.

    Raises:
        InputError: another text.
    """
    found = re.fullmatch(r"(?:vector:(?P<n>\d{1,7})|(?P<h>\d{1,6})(?:x(?P<w>\d{1,6}))?)", text.strip().lower())
    size = (
        tuple(int(value) for value in ((found["n"],) if found["n"] else (found["h"], found["w"] or found["h"])))
        if found
        else ()
    )
    if not size or min(size) < 1:
        raise InputError(f"--input-size {text!r}: write 224, 224x256 (height x width) or vector:128")
    return size


def parse_numbers(name: str, text: str) -> tuple[float, ...]:
    """Return the numbers of ``0.5,0.5,0.5``.

    Raises:
        InputError: another text, or a deviation that is not positive.
    """
    try:
        values = tuple(float(value) for value in text.split(","))
    except ValueError:
        raise InputError(f"--{name} {text!r}: write one number, or one a channel: 0.485,0.456,0.406") from None
    if not all(-1e6 < value < 1e6 for value in values) or (name == "std" and min(values) <= 0):
        raise InputError(f"--{name} {text!r}: the numbers must be finite{', above 0' if name == 'std' else ''}")
    return values
