"""Batch norm folding into the preceding layer: w' = w g / sqrt(v + eps), b' = (b - m) g / sqrt(v + eps) + beta.

Exact up to rounding; computed in double precision. It comes first, so that later passes see the effective weights. It
may also follow ``fastfood``, whose last diagonal is then scaled, and ``share`` with ``scaled``, whose channel factors
are then scaled; this allows a network to be trained with its norms after these passes. A norm is skipped, with the
reason, if another module reads the output of the layer or shares its weight or bias, or if the weight of the layer is
computed by a parametrization.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, ClassVar

import torch
from torch import Tensor, fx, nn

from ..core.errors import HashpressError
from ..core.layers import computed, get_layer
from ..core.model import HashModel
from ..modelfile.edits import Folded
from ..modelfile.layers.base import CompressedLayer, round_weights, scalable_tensor
from ..modelfile.layers.shared import SharedWeight
from .base import Context, Decision, Pass
from .channels.graph import LayerTracer
from .observe.hooks import output_axes

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Fold(Pass):
    """Fold batch norms into the layers before them."""

    name: ClassVar[str] = "fold"
    phase: ClassVar[str] = "fold"
    keeps_layer_names: ClassVar[bool] = True
    may_follow: ClassVar[tuple[str, ...]] = ("share", "fastfood")  # their factors and diagonals absorb the gain

    def decide(self, model: HashModel, context: Context) -> Decision:  # noqa: ARG002  # as all passes
        """Return ``fold``: norm -> layer that absorbs it, and ``skipped``: norm -> reason."""
        norms = [path for path, layer in model.net.named_modules() if isinstance(layer, NORMS)]
        if not norms:
            return Decision({"fold": {}, "skipped": {}})
        try:
            graph = LayerTracer().trace(model.net)
        except Exception as fault:  # user code may raise anything while it is traced
            reason = f"the network cannot be traced: {str(fault)[:80]}"
            return Decision({"fold": {}, "skipped": dict.fromkeys(norms, reason)})
        calls, owners = _calls(graph), _owners(model.net, graph)
        flat = any(isinstance(get_layer(model.net, norm), nn.BatchNorm1d) for norm in norms)
        dense = [path for path, layer in model.net.named_modules() if hasattr(layer, "in_features")]
        axes = output_axes(model.net, dense, model.arch.input) if flat else {}
        fold: dict[str, str] = {}
        unfolded: dict[str, str] = {}
        for norm in norms:
            target, reason = _target(model.net, norm, calls, owners)
            if not reason and isinstance(get_layer(model.net, norm), nn.BatchNorm1d) and axes.get(target) != 2:
                reason = f"the outputs of {target} have {axes.get(target, 'unknown')} axes; BatchNorm1d normalises the second"
            if reason:
                unfolded[norm] = reason
            else:
                fold[norm] = target
        return Decision({"fold": fold, "skipped": unfolded})

    def apply(self, model: HashModel, decision: Decision, context: Context) -> HashModel:  # noqa: ARG002  # as all passes
        """Return the model without the folded norms."""
        net = model.copy_net()
        edits = []
        for norm, target in decision.data["fold"].items():
            take_in(get_layer(net, target), get_layer(net, norm))
            edit = Folded(norm, target)
            edit.apply(net)
            edits.append(edit)
        round_weights(net)
        return model.edited(net, edits, self.step())


def _calls(graph: fx.Graph) -> dict[str, list[fx.Node]]:
    calls: dict[str, list[fx.Node]] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls.setdefault(str(node.target), []).append(node)
    return calls


def _owners(net: nn.Module, graph: fx.Graph) -> Counter[int]:
    """Return how many modules use each parameter, by address; reads outside of the layer count as one more."""
    owners = uses(net)
    for node in graph.nodes:
        if node.op == "get_attr" and isinstance(value := attrgetter(str(node.target))(net), nn.Parameter):
            owners[value.data_ptr()] += 1
    return owners


def _target(net: nn.Module, norm: str, calls: dict[str, list[fx.Node]], owners: Counter[int]) -> tuple[str, str]:
    """Return the layer that absorbs ``norm`` and an empty reason, or an empty path and the reason for skipping ``norm``."""
    layer = get_layer(net, norm)
    if not isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) or layer.running_var is None:
        return "", f"a {type(layer).__name__} without running statistics or of another kind"
    if len(calls.get(norm, ())) != 1:
        return "", f"called {len(calls.get(norm, ()))} times"
    source = calls[norm][0].args[0]
    if not isinstance(source, fx.Node) or source.op != "call_module":
        return "", "no layer stands directly before it"
    target = str(source.target)
    try:
        before = get_layer(net, target)
    except HashpressError:
        return "", f"the layer before it, {target}, has no path"
    if reason := _unfit(before, owners):
        return "", f"the layer before it, {target}, {reason}"
    if len(source.users) != 1 or len(calls[target]) != 1:
        return "", f"the output of {target} is used elsewhere too"
    return target, ""


def _unfit(layer: Any, owners: Counter[int]) -> str:
    """Return the reason why no norm can be folded into ``layer``, or an empty string."""
    if isinstance(layer, nn.Conv2d | nn.Linear) and computed(layer):
        return "computes its weight from others (a parametrization)"
    if scalable_tensor(layer) is None:
        shared = isinstance(layer, CompressedLayer) and isinstance(layer.form, SharedWeight)
        return "shares its weights without factors (scaled)" if shared else f"is a {type(layer).__name__}"
    if any(owners[value.data_ptr()] > 1 for value in layer.parameters()):
        return "has a weight or bias that is used elsewhere too"
    return ""


@torch.no_grad()
def take_in(layer: Any, norm: Any) -> None:
    """Fold ``norm`` into ``layer``, in place. The layer has a bias afterwards."""
    gain, bias = gain_and_bias(layer, norm)
    values = scalable_tensor(layer)
    assert values is not None  # noqa: S101  # checked by decide
    if layer.bias is None:
        layer.bias = nn.Parameter(values.new_empty(len(gain)))
    values.data.copy_(values.double() * gain.view(-1, *[1] * (values.ndim - 1)))
    layer.bias.data.copy_(bias)


@torch.no_grad()
def gain_and_bias(layer: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Return the factor (O,) on the weight of ``layer`` and the new bias (O,) that fold ``norm`` into it."""
    gain = torch.rsqrt(norm.running_var.double() + norm.eps)
    shift = torch.zeros_like(gain)
    if norm.affine:
        gain, shift = gain * norm.weight.double(), norm.bias.double()
    bias = layer.bias.double() if layer.bias is not None else torch.zeros_like(gain)
    return gain, (bias - norm.running_mean.double()) * gain + shift


def uses(net: nn.Module) -> Counter[int]:
    """Return how many modules own each parameter, by the address of its storage."""
    return Counter(value.data_ptr() for layer in net.modules() for value in layer.parameters(recurse=False))
