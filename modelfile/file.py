"""Saving and loading of model files: one safetensors file with a compressed network, its architecture and its history."""

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
from ..core.state import set_tensor, unsaved
from ..core.usable_weights import not_finite
from . import container, reader
from .coding import floats, integers
from .edits import edit_from_json, edit_to_json, rebuild
from .encoded import EncodedModel

PLAIN_FROM = 4096  # bytes from which a float tensor is stored uncoded,
PLAIN_GAIN = 0.75  # unless coding reduces it to at most this share
VIEW_FROM = 1 << 20  # bytes from which a loaded tensor shares memory with the buffer of the file
KINDS = {torch.from_numpy(np.empty(0, np.dtype(name))).dtype: code for code, name in container.DTYPES.items()}


def save(model: HashModel, path: str | os.PathLike[str]) -> None:
    """Write ``model`` to a file; the same model gives the same bytes.

    Raises:
        InputError: the file cannot be written.
        ModelFileError: the network does not match its architecture and edits, or has values that are not finite or
            tensors that a file cannot store.
    """
    encode(model).write(path)


def file_size(model: HashModel) -> int:
    """Return the number of bytes that :func:`save` would write."""
    return encode(model).size


def encode(model: HashModel) -> EncodedModel:
    """Return the encoded file of ``model`` with its size and digest.

    Raises:
        ModelFileError: as :func:`save`.
    """
    return EncodedModel(tuple(content(model)))


def content(model: HashModel) -> list[bytes | memoryview]:
    """Return the bytes of the model's file, in parts.

    Raises:
        ModelFileError: as :func:`save`.
    """
    if fault := not_finite(model.net):
        raise ModelFileError(
            f"{fault}: a network whose weights are not finite gives no codes and is not saved; train it again"
        )
    expected = _whole_state(rebuild(model.arch, model.edits, trust_code=True))
    state = {name: _strided(name, value) for name, value in _whole_state(model.net, expected).items()}
    _check(expected, _described(state), "the network")
    rows: list[list[Any]] = []
    streams: list[bytes] = []
    plain: dict[str, np.ndarray] = {}
    for name, tensor in state.items():
        if tensor.dtype not in KINDS:
            raise ModelFileError(
                f"{name}: a model file cannot store {tensor.dtype} (it stores {', '.join(container.DTYPES)}); "
                "convert the network first, for example with net.float()"
            )
        if tensor.ndim > container.MAX_AXES:
            raise ModelFileError(f"{name}: a model file stores at most {container.MAX_AXES} axes, found {tensor.ndim}")
        array = tensor.contiguous().numpy()
        stream = coded(array)
        if stream is None:
            plain[name] = array
            continue
        rows.append([name, container.code_of(array), list(array.shape), len(stream.payload), stream.table_bytes])
        streams.append(stream.payload)
    manifest = {
        "arch": model.arch.to_json(),
        "edits": [edit_to_json(edit) for edit in model.edits],
        "coded": rows,
        "history": [step.to_json() for step in model.history],
    }
    try:
        parts = container.content(manifest, plain, b"".join(streams))
    except ValueError as fault:
        raise ModelFileError(f"the model's architecture or history holds what JSON has no word for: {fault}") from fault
    elements, (header, *_, packed, coded_bytes, _) = sum(math.prod(row[2]) for row in rows), parts
    length = sum(len(part) for part in (header, packed, coded_bytes))
    if elements > reader.FREE_ELEMENTS + reader.ELEMENTS_PER_BYTE * length:
        raise ModelFileError(
            f"{elements} numbers in {length} bytes are more than a reader of the file would believe; constant tensors of "
            "this size belong into the code that builds the network"
        )
    return parts


def load(path: str | os.PathLike[str], *, trust_code: bool = False) -> HashModel:
    """Return the model that :func:`save` wrote, in evaluation mode.

    Raises:
        ModelFileError: the file is damaged, hostile or of another version, or a tensor is not as its architecture expects.
    """
    file, coded_tensors = reader.checked(path)
    try:
        arch = _arch(file.manifest["arch"])
        edits = tuple(edit_from_json(edit, trust_code=trust_code) for edit in file.manifest["edits"])
        history = tuple(_step(step) for step in file.manifest["history"])
        net = _rebuilt(arch, edits, trust_code)
        stored = {name: (container.code_of(array), array.shape) for name, array in file.plain.items()}
        stored |= {tensor.name: (tensor.dtype, tensor.shape) for tensor in coded_tensors}
        beside = _beside(net, stored)
        _check(net.state_dict() | beside, stored, "the file")
    except ModelFileError as fault:
        raise ModelFileError(f"{path}: {fault}") from fault
    arrays = reader.decode(file, coded_tensors, path)
    state = {name: torch.from_numpy(_detached(array)) for name, array in arrays.items()}
    tied = _tied(net)
    net.load_state_dict({name: value for name, value in state.items() if name not in beside}, strict=True, assign=True)
    for name in beside:
        set_tensor(net, name, state[name])
    for first, *others in tied:
        if all(torch.equal(state[first], state[name]) for name in others):
            _tie(net, first, others)
    missing = [name for name, value in (*net.named_parameters(), *net.named_buffers()) if value.is_meta]
    if missing:
        raise ModelFileError(
            f"{path}: {', '.join(missing)} are not in the state dict of the network, so the file has no values for them"
        )
    for value in net.parameters():
        value.requires_grad_(value.is_floating_point() or value.is_complex())
    return HashModel(net.eval(), arch, edits, history)


