"""Every encoder that a state dict could belong to, compared with it tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ...core.errors import CheckpointError, InputError, lookup
from ...core.inputs import ImageInput, Input
from ...core.model import Arch
from ...core.plugins import import_name
from ..build import build_encoder
from ..encoders import ENCODERS
from . import IMPORTERS
from .candidate import Candidate
from .head import Head, Module, find_head, is_auxiliary, modules_of
from .match import COUNTER, Match, Tensors, by_name, differences, in_order
from .names import prefixes
from .preprocessing import Preprocessing

OUTSIDE = "module:function"
CHANNELS = 16  # of an image, at most
BUILT = 6  # candidates that are compared tensor by tensor
Built = dict[str, tuple[dict[str, Tensor], int]]


@dataclass(frozen=True)
class Asked:
    """What the user said about a checkpoint."""

    format: str = "auto"
    encoder: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    input: Input | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    head: str | None = None
    activation: str | None = None
    trust_code: bool = False


def readings(tensors: Tensors, asked: Asked) -> list[Match]:
    """Return the encoders whose names are nearest, or the one from outside, with what speaks against each.

    Raises:
        CheckpointError: an unknown format, or a ``head`` that the file does not have where the encoder fits.
    """
    places = []
    for prefix in prefixes(list(tensors)):
        inner = {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
        for name, candidate in _candidates(inner, asked):
            if asked.encoder in (None, candidate.encoder):
                places.append((_likeness(candidate, inner, asked), name, candidate, prefix, inner))
    places.sort(key=lambda place: -place[0])
    built: Built = {}
    return [
        _match(name, candidate, tensors, prefix, inner, asked, built)
        for _, name, candidate, prefix, inner in places[:BUILT]
    ]


def _likeness(candidate: Candidate, inner: Tensors, asked: Asked) -> float:
    """Return the share of the encoder's names that the file has, 1 where names do not count."""
    if candidate.by_order or asked.encoder is not None:
        return 1.0
    names = published_shapes(candidate.encoder)
    return sum(name in inner for name in names) / len(names) * (1 - 1e-4 * max(0, len(inner) - len(names)))


@cache
def published_shapes(encoder: str) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of one of our encoders with its usual options, without counters; empty for other inputs."""
    spec = ENCODERS[encoder]
    if spec.input is None:
        return {}
    with torch.device("meta"):
        made, _ = build_encoder(Arch(encoder, 1, spec.input))
    return {name: tuple(value.shape) for name, value in made.state_dict().items() if not name.endswith(COUNTER)}


def _candidates(inner: Tensors, asked: Asked) -> Iterator[tuple[str, Candidate]]:
    if asked.encoder is not None and ":" in asked.encoder:
        import_name(asked.encoder, "encoder", trust_code=asked.trust_code)  # says first what is wrong with the name
        yield OUTSIDE, Candidate(asked.encoder, asked.options)
        return
    if asked.encoder is not None:
        lookup(ENCODERS, asked.encoder, "encoder")
    named = {} if asked.format == "auto" else {asked.format: lookup(IMPORTERS, asked.format, "format", CheckpointError)}
    shapes = {name: tuple(value.shape) for name, value in inner.items()}
    for name, importer in (named or IMPORTERS).items():
        for candidate in importer(shapes):
            yield name, replace(candidate, options={**candidate.options, **asked.options})


def _match(
    name: str, candidate: Candidate, tensors: Tensors, prefix: str, inner: Tensors, asked: Asked, built: Built
) -> Match:
    arch, assumed = _arch(candidate, inner, asked)
    try:
        expected, width, refused = _usual(arch, asked.trust_code, built)
    except InputError as fault:
        if arch.encoder not in ENCODERS:
            raise
        return Match(name, candidate, arch, 1, {}, tuple(tensors), 1, (str(fault),))
    shapes = {key: tuple(value.shape) for key, value in expected.items()}
    pairs = by_name(shapes, tensors, prefix)
    problems, agreeing = differences(expected, tensors, pairs)
    if problems and (candidate.by_order or asked.encoder is not None):
        pairs = in_order(shapes, tensors) or pairs
        problems, agreeing = differences(expected, tensors, pairs)
    taken = set(pairs.values())
    rest = {key: tensors[key] for key in tensors if key not in taken and not _is_copy(key, tensors, pairs)}
    key = asked.head if not problems else None  # where the encoder is another one, that is what to say
    head, auxiliary, unknown = _rest(rest, width, key, asked.activation)
    of = sum(not key.endswith(COUNTER) for key in expected)
    found = Match(name, candidate, arch, width, pairs, tuple(rest), of, (*refused, *problems, *unknown))
    return replace(found, head=head, auxiliary=auxiliary, assumed=tuple(assumed), agreeing=agreeing)


def _usual(arch: Arch, trust_code: bool, built: Built) -> tuple[dict[str, Tensor], int, list[str]]:
    """Return the encoder's tensors and width, for its usual input if it refuses the one given, which is then a problem."""
    try:
        return *expected_of(arch, trust_code, built), []
    except InputError as fault:
        spec = ENCODERS.get(arch.encoder)
        if spec is None or spec.input is None or spec.input == arch.input:
            raise
        return *expected_of(replace(arch, input=spec.input), trust_code, built), [str(fault)]


