"""Batch norm folded into the convolution or dense layer before it: w' = w g / sqrt(v + eps), b' = (b - m) g / sqrt(v + eps) + beta.

Exact up to rounding; computed in double precision. First in the order: later passes then see the weights that really
act. It may also stand after ``fastfood``, whose last diagonal then takes the gain, and after ``share`` with ``scaled``,
whose factors do: so a network trains with its norms in its new form. A norm is left, with the reason, when something
else reads the layer's output, or has its weight or bias, too, and when its weight is computed from others.
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
    """Fold batch norms away."""

    name: ClassVar[str] = "fold"
    phase: ClassVar[str] = "fold"
    keeps_layer_names: ClassVar[bool] = True
    may_follow: ClassVar[tuple[str, ...]] = ("share", "fastfood")  # whose factors and diagonals take the gain

    def decide(self, model: HashModel, context: Context) -> Decision:  # noqa: ARG002  # as all passes
        """Return ``fold``: norm -> layer it goes into, and ``skipped``: norm -> reason."""
        norms = [path for path, layer in model.net.named_modules() if isinstance(layer, NORMS)]
        if not norms:
            return Decision({"fold": {}, "skipped": {}})
        try:
            graph = LayerTracer().trace(model.net)
        except Exception as fault:  # foreign code may raise anything while it is traced
            reason = f"the network cannot be traced: {str(fault)[:80]}"
            return Decision({"fold": {}, "skipped": dict.fromkeys(norms, reason)})
        calls, owners = _calls(graph), _owners(model.net, graph)
        flat = any(isinstance(get_layer(model.net, norm), nn.BatchNorm1d) for norm in norms)
        dense = [path for path, layer in model.net.named_modules() if hasattr(layer, "in_features")]
        axes = output_axes(model.net, dense, model.arch.input) if flat else {}
        fold: dict[str, str] = {}
        kept: dict[str, str] = {}
        for norm in norms:
            target, reason = _target(model.net, norm, calls, owners)
            if not reason and isinstance(get_layer(model.net, norm), nn.BatchNorm1d) and axes.get(target) != 2:
                reason = f"the outputs of {target} have {axes.get(target, 'unknown')} axes; it looks at the second"
            if reason:
                kept[norm] = reason
            else:
                fold[norm] = target
        return Decision({"fold": fold, "skipped": kept})

    def apply(self, model: HashModel, decision: Decision, context: Context) -> HashModel:  # noqa: ARG002  # as all passes
        """Return the model without the norms that could be folded."""
        net = model.copied_net()
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
    """Return how many layers have each parameter, counting what reads it outside of its layer as one more."""
    owners = uses(net)
    for node in graph.nodes:
        if node.op == "get_attr" and isinstance(value := attrgetter(str(node.target))(net), nn.Parameter):
            owners[value.data_ptr()] += 1
    return owners


def _target(net: nn.Module, norm: str, calls: dict[str, list[fx.Node]], owners: Counter[int]) -> tuple[str, str]:
    """Return the layer that ``norm`` goes into, or why it stays."""
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
    """Return why nothing can be folded into a layer, or nothing."""
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
    """Let ``layer`` do the work of ``norm`` too, in place; it has a bias afterwards."""
    gain, bias = gain_and_bias(layer, norm)
    values = scalable_tensor(layer)
    assert values is not None  # noqa: S101  # asked before
    if layer.bias is None:
        layer.bias = nn.Parameter(values.new_empty(len(gain)))
    values.data.copy_(values.double() * gain.view(-1, *[1] * (values.ndim - 1)))
    layer.bias.data.copy_(bias)


@torch.no_grad()
def gain_and_bias(layer: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Return the factor (O,) on the weight of ``layer`` and the bias (O,) that do the work of ``norm`` too."""
    gain = torch.rsqrt(norm.running_var.double() + norm.eps)
    shift = torch.zeros_like(gain)
    if norm.affine:
        gain, shift = gain * norm.weight.double(), norm.bias.double()
    bias = layer.bias.double() if layer.bias is not None else torch.zeros_like(gain)
    return gain, (bias - norm.running_mean.double()) * gain + shift


def uses(net: nn.Module) -> Counter[int]:
    """Return how many layers have each parameter, by where it stands in memory: who writes into it changes all of them."""
    return Counter(value.data_ptr() for layer in net.modules() for value in layer.parameters(recurse=False))