def _whole_state(net: nn.Module, expected: Mapping[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    """Return the state dict, then the tensors that it leaves out and the rebuilt network, ``expected``, has as well."""
    state = dict(net.state_dict())
    buffers = {name for name, _ in net.named_buffers()}
    for name, value in unsaved(net).items():
        same = expected is None or (name in expected and expected[name].shape == value.shape)
        if same or name in buffers:  # attributes of other shapes are what the network remembers of its last call
            state[name] = value
    return state


def _beside(net: nn.Module, stored: Mapping[str, object]) -> dict[str, torch.Tensor]:
    """Return the tensors outside of the state dict that a file has values for, and the buffers for which it should."""
    buffers = {name for name, _ in net.named_buffers()}
    return {name: value for name, value in unsaved(net).items() if name in stored or name in buffers}


def _strided(name: str, value: Any) -> torch.Tensor:
    """Return a tensor of the state dict as plain values in memory.

    Raises:
        ModelFileError: it is none, is sparse or quantized, or has no values yet.
    """
    kind = type(value).__name__ if not isinstance(value, torch.Tensor) else None
    if kind is None and isinstance(value, nn.parameter.UninitializedParameter | nn.parameter.UninitializedBuffer):
        kind = "a parameter without values: run the network once before saving it"
    elif kind is None and (value.layout is not torch.strided or value.is_quantized or value.is_meta):
        kind = f"a tensor of layout {value.layout} and type {value.dtype} on {value.device}"
    if kind is not None:
        raise ModelFileError(f"{name}: a model file stores tensors of numbers, found {kind}")
    return value.detach().cpu().resolve_conj().resolve_neg()


def _tied(net: nn.Module) -> list[list[str]]:
    """Return the names of every parameter that is registered under several names."""
    names: dict[int, list[str]] = {}
    for name, value in net.named_parameters(remove_duplicate=False):
        names.setdefault(id(value), []).append(name)
    return [tied for tied in names.values() if len(tied) > 1]


def _tie(net: nn.Module, first: str, others: list[str]) -> None:
    value = net.get_parameter(first)
    for name in others:
        path, _, what = name.rpartition(".")
        setattr(net.get_submodule(path), what, value)


def _detached(array: np.ndarray) -> np.ndarray:
    """Return a large ``array`` itself, otherwise a copy, which lets the buffer of the file be freed."""
    usable = array.flags.aligned and array.flags.writeable and array.flags.c_contiguous
    return array if usable and array.nbytes >= VIEW_FROM else np.array(array)


def coded(array: np.ndarray) -> integers.Coded | None:
    """Return the stream that stores a tensor, None if the file stores it uncoded."""
    if array.dtype.kind in "iub":
        return integers.encode(array) if integers.codable(array) else None
    max_bytes = PLAIN_GAIN * array.nbytes if array.nbytes >= PLAIN_FROM else math.inf
    return floats.encode_within(array, max_bytes) if array.dtype == np.float32 else None


def _described(state: Mapping[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (KINDS.get(value.dtype, str(value.dtype)), tuple(value.shape)) for name, value in state.items()}


def _check(expected: Mapping[str, torch.Tensor], actual: Mapping[str, tuple[str, tuple[int, ...]]], whose: str) -> None:
    """Raise ModelFileError for the first tensor in which the state of ``whose`` differs from what ``expected`` says."""
    wanted = _described(expected)
    for name, spec in wanted.items():
        if name not in actual:
            raise ModelFileError(f"{name}: expected {_text(spec)}, {whose} has no such tensor")
        if actual[name] != spec:
            raise ModelFileError(f"{name}: expected {_text(spec)}, {whose} has {_text(actual[name])}")
    extra = [name for name in actual if name not in wanted]
    if extra:
        raise ModelFileError(f"{extra[0][:200]}: {whose} has this tensor, but its architecture and edits do not")


def _text(spec: tuple[str, tuple[int, ...]]) -> str:
    return f"{spec[0]} of shape {spec[1]}"


def _rebuilt(arch: Arch, edits: tuple[Edit, ...], trust_code: bool) -> nn.Module:
    try:
        return rebuild(arch, edits, trust_code=trust_code)
    except HashpressError as fault:
        raise ModelFileError(str(fault)) from fault
    except (TypeError, ValueError, RuntimeError, OverflowError, AttributeError) as fault:
        text = str(fault).splitlines()[:1]
        raise ModelFileError(f"the architecture {arch.encoder!r} cannot be built: {''.join(text)[:200]}") from fault


def _arch(value: Any) -> Arch:
    """Return the architecture in a manifest after checking the types of its values."""
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
