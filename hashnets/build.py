"""From an architecture's description to the network, by name or from the user's own code."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..core.errors import InputError, lookup
from ..core.imports import imported
from ..core.model import Arch, HashModel, InputSpec
from . import heads
from .encoders import ENCODERS
from .net import HashNet


def build(arch: Arch, *, seed: int = 0, trust_code: bool = False) -> HashNet:
    """Return the network of ``arch`` with initial values drawn from ``seed``; empty under ``torch.device("meta")``.

    An encoder called ``module:function`` is imported and called as ``function(shape, **options)``; that runs
    somebody's code and needs ``trust_code``.

    Raises:
        InputError: an unknown encoder or option, an input it cannot take, code that is not trusted.
    """
    maker = imported(arch.encoder, "encoder", trust_code=trust_code) if ":" in arch.encoder else _known(arch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = maker(arch.input.shape, **arch.options)
        try:
            width = _width(encoder, arch)
        except RuntimeError:  # it looks at its own values, and there are none on the meta device
            with torch.device("cpu"), torch.random.fork_rng(devices=[]):
                width = _width(maker(arch.input.shape, **arch.options), arch)
        return HashNet(encoder, heads.linear(width, arch.bits))


def untrained(arch: Arch, *, seed: int = 0, trust_code: bool = False) -> HashModel:
    """Return a model of ``arch`` with initial values drawn from ``seed``; errors as :func:`build`."""
    return HashModel(build(arch, seed=seed, trust_code=trust_code).eval(), arch)


def default_arch(encoder: str, bits: int, input: InputSpec | None = None, **options: Any) -> Arch:  # noqa: A002  # the field's name in Arch
    """Return the description of ``encoder`` with the input it was published with unless another is given."""
    if input is None:
        if ":" in encoder:
            raise InputError(f"encoder {encoder!r} is not one of ours: say what its input looks like")
        input = lookup(ENCODERS, encoder, "encoder").input  # noqa: A001  # the field's name in Arch
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    return Arch(encoder, bits, input, plain)


def _known(arch: Arch) -> Callable[..., nn.Module]:
    maker = lookup(ENCODERS, arch.encoder, "encoder").build
    accepted = [name for name in inspect.signature(maker).parameters if name != "shape"]
    for name in arch.options:
        if name not in accepted:
            raise InputError(f"{arch.encoder} has no option {name!r} (there are: {', '.join(accepted)})")
    return maker


def _width(encoder: nn.Module, arch: Arch) -> int:
    """Return the number of features: the encoder's ``width`` or, of foreign code, what one zero image gives."""
    width = getattr(encoder, "width", None)
    if isinstance(width, int):
        return width
    with torch.no_grad():
        features = encoder.eval()(torch.zeros(1, *arch.input.shape))
    if features.ndim != 2:
        raise InputError(f"encoder {arch.encoder!r} must give features (N, D), gave a shape of {tuple(features.shape)}")
    return features.shape[1]
