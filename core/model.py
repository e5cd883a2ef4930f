"""The one value that flows through hashpress: a hashing network and the story of how it came to be."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import nn

from .errors import InputError
from .inputs import Input, input_from_json
from .settings import Json, check_fields

MAX_BITS = 4096  # several times the longest codes that are published; a dense head of 100,000,000 fits no memory


@dataclass(frozen=True)
class Arch:
    """Enough to build the empty original network: encoder by name (or ``module:function``), bits, input, options.

    ``head`` lists the layers from features to outputs, as :func:`hashnets.heads.build` takes them; empty, it is one
    dense layer with bias.
    """

    encoder: str
    bits: int
    input: Input
    options: Mapping[str, Json] = field(default_factory=dict)
    head: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields("arch", self)
        if not 1 <= self.bits <= MAX_BITS:
            raise InputError(f"a code needs at least one bit and at most {MAX_BITS:,}, got {self.bits:,}")
        object.__setattr__(self, "options", MappingProxyType(dict(self.options)))

    def to_json(self) -> dict[str, Json]:
        """Return the architecture as plain JSON values; without ``head`` where it is one dense layer."""
        value: dict[str, Json] = {
            "encoder": self.encoder,
            "bits": self.bits,
            "input": self.input.to_json(),
            "options": dict(self.options),
        }
        return value | {"head": list(self.head)} if self.head else value

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Arch:
        """Return the architecture that :meth:`to_json` wrote, which may come from anywhere.

        Raises:
            InputError: a missing or unknown entry, or one of another type.
        """
        kinds = {"encoder": str, "bits": int, "input": dict, "options": dict}
        if not isinstance(value, dict) or set(value) - {"head"} != set(kinds):
            raise InputError(f"the architecture must have {', '.join(kinds)}, found {str(value)[:80]}")
        head = value.get("head", [])
        if not isinstance(head, list) or not all(isinstance(layer, str) for layer in head):
            raise InputError(f"head of the architecture must be a list of texts, found {str(head)[:80]}")
        for key, kind in kinds.items():
            if type(value[key]) is not kind:
                raise InputError(f"{key} of the architecture must be {kind.__name__}, found {str(value[key])[:80]}")
        return cls(value["encoder"], value["bits"], input_from_json(value["input"]), value["options"], tuple(head))

    def __deepcopy__(self, memo: dict[int, object]) -> Arch:
        return self  # frozen, and mapping proxies do not copy


@runtime_checkable
class Edit(Protocol):
    """What a pass did to one layer's structure, as JSON-able fields of a frozen dataclass."""

    kind: ClassVar[str]

    def apply(self, net: nn.Module) -> None:
        """Redo the change on ``net``, whose values need not be meaningful, in place."""


@dataclass(frozen=True)
class Step:
    """One line of provenance: a pass (or training, or import), its settings, and the figures before and after."""

    name: str
    settings: Mapping[str, Json] = field(default_factory=dict)
    seed: int | None = None
    before: Mapping[str, Json] = field(default_factory=dict)
    after: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields("step", self)

    def to_json(self) -> dict[str, Json]:
        """Return the step as plain JSON values; empty fields are left out."""
        value: dict[str, Json] = {"name": self.name}
        for name in ("settings", "before", "after"):
            if getattr(self, name):
                value[name] = dict(getattr(self, name))
        if self.seed is not None:
            value["seed"] = self.seed
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Step:
        """Return the step that :meth:`to_json` wrote."""
        return cls(**value)


@dataclass(frozen=True)
class HashModel:
    """A hashing network: ``net`` maps a batch of ``arch.input`` to real outputs (N, bits); the code is ``output >= 0``.

    Invariant: ``rebuild(arch, edits)`` has exactly the state-dict keys, shapes and dtypes of ``net``.
    """

    net: nn.Module
    arch: Arch
    edits: tuple[Edit, ...] = ()
    history: tuple[Step, ...] = ()

    def copy_net(self, sharing: Iterable[str] = ()) -> nn.Module:
        """Return a deep copy of the network, in evaluation mode, for a pass to change.

        Weights of the layers at ``sharing`` keep their memory in common: the pass replaces them or asks for
        :meth:`unshare_memory`, and writes into none.

        Raises:
            InputError: a layer holds what cannot be copied.
        """
        return self._copied(self.net.get_submodule(path).get_parameter("weight") for path in sharing)

    def unshare_memory(self, net: nn.Module) -> None:
        """Give ``net`` memory of its own where it still has this network's, in place."""
        here = {value.data_ptr() for value in self.net.parameters()}
        for value in net.parameters():
            if value.data_ptr() in here:
                value.data = value.detach().clone()

    def copy_sharing_memory(self, writing: Iterable[str] = ()) -> nn.Module:
        """Return a copy, in evaluation mode, to watch or try things on: its parameters are this network's own memory.

        Only those of the layers at ``writing`` (and what is tied to them) may be written into.
        """
        own = {id(value) for path in writing for value in self.net.get_submodule(path).parameters()}
        return self._copied(value for value in self.net.parameters() if id(value) not in own)

    def _copied(self, shared: Iterable[nn.Parameter]) -> nn.Module:
        memo: dict[int, Any] = {id(value): nn.Parameter(value.detach(), value.requires_grad) for value in shared}
        for layer in self.net.modules():  # what older weight norms keep of their last call hangs on gradients
            computed = [
                value for value in vars(layer).values() if isinstance(value, torch.Tensor) and not value.is_leaf
            ]
            memo |= {id(value): value.detach().clone() for value in computed}
        try:
            return copy.deepcopy(self.net, memo).eval()
        except (RuntimeError, TypeError) as fault:
            raise InputError(
                f"the network cannot be copied, and a pass works on a copy ({str(fault).splitlines()[0][:120]}); "
                "keep what is no parameter, buffer or number out of its layers"
            ) from fault

    def on(self, device: torch.device) -> HashModel:
        """Return this model on a device: itself where it is there, else with a copy of the network."""
        here = next((value.device for value in self.net.parameters()), device)
        return self if here == device else replace(self, net=self.copy_net().to(device))

    def edited(self, net: nn.Module, edits: Sequence[Edit], step: Step) -> HashModel:
        """Return a model around ``net`` with ``edits`` and ``step`` appended; this one stays as it is."""
        return replace(self, net=net.eval(), edits=(*self.edits, *edits), history=(*self.history, step))

    def __str__(self) -> str:
        parameters = sum(value.numel() for value in self.net.state_dict().values())
        lines = [f"{self.arch.encoder}, {self.arch.bits} bits, input {self.arch.input.shape}, {parameters:,} values"]
        return "\n".join([*lines, *(f"  {edit}" for edit in self.edits)])
