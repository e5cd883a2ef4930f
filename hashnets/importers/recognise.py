"""Import a checkpoint: the encoder and its widths are recognised by keys and shapes, the classifier becomes a new hash head.

The preprocessing is the one the encoder was published with, unless an input is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from ...core.errors import CheckpointError, InputError, lookup
from ...core.files import sha256_file
from ...core.inputs import Input
from ...core.model import Arch, HashModel, Step
from ..build import build, default_arch
from ..encoders import ENCODERS
from . import IMPORTERS
from .read import Tensors, read_tensors
from .unpickle import convert


def import_checkpoint(
    path: Path | str,
    *,
    format: str = "auto",  # noqa: A002  # the option's name
    encoder: str | None = None,
    bits: int = 48,
    seed: int = 0,
    input: Input | None = None,  # noqa: A002  # the field's name in Arch
    unpickle: bool = False,
) -> HashModel:
    """Return the network in ``path`` with an untrained head of ``bits``, drawn from ``seed``.

    ``unpickle`` first converts a pickle by running what is in it, in a process of its own.

    Raises:
        CheckpointError: the file is damaged, holds code, or fits no encoder.
    """
    path = Path(path)
    tensors = _converted(path) if unpickle else read_tensors(path)
    tensors, aliases = without_aliases(tensors)
    readings = list(_readings(tensors, format, encoder, bits, input))
    if not readings:
        raise CheckpointError(f"format {format!r} knows no encoder {encoder!r}")
    best = min(readings, key=lambda reading: len(reading.problems))
    if best.problems:
        raise CheckpointError(
            f"{path} fits no encoder; nearest is {best.arch.encoder} with {len(best.problems)} "
            f"mismatch{'es' if len(best.problems) > 1 else ''}, the first: {best.problems[0]}"
        )
    net = build(best.arch, seed=seed)
    net.encoder.load_state_dict(_completed(net.encoder, best.tensors))
    settings = {
        "source": path.name,
        "sha256": sha256_file(path),
        "format": best.format,
        "replaced": sorted(set(tensors) - set(best.tensors)),
        "aliases": aliases,
        "unpickled": unpickle,
    }
    return HashModel(net.eval(), best.arch, history=(Step("import", settings, seed),))


def without_aliases(tensors: Tensors) -> tuple[Tensors, list[str]]:
    """Drop tensors saved twice, as ``feature_layers.*`` beside the layers themselves; return the rest and their names.

    Raises:
        CheckpointError: an alias differs from every layer.
    """
    aliases = [name for name in tensors if name.startswith("feature_layers.")]
    rest = {name: value for name, value in tensors.items() if name not in aliases}
    for alias in aliases if rest else ():
        field = alias.rpartition(".")[2]
        same = (value for name, value in rest.items() if name.rpartition(".")[2] == field)
        if not any(torch.equal(tensors[alias], value) for value in same):
            raise CheckpointError(f"{alias} looks like a second name of a layer but differs from all of them")
    return (rest, aliases) if rest else (tensors, [])


@dataclass(frozen=True)
class _Reading:
    format: str
    arch: Arch
    tensors: Tensors
    problems: list[str]


def _readings(tensors: Tensors, wanted: str, encoder: str | None, bits: int, spec: Input | None) -> Iterator[_Reading]:
    """Yield every encoder that the formats propose, with what speaks against it."""
    formats = IMPORTERS if wanted == "auto" else {wanted: lookup(IMPORTERS, wanted, "format", CheckpointError)}
    if encoder is not None:
        lookup(ENCODERS, encoder, "encoder")
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    for name, importer in formats.items():
        for candidate in importer(shapes):
            if encoder in (None, candidate.encoder):
                cut = tuple(f"{layer}." for layer in candidate.classifier)
                kept = {key: value for key, value in tensors.items() if not key.startswith(cut)}
                arch = default_arch(candidate.encoder, bits, spec, **candidate.options)
                yield _Reading(name, arch, kept, _problems(arch, kept))


def _problems(arch: Arch, tensors: Tensors) -> list[str]:
    """Return every difference between the encoder of ``arch`` and ``tensors``, in the encoder's order."""
    try:
        with torch.device("meta"):
            expected = build(arch).encoder.state_dict()
    except (InputError, RuntimeError, OverflowError) as fault:
        usual = replace(arch, input=ENCODERS[arch.encoder].input or arch.input)
        others = [f"{name} is unknown" for name in tensors] if usual == arch else _problems(usual, tensors)
        return [str(fault), *others]
    problems = []
    for name, value in expected.items():
        if name in tensors:
            found = tensors[name]
            if found.shape != value.shape:
                problems.append(f"{name} is {tuple(found.shape)}, should be {tuple(value.shape)}")
            elif found.is_floating_point() != value.is_floating_point():
                problems.append(f"{name} is {found.dtype}, should be {value.dtype}")
            elif not bool(torch.isfinite(found).all()):
                problems.append(f"{name} holds values that are not finite")
        elif not name.endswith("num_batches_tracked"):
            problems.append(f"{name} {tuple(value.shape)} is missing")
    return problems + [f"{name} {tuple(tensors[name].shape)} is unknown" for name in tensors if name not in expected]


def _completed(encoder: nn.Module, tensors: Tensors) -> Tensors:
    """Return ``tensors`` as float32, with counters that old versions of torch did not save."""
    own = encoder.state_dict()
    return {name: tensors[name].to(value.dtype) if name in tensors else value for name, value in own.items()}


def _converted(path: Path) -> Tensors:
    with TemporaryDirectory() as folder:
        return read_tensors(convert(path, Path(folder) / "converted.safetensors"))
