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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, width = build_encoder(arch, trust_code=trust_code)
        return HashNet(encoder, heads.build(width, arch.bits, arch.head), guarded=":" in arch.encoder)


def build_encoder(arch: Arch, *, trust_code: bool = False) -> tuple[nn.Module, int]:
    """Return the encoder of ``arch`` and its number of features; values from torch's generator, errors as :func:`build`."""
    if ":" not in arch.encoder:
        known: Any = _known(arch)(arch.input.shape, **arch.input.encoder_options, **arch.options)
        return known, known.width
    maker = import_name(arch.encoder, "encoder", trust_code=trust_code)
    encoder = _made(maker, arch)
    try:
        return encoder, _width(encoder, arch)
    except RuntimeError:  # it looks at its own values, and there are none on the meta device
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            try:
                return encoder, _width(_made(maker, arch), arch)
            except RuntimeError as fault:
                raise _failed(arch, fault) from fault


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


def _made(maker: Callable[..., nn.Module], arch: Arch) -> nn.Module:
    """Return what code from outside makes, which may fail in any way."""
    try:
        encoder = maker(arch.input.shape, **arch.input.encoder_options, **arch.options)
    except InputError:
        raise
    except Exception as fault:
        raise InputError(
            f"encoder {arch.encoder!r} cannot be made by calling it with the input's shape {arch.input.shape} "
            f"{f'and {dict(arch.options)} ' if arch.options else ''}({_first_line(fault)}); "
            "write a function (shape, **options) that returns the network"
        ) from fault
    if not isinstance(encoder, nn.Module):
        raise InputError(f"encoder {arch.encoder!r} must return a torch.nn.Module, gave a {type(encoder).__name__}")
    return encoder


def _width(encoder: nn.Module, arch: Arch) -> int:
    """Return the number of features that one input of zeros gives; an attribute ``width`` may mean anything."""
    try:
        with torch.no_grad():
            features = encoder.eval()(arch.input.example())
    except RuntimeError:
        raise
    except Exception as fault:
        raise _failed(arch, fault) from fault
    shape = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[1] < 1:
        raise InputError(f"encoder {arch.encoder!r} must give features (N, D), gave a shape of {shape}")
    return shape[1]


def _failed(arch: Arch, fault: Exception) -> InputError:
    return InputError(f"encoder {arch.encoder!r} fails on an input of shape {arch.input.shape}: {_first_line(fault)}")


def _first_line(fault: Exception) -> str:
    return f"{type(fault).__name__}: {fault}".partition("\n")[0][:200]
