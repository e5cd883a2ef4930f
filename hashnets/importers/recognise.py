"""Import a checkpoint: encoder, widths and head are recognised by keys and shapes; a classifier becomes a new hash head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from ...core.errors import CheckpointError, lookup
from ...core.files import sha256_file
from ...core.inputs import ImageInput, Input
from ...core.model import HashModel, Json, Step
from .. import heads
from ..build import build
from ..encoders import ENCODERS
from .computed import with_computed_weights
from .head import is_hash
from .match import Match, Tensors, in_order
from .names import parse_map, renamed, with_children_named, without_aliases, without_wrappings
from .preprocessing import Preprocessing
from .read import CodeInPickleError, read_tensors
from .readings import OUTSIDE, Asked, published_shapes, readings
from .unpickle import convert

BITS = 48  # of a new head


def import_checkpoint(
    path: Path | str,
    *,
    format: str = "auto",  # noqa: A002  # the option's name
    encoder: str | None = None,
    bits: int | None = None,
    seed: int = 0,
    input: Input | None = None,  # noqa: A002  # the field's name in Arch
    unpickle: bool = False,
    head: str | None = None,
    classifier: bool = False,
    activation: str | None = None,
    map: Sequence[str] = (),  # noqa: A002  # the option's name
    options: Mapping[str, Any] | None = None,
    preprocessing: Preprocessing | None = None,
    trust_code: bool = False,
) -> HashModel:
    """Return the network in ``path`` with its own hash head, or with an untrained one in the place of a classifier.

    ``bits`` is the length of an untrained head (48), drawn from ``seed``; ``head`` names the layer that gives the codes,
    ``classifier`` says that there is none, ``activation`` what stands between its layers. ``map`` renames tensors
    (``OLD=NEW``, by how names begin). ``encoder`` may be ``module:function`` with ``options``. ``unpickle`` first
    converts a pickle by running what is in it, in a process of its own; ``trust_code`` does so where it is needed.

    Raises:
        CheckpointError: the file is damaged, holds code, or fits no encoder.
        InputError: an unknown encoder or option.
    """
    path = Path(path)
    if head is not None and classifier:
        raise CheckpointError("--head keeps a layer as the hash head, --classifier replaces it: give one of them")
    if activation not in (None, "none"):
        lookup(heads.LAYERS, activation or "", "activation", CheckpointError)
    tensors, unpickled = _read(path, unpickle, trust_code)
    tensors, notes, aliases = _prepared(tensors, parse_map(map))
    asked = Asked(format, encoder, options or {}, input, preprocessing or Preprocessing(), head, activation, trust_code)
    found = _best(path, tensors, asked)
    decision = _head_of(found, bits, head, classifier)
    arch = replace(found.arch, bits=decision["bits"], head=tuple(decision["layers"]))
    net = build(arch, seed=seed, trust_code=trust_code)
    net.encoder.load_state_dict(_completed(net.encoder, {own: tensors[name] for own, name in found.pairs.items()}))
    if decision["kept"] and found.head is not None:
        net.head.load_state_dict(_completed(net.head, found.head.state()))
    kept = (
        {f"{module.path}.{leaf}" for module in found.head.modules for leaf in module.tensors} if found.head else set()
    )
    settings = {
        "source": path.name,
        "sha256": sha256_file(path),
        "format": found.format,
        "replaced": sorted(set(found.rest) - (kept if decision["kept"] else set())),
        "aliases": aliases,
        "unpickled": unpickled,
        "head": decision,
        "notes": [_encoder_note(found), *notes, decision["note"], *_input_notes(found)],
    }
    return HashModel(net.eval(), arch, history=(Step("import", settings, seed),))


def _read(path: Path, unpickle: bool, trust_code: bool) -> tuple[Tensors, bool]:
    """Return the tensors in a file, and whether code in it ran."""
    if not unpickle:
        try:
            return read_tensors(path), False
        except CodeInPickleError:
            if not trust_code:
                raise
    with TemporaryDirectory() as folder:
        return read_tensors(convert(path, Path(folder) / "converted.safetensors")), True


def _prepared(tensors: Tensors, table: Mapping[str, str]) -> tuple[Tensors, list[str], list[str]]:
    """Return tensors under the names that networks have, what is to be told, and names of tensors saved twice."""
    tensors, notes = with_computed_weights(without_wrappings(renamed(tensors, table)))
    tensors, aliases = without_aliases(tensors)
    tensors, children = with_children_named(tensors)
    return tensors, [*notes, children] if children else notes, aliases


def _best(path: Path, tensors: Tensors, asked: Asked) -> Match:
    """Return the encoder that fits.

    Raises:
        CheckpointError: none does; the message names the one whose tensors agree best.
    """
    found = readings(tensors, asked)
    if not found:
        if asked.encoder and asked.format == "auto":
            raise CheckpointError(
                f"{path} is none of {asked.encoder!r}, which no format can recognise; import takes networks of your own "
                "with --encoder module:function"
            )
        raise CheckpointError(f"format {asked.format!r} knows no encoder {asked.encoder!r} for this file")
    fitting = [match for match in found if not match.problems]
    if fitting:
        return max(fitting, key=lambda match: (match.agreeing, not match.by_order))
    best = max(found, key=lambda match: (match.agreeing, -len(match.problems)))
    count = len(best.problems)
    if not best.agreeing and asked.encoder is None:
        some = ", ".join(f"{name} {tuple(value.shape)}" for name, value in list(tensors.items())[:3])
        raise CheckpointError(
            f"{path} fits no encoder, not one tensor agrees by name and shape ({some}, ...){_hint(tensors, asked)}; "
            "a network of your own: --encoder module:function"
        )
    raise CheckpointError(
        f"{path} fits no encoder; nearest is {best.arch.encoder} with {count} mismatch{'es' if count > 1 else ''}, "
        f"the first: {best.problems[0]} ({best.agreeing} of {best.of} tensors agree){_hint(tensors, asked)}"
    )


def _hint(tensors: Tensors, asked: Asked) -> str:
    """Return what to do where only the names differ."""
    for name in ENCODERS if asked.encoder is None else ():
        shapes = published_shapes(name)
        if shapes and in_order(shapes, tensors):
            return f"; in the order of saving all tensors of {name} agree: if it is one, add --encoder {name}, or --map OLD=NEW"
    return ""


def _head_of(found: Match, bits: int | None, key: str | None, classifier: bool) -> dict[str, Json]:
    """Return what becomes of the head: whether it is kept, its layers, bits, and one line about it.

    Raises:
        CheckpointError: another number of bits is asked for than a hash head has.
    """
    new = {"kept": False, "layers": [], "bits": BITS if bits is None else bits}
    if found.head is None:
        if found.format != OUTSIDE:
            return new | {"note": f"head: none in the file; an untrained one of {new['bits']} bits"}
        if classifier or bits not in (None, found.width):
            return new | {"note": f"head: an untrained one of {new['bits']} bits on {found.width} features"}
        note = f"head: the network's {found.width} outputs are the code; --classifier puts an untrained head on them"
        return {"kept": True, "layers": ["identity"], "bits": found.width, "note": note}
    head = found.head
    kept, why = is_hash(head, bits)
    if key is not None or classifier:
        kept, why = not classifier, "as --head says" if key else "as --classifier says"
    about = f"head {head.path}: {', '.join(head.layers)}"
    beside = f"; beside it {', '.join(module.path for module in found.auxiliary)}, left out" if found.auxiliary else ""
    if not kept:
        note = f"{about}; taken for a classifier ({why}) and replaced by an untrained head of {new['bits']} bits"
        return new | {"note": f"{note}{beside}; --head {head.path} keeps it"}
    if bits not in (None, head.bits):
        raise CheckpointError(
            f"--bits {bits}, but the hash head {head.path} of the file has {head.bits} outputs ({why}); leave out --bits, "
            "or replace it by an untrained head with --classifier"
        )
    assumed = "; the activations between its layers are assumed (--activation)" if head.assumed else ""
    note = f"{about}; kept, {head.bits} bits ({why}){assumed}{beside}; --classifier replaces it"
    return {"kept": True, "layers": [] if head.plain else list(head.layers), "bits": head.bits, "note": note}


def _encoder_note(found: Match) -> str:
    how = "in the order of saving, names differ" if found.by_order else "by name"
    note = f"; {found.candidate.note}" if found.candidate.note else ""
    return f"encoder {found.arch.encoder} ({found.format}): {found.agreeing} of {found.of} tensors agree {how}{note}"


def _input_notes(found: Match) -> list[str]:
    given = found.arch.input
    if not isinstance(given, ImageInput):
        return [f"input {given.kind} of {' x '.join(map(str, given.shape))}"]
    values = f"mean {', '.join(map(str, given.mean))}, std {', '.join(map(str, given.std))}"
    assumed = f"; assumed: {'; '.join(found.assumed)} (--input-size, --mean, --std)" if found.assumed else ""
    return [f"input {'x'.join(map(str, given.shape))}, {values}{assumed}"]


def _completed(module: nn.Module, tensors: Tensors) -> Tensors:
    """Return ``tensors`` in the types and shapes of ``module``, with counters that old versions of torch did not save."""
    own = module.state_dict()
    return {
        name: tensors[name].to(value.dtype).reshape(value.shape) if name in tensors else value
        for name, value in own.items()
    }
