"""The head in a checkpoint: dense layers with norms between encoder and outputs, and whether they are hash outputs or classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ...core.errors import CheckpointError

Tensors = dict[str, Tensor]

HASH_NAME = re.compile(r"hash|encode|code|binar|latent|bits|fc_plus|fc8_kevin|(^|\.)linear1$", re.IGNORECASE)
CLASSES = {20: "Pascal VOC", 40: "CelebA", 80: "COCO", 100: "CIFAR-100", 120: "Stanford Dogs", 196: "Stanford Cars",
           200: "CUB-200", 400: "Kinetics", 1000: "ImageNet", 10000: "iNaturalist"}  # fmt: skip
ACTIVATION = "relu"  # between dense layers, where names leave room for one
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, eq=False)
class Module:
    """The tensors of one layer that the encoder does not have: ``kind`` is linear, batch_norm, layer_norm or empty."""

    path: str
    kind: str
    tensors: Tensors = field(repr=False)
    inputs: int = 0
    outputs: int = 0

    @property
    def layer(self) -> str:
        """Return the layer as :func:`hashnets.heads.build` takes it."""
        if self.kind == "linear":
            return f"linear {self.outputs}" + ("" if "bias" in self.tensors else " no bias")
        return self.kind if "weight" in self.tensors else f"{self.kind} no affine"


@dataclass(frozen=True)
class Head:
    """The layers from features to outputs: as data, and their tensors under the names of the ``Sequential`` made of them."""

    modules: tuple[Module, ...]
    layers: tuple[str, ...]
    places: tuple[int, ...]  # of the modules among the layers

    @property
    def bits(self) -> int:
        """Return the number of outputs."""
        return next(module.outputs for module in reversed(self.modules) if module.kind == "linear")

    @property
    def path(self) -> str:
        """Return the name of the last dense layer."""
        return next(module.path for module in reversed(self.modules) if module.kind == "linear")

    @property
    def assumed(self) -> bool:
        """Return whether activations were put between the layers, of which a state dict says nothing."""
        return len(self.layers) > len(self.modules)

    def state(self) -> Tensors:
        """Return the tensors by the name in the head of our network."""
        if self.plain:
            return dict(self.modules[0].tensors)
        pairs = zip(self.places, self.modules, strict=True)
        return {f"{place}.{name}": value for place, module in pairs for name, value in module.tensors.items()}

    @property
    def plain(self) -> bool:
        """Return whether it is one dense layer with bias, which an architecture need not describe."""
        return len(self.layers) == 1 and "bias" in self.modules[0].tensors


def modules_of(tensors: Tensors) -> list[Module]:
    """Return the layers that ``tensors`` belong to, in their order."""
    groups: dict[str, Tensors] = {}
    for name, value in tensors.items():
        path, _, leaf = name.rpartition(".")
        groups.setdefault(path, {})[leaf] = value
    return [_module(path, group) for path, group in groups.items()]


def _module(path: str, group: Tensors) -> Module:
    weight = group.get("weight")
    names = set(group)
    if weight is not None and names <= {"weight", "bias"}:
        if weight.ndim == 4 and weight.shape[2:] == (1, 1):
            weight = weight.flatten(1)
            group = group | {"weight": weight}
        bias = group.get("bias")
        if weight.ndim == 2 and (bias is None or bias.shape == weight.shape[:1]) and weight.shape[0]:
            return Module(path, "linear", group, weight.shape[1], weight.shape[0])
        if weight.ndim == 1 and bias is not None and bias.shape == weight.shape:
            return Module(path, "layer_norm", group, weight.shape[0], weight.shape[0])
    if {"running_mean", "running_var"} <= names <= {"weight", "bias", *_STATISTICS}:
        wanted = [value.shape for name, value in group.items() if name != "num_batches_tracked"]
        if len(set(wanted)) == 1 and len(wanted[0]) == 1 and len(wanted) in (2, 4):
            return Module(path, "batch_norm", group, wanted[0][0], wanted[0][0])
    return Module(path, "", group)


def find_head(modules: Sequence[Module], width: int, key: str | None, activation: str | None) -> Head | None:
    """Return the head that takes ``width`` features, ending at the layer ``key`` or at the one whose name says hash.

    Raises:
        CheckpointError: ``key`` is no dense layer, or nothing leads from the features to it.
    """
    dense = [place for place, module in enumerate(modules) if module.kind == "linear"]
    if key is not None:
        ends = [place for place in dense if f"{modules[place].path}.".startswith(f"{key.rstrip('.')}.")]
        if not ends:
            there = ", ".join(modules[place].path for place in dense) or "none beside the encoder's own"
            raise CheckpointError(f"--head {key} is no dense layer of the file after the encoder (there are: {there})")
    else:
        ends = [place for place in dense if HASH_NAME.search(modules[place].path)] or dense
    for end in reversed(ends):
        chain = _chain(modules, end, width)
        if chain:
            return _described([modules[place] for place in chain], activation)
    if key is not None:
        raise CheckpointError(f"--head {key} takes {modules[ends[-1]].inputs} features, the encoder gives {width}")
    return None


def _chain(modules: Sequence[Module], end: int, width: int) -> list[int]:
    """Return the places of the layers from ``width`` features to the dense layer ``end`` and its norm; empty if none lead."""
    chain, need = [end], modules[end].inputs
    for place in range(end - 1, -1, -1):
        module = modules[place]
        norm = module.kind in ("batch_norm", "layer_norm") and module.inputs == need
        if (norm and (modules[chain[0]].kind == "linear")) or (module.kind == "linear" and module.outputs == need):
            chain.insert(0, place)
            need = module.inputs
    if need != width:
        return []
    after = end + 1
    following = modules[after] if after < len(modules) else modules[end]
    if following.kind in ("batch_norm", "layer_norm") and following.inputs == modules[end].outputs:
        chain.append(after)
    return chain


def _described(chain: list[Module], activation: str | None) -> Head:
    layers: list[str] = []
    places = []
    for before, module in zip([None, *chain], chain, strict=False):
        earlier = any(layer.startswith("linear") for layer in layers)
        inside = before is not None and module.kind == "linear" and earlier and activation != "none"
        if inside and before is not None and _has_room(before.path, module.path):
            layers.append(activation or ACTIVATION)
        places.append(len(layers))
        layers.append(module.layer)
    return Head(tuple(chain), tuple(layers), tuple(places))


def _has_room(before: str, after: str) -> bool:
    """Return whether a layer without tensors can stand between two: not between neighbours in one Sequential."""
    (parent, _, place), (other, _, following) = before.rpartition("."), after.rpartition(".")
    if parent == other and place.isdecimal() and following.isdecimal():
        return int(following) != int(place) + 1
    return True


def is_hash(head: Head, bits: int | None) -> tuple[bool, str]:
    """Return whether these are hash outputs rather than classes, and why."""
    outputs = head.bits
    if HASH_NAME.search(head.path):
        return True, "by its name"
    if bits == outputs:
        return True, "as --bits says"
    if outputs in CLASSES:
        return False, f"{outputs:,} outputs are usual for classes ({CLASSES[outputs]})"
    if outputs % 4 == 0 and outputs >= 8:
        return True, f"{outputs} outputs are usual for codes"
    return False, f"{outputs:,} outputs are unusual for codes"


def is_auxiliary(module: Module, head: Head, width: int) -> bool:
    """Return whether what is beside the head works on codes or features and in training alone: a classifier, or centres."""
    if module.kind == "linear":
        return module.inputs in (head.bits, width)
    rows = [value for value in module.tensors.values() if value.ndim == 2]
    return not module.kind and len(rows) == len(module.tensors) and all(value.shape[1] == head.bits for value in rows)