def _rest(
    rest: Tensors, width: int, key: str | None, activation: str | None
) -> tuple[Head | None, tuple[Module, ...], list[str]]:
    """Return the head among the tensors beside the encoder, classifiers that only training used, and what is neither."""
    modules = modules_of(rest)
    head = find_head(modules, width, key, activation)
    beside = [module for module in modules if head is None or module not in head.modules]
    auxiliary = tuple(module for module in beside if head is not None and is_auxiliary(module, head, width))
    problems = []
    for module in beside:
        start = f"{module.path}." if module.path else ""
        if module not in auxiliary:
            problems += [f"{start}{leaf} {tuple(value.shape)} is unknown" for leaf, value in module.tensors.items()]
    for module in head.modules if head else ():
        if not all(map(_is_usable, module.tensors.values())):
            problems.append(f"{module.path} holds values that are not finite real numbers")
    return head, auxiliary, problems


def _is_copy(name: str, tensors: Tensors, pairs: Mapping[str, str]) -> bool:
    """Return whether a tensor is saved a second time under another name: same memory as one of the encoder."""
    value = tensors[name]
    if not value.numel():
        return False
    twins = (tensors[other] for other in pairs.values() if other.rpartition(".")[2] == name.rpartition(".")[2])
    return any(value.data_ptr() == other.data_ptr() and value.shape == other.shape for other in twins)


def _is_usable(value: Tensor) -> bool:
    if value.is_complex() or value.is_quantized:
        return False
    return bool(torch.isfinite(value).all())


def _arch(candidate: Candidate, inner: Tensors, asked: Asked) -> tuple[Arch, list[str]]:
    spec = ENCODERS.get(candidate.encoder)
    first = next((value for key, value in inner.items() if key.endswith("weight") and value.ndim in (2, 4)), None)
    channels = first.shape[1] if first is not None and first.ndim == 4 and first.shape[1] <= CHANNELS else None
    features = first.shape[1] if first is not None and first.ndim == 2 else None
    assumed: list[str] = []
    if asked.input is not None:
        given = asked.input
    else:
        published = None if spec is None else spec.input
        given, assumed = asked.preprocessing.input(published, channels or None, features)
        if isinstance(published, ImageInput) and features and isinstance(given, ImageInput):
            given, assumed = asked.preprocessing.input(published, published.shape[0], None)
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in candidate.options.items()}
    return Arch(candidate.encoder, 1, given, plain), assumed


def expected_of(arch: Arch, trust_code: bool, built: Built) -> tuple[dict[str, Tensor], int]:
    """Return the tensors of the encoder on the meta device and its number of features.

    Raises:
        InputError: options or an input it cannot take.
    """
    key = repr((arch.encoder, arch.input, dict(arch.options)))
    if key not in built:
        try:
            with torch.device("meta"):
                encoder, width = build_encoder(arch, trust_code=trust_code)
        except (RuntimeError, OverflowError) as fault:
            raise InputError(str(fault).partition("\n")[0]) from fault
        built[key] = encoder.state_dict(), width
    return built[key]
