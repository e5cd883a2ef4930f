"""The devices that networks are trained and evaluated on."""

from __future__ import annotations

import os

import torch

from .errors import InputError

DEVICES = {"cpu": "the processor", "cuda": "a GPU of Nvidia; under torchrun one for each process"}


def open_device(name: str) -> torch.device:
    """Return the device called ``name``, ``cpu`` or ``cuda``.

    Raises:
        InputError: an unknown name, or no such device here.
    """
    kind, _, number = name.partition(":")
    if kind not in DEVICES or (number and not number.isdecimal()):
        raise InputError(f"unknown device {name!r} (there are: {', '.join(DEVICES)}, cuda:N)")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        number = number or os.environ.get("LOCAL_RANK", "0")
        if int(number) >= count:
            raise InputError(f"device cuda:{number} was asked for, and torch {torch.__version__} finds {count} GPUs")
        return torch.device("cuda", int(number))
    return torch.device("cpu")
