"""Weights and biases as operators see them: tensors of the model file, transposed, reshaped or multiplied by a number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ...core.errors import TargetError
from .graph import Tensor


@dataclass(frozen=True)
class Parameter:
    """A tensor of the model file, perhaps seen through a transpose or in another shape, and multiplied by a number."""

    tensor: Tensor
    transposed: bool = False
    factor: float = 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the model file."""
        return self.tensor.shape


def computed(weight: Parameter, how: str) -> str:
    """Return why a parameter that is computed from others at every run is refused."""
    return (
        f"no kernel for {weight.tensor.name} as it is computed ({how}) at every run; store what is computed as the layer's "
        "parameter (torch.nn.utils.parametrize.remove_parametrizations and its like do so)"
    )


def product(name: str, one: Any, other: Any) -> Parameter:
    """Return the product of a parameter and a number: the layer that uses it multiplies its result with the number.

    Raises:
        TargetError: another operation, or two parameters.
    """
    weight, number = (one, other) if isinstance(one, Parameter) else (other, one)
    if isinstance(number, float) and name == "multiply":
        return replace(weight, factor=weight.factor * number)
    raise TargetError(computed(weight, name))
