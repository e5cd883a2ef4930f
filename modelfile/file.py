"""The model file: one safetensors file that holds a compressed network, its architecture and its history."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from ..core.errors import HashpressError, ModelFileError
from ..core.model import Arch, Edit, HashModel, Step
from . import container, reader
from .coding import floats, integers
from .edits import edit_from_json, edit_to_json, rebuild
from .encoded import EncodedModel

PLAIN_FROM = 4096  # bytes from which a tensor of floats is kept as it is
VIEW_FROM = 1 << 20  # bytes from which a loaded tensor is not copied out of the file's bytes
PLAIN_GAIN = 0.75  # unless coding leaves at most this share of it
KINDS = {torch.from_numpy(np.empty(0, np.dtype(name))).dtype: code for code, name in container.DTYPES.items()}


def save(model: HashModel, path: str | os.PathLike[str]) -> None:
    """Write ``model``; the same model gives the same bytes.

    Raises:
        InputError: the file cannot be written.
        ModelFileError: the network is not what its architecture and edits say, or holds what no file can.
    """
    encode(model).write(path)


def file_size(model: HashModel) -> int:
    """Return the bytes that :func:`save` would write."""
    return encode(model).size


def encode(model: HashModel) -> EncodedModel:
    """Return the bytes of the model's file with their number and digest; errors as of :func:`content`."""
    return EncodedModel(tuple(content(model)))


def content(model: HashModel) -> list[bytes | memoryview]:
    """Return the bytes of the model's file, in parts.

    Raises:
        ModelFileError: as :func:`save`.
    """
    state = {name: value.detach().cpu() for name, value in model.net.state_dict().items()}
    _check(rebuild(model.arch, model.edits, trust_code=True).state_dict(), _described(state), "the network")
    rows: list[list[Any]] = []
    streams: list[bytes] = []
    plain: dict[str, np.ndarray] = {}
    for name, tensor in state.items():
        if tensor.dtype not in KINDS:
            raise ModelFileError(
                f"{name}: a model file cannot keep {tensor.dtype} (it keeps {', '.join(container.DTYPES)}); "
                "convert the network first, such as by net.float()"
            )
        array = tensor.contiguous().numpy()
        found = coded(array)
        if found is None:
            plain[name] = array
            continue
        rows.append([name, container.code_of(array), list(array.shape), len(found.payload), found.table_bytes])
        streams.append(found.payload)
    manifest = {
        "arch": model.arch.to_json(),
        "edits": [edit_to_json(edit) for edit in model.edits],
        "coded": rows,
        "history": [step.to_json() for step in model.history],
    }
    return container.content(manifest, plain, b"".join(streams))


def load(path: str | os.PathLike[str], *, trust_code: bool = False) -> HashModel:
    """Return the model that :func:`save` wrote, in evaluation mode.

    Raises:
        ModelFileError: the file is damaged, hostile or of another version; names the layer, what was expected and found.
    """
    file, rows = reader.checked(path)
    try:
        arch = _arch(file.manifest["arch"])
        edits = tuple(edit_from_json(edit, trust_code=trust_code) for edit in file.manifest["edits"])
        history = tuple(_step(step) for step in file.manifest["history"])
        net = _rebuilt(arch, edits, trust_code)
        found = {name: (container.code_of(array), array.shape) for name, array in file.plain.items()}
        found |= {row.name: (row.dtype, row.shape) for row in rows}
        _check(net.state_dict(), found, "the file")
    except ModelFileError as fault:
        raise ModelFileError(f"{path}: {fault}") from fault
    arrays = reader.decode(file, rows, path)
    state = {name: torch.from_numpy(_owned(array)) for name, array in arrays.items()}
    names = _tied(net)
    net.load_state_dict(state, strict=True, assign=True)
    for first, *others in names:
        if all(torch.equal(state[first], state[name]) for name in others):
            _tie(net, first, others)
    left = [name for name, value in (*net.named_parameters(), *net.named_buffers()) if value.is_meta]
    if left:
        raise ModelFileError(f"{path}: {', '.join(left)} are not part of the network's state and stay without values")
    return HashModel(net.requires_grad_(requires_grad=True).eval(), arch, edits, history)


def _tied(net: nn.Module) -> list[list[str]]:
    """Return the names of each parameter that has several."""
    names: dict[int, list[str]] = {}
    for name, value in net.named_parameters(remove_duplicate=False):
        names.setdefault(id(value), []).append(name)
    return [found for found in names.values() if len(found) > 1]


def _tie(net: nn.Module, first: str, others: list[str]) -> None:
    value = net.get_parameter(first)
    for name in others:
        path, _, what = name.rpartition(".")
        setattr(net.get_submodule(path), what, value)


def _owned(array: np.ndarray) -> np.ndarray:
    """Return ``array`` itself when it is large, or else a copy that does not keep the file's bytes in memory."""
    fits = array.flags.aligned and array.flags.writeable and array.flags.c_contiguous
    return array if fits and array.nbytes >= VIEW_FROM else np.array(array)


def coded(array: np.ndarray) -> integers.Coded | None:
    """Return a tensor as the file codes it, None when it stands there as it is."""
    if array.dtype.kind in "iub":
        return integers.encode(array)
    most = PLAIN_GAIN * array.nbytes if array.nbytes >= PLAIN_FROM else math.inf
    return floats.within(array, most) if array.dtype == np.float32 else None


def _described(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (KINDS.get(value.dtype, str(value.dtype)), tuple(value.shape)) for name, value in state.items()}


def _check(expected: Mapping[str, torch.Tensor], found: Mapping[str, tuple[str, tuple[int, ...]]], whose: str) -> None:
    """Raise ModelFileError at the first tensor of ``whose`` state that its architecture and edits do not ask for."""
    wanted = _described(expected)
    for name, what in wanted.items():
        if name not in found:
            raise ModelFileError(f"{name}: expected {_text(what)}, {whose} has no such tensor")
        if found[name] != what:
            raise ModelFileError(f"{name}: expected {_text(what)}, {whose} has {_text(found[name])}")
    extra = [name for name in found if name not in wanted]
    if extra:
        raise ModelFileError(f"{extra[0][:200]}: {whose} has this tensor, its architecture has not")


def _text(what: tuple[str, tuple[int, ...]]) -> str:
    return f"{what[0]} of shape {what[1]}"


def _rebuilt(arch: Arch, edits: tuple[Edit, ...], trust_code: bool) -> nn.Module:
    try:
        return rebuild(arch, edits, trust_code=trust_code)
    except HashpressError as fault:
        raise ModelFileError(str(fault)) from fault
    except (TypeError, ValueError, RuntimeError, OverflowError, AttributeError) as fault:
        text = str(fault).splitlines()[:1]
        raise ModelFileError(f"the architecture {arch.encoder!r} cannot be built: {''.join(text)[:200]}") from fault


def _arch(value: Any) -> Arch:
    """Return the architecture of a manifest whose values are of the right types."""
    try:
        return Arch.from_json(value)
    except HashpressError as fault:
        raise ModelFileError(str(fault)) from fault


def _step(value: Any) -> Step:
    kinds = {"name": str, "settings": dict, "before": dict, "after": dict, "seed": int}
    if (
        not isinstance(value, dict)
        or "name" not in value
        or not all(name in kinds and type(item) is kinds[name] for name, item in value.items())
    ):
        raise ModelFileError(f"a step of the history is malformed: {str(value)[:80]}")
    return Step.from_json(value)
