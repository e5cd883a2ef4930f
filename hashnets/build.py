"""From an architecture's description to the network, by name or from the user's own code."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..core.errors import InputError, lookup
from ..core.inputs import Input
from ..core.model import Arch, HashModel
from ..core.plugins import import_name
from . import heads
from .encoders import ENCODERS
from .net import HashNet


def build(arch: Arch, *, seed: int = 0, trust_code: bool = False) -> HashNet:
    """Return the network of ``arch`` with initial values drawn from ``seed``; empty under ``torch.device("meta")``.

    An encoder called ``module:function`` is imported and called as ``function(shape, **options)``, for texts as
    ``function(shape, vocabulary=N, **options)``; that imports code and needs ``trust_code``.

    Raises:
        InputError: an unknown encoder or option, an input it cannot take, code that is not trusted.
    """
    maker = import_name(arch.encoder, "encoder", trust_code=trust_code) if ":" in arch.encoder else _known(arch)
    options = {**arch.input.encoder_options, **arch.options}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = maker(arch.input.shape, **options)
        try:
            width = _width(encoder, arch)
        except RuntimeError:  # it looks at its own values, and there are none on the meta device
            with torch.device("cpu"), torch.random.fork_rng(devices=[]):
                width = _width(maker(arch.input.shape, **options), arch)
        return HashNet(encoder, heads.linear(width, arch.bits), guarded=":" in arch.encoder)


def untrained(arch: Arch, *, seed: int = 0, trust_code: bool = False) -> HashModel:
    """Return a model of ``arch`` with initial values drawn from ``seed``; errors as :func:`build`."""
    return HashModel(build(arch, seed=seed, trust_code=trust_code).eval(), arch)


def default_arch(encoder: str, bits: int, input: Input | None = None, **options: Any) -> Arch:  # noqa: A002  # the field's name in Arch
    """Return the description of ``encoder`` with the input it was published with unless another is given."""
    if input is None:
        if ":" in encoder:
            raise InputError(f"encoder {encoder!r} is not one of ours: say what its input looks like")
        input = lookup(ENCODERS, encoder, "encoder").input  # noqa: A001  # the field's name in Arch
        if input is None:
            raise InputError(f"encoder {encoder!r} takes any size of input: say what its input looks like")
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    return Arch(encoder, bits, input, plain)


def _known(arch: Arch) -> Callable[..., nn.Module]:
    spec = lookup(ENCODERS, arch.encoder, "encoder")
    if not isinstance(arch.input, spec.takes):
        others = [name for name, other in ENCODERS.items() if isinstance(arch.input, other.takes)]
        raise InputError(
            f"encoder {arch.encoder!r} does not take {arch.input.kind} inputs (those that do: {', '.join(others)})"
        )
    maker = spec.build
    own = {"shape", *arch.input.encoder_options}
    accepted = [name for name in inspect.signature(maker).parameters if name not in own]
    for name in arch.options:
        if name not in accepted:
            raise InputError(f"{arch.encoder} has no option {name!r} (there are: {', '.join(accepted)})")
    return maker


def _width(encoder: nn.Module, arch: Arch) -> int:
    """Return the number of features: the encoder's ``width`` or, of foreign code, what one input of zeros gives."""
    width = getattr(encoder, "width", None)
    if isinstance(width, int):
        return width
    with torch.no_grad():
        features = encoder.eval()(arch.input.example())
    if features.ndim != 2:
        raise InputError(f"encoder {arch.encoder!r} must give features (N, D), gave a shape of {tuple(features.shape)}")
    return features.shape[1]
