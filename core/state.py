"""The tensors of a network by name: its state dict, and those that it keeps outside of it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn


def unsaved(net: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors that the state dict leaves out, by dotted name: buffers registered with ``persistent=False``, and attributes.

    An attribute that a hook computes before every call, as torch's older weight norm does, is none of them.
    """
    saved = set(net.state_dict(keep_vars=True))
    return {name: value for name, value in _tensors(net) if name not in saved}


def set_tensor(net: nn.Module, name: str, value: torch.Tensor) -> None:
    """Put ``value`` where :func:`unsaved` found the tensor ``name``, in place."""
    path, _, attribute = name.rpartition(".")
    layer = net.get_submodule(path)
    if attribute in layer._buffers and not isinstance(value, nn.Parameter):  # noqa: SLF001
        layer._buffers[attribute] = value  # noqa: SLF001
        return
    if hasattr(layer, attribute):
        delattr(layer, attribute)
    setattr(layer, attribute, value)


def _tensors(net: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for path, layer in net.named_modules():
        prefix = f"{path}." if path else ""
        for name, buffer in layer.named_buffers(recurse=False):
            yield prefix + name, buffer
        if not layer._forward_pre_hooks:  # noqa: SLF001
            for name, value in vars(layer).items():
                if isinstance(value, torch.Tensor):
                    yield prefix + name, value
