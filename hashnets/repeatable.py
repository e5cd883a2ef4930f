"""Check that a network gives the same outputs each time, which everything that compares codes takes for granted."""

from __future__ import annotations

import numpy as np
import torch

from ..core.data.split import Split
from ..core.errors import InputError
from ..core.inputs import ImageInput, Input, VectorInput
from ..core.model import HashModel

ITEMS = 4
ROUNDING = 1e-4  # of the largest output: sums in another order, on several threads or a GPU, stay below it


def check_repeatable(model: HashModel, split: Split | None = None) -> None:
    """Check that two runs of the same items in evaluation mode agree: items of ``split`` or, without it, random ones.

    Raises:
        InputError: they do not, as with a dropout that is never switched off.
    """
    net, training = model.net, model.net.training
    device = next((value.device for value in net.parameters()), torch.device("cpu"))
    net.eval()
    try:
        inputs = _items(model.arch.input, split).to(device)
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            first, second = (net(inputs.clone()).float() for _ in range(2))
    except Exception:  # whoever needs the network to run reports what it cannot take
        return
    finally:
        net.train(training)
    if first.shape != second.shape or bool((~_agree(first, second)).any()):
        differ = float(((first >= 0) != (second >= 0)).float().mean()) if first.shape == second.shape else 1.0
        raise InputError(
            f"the network answers differently each time: {differ:.0%} of the bits of the same {len(inputs)} items differ "
            "between two runs in evaluation mode; switch off what is random outside of training, for example with "
            "nn.Dropout or functional.dropout(x, p, training=self.training)"
        )


def _agree(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return where two outputs are equal up to rounding; NaN equals NaN, for others to report."""
    bound = ROUNDING * first.abs().nan_to_num(0, 0, 0).max()
    return ((first - second).abs() <= bound) | (first == second) | (first.isnan() & second.isnan())


def _items(taken: Input, split: Split | None) -> torch.Tensor:
    """Return a few inputs of a network."""
    if split is not None and len(split.train):
        return taken.tensor(np.asarray(split.train.values[:ITEMS]))
    generator = np.random.default_rng(0)
    if isinstance(taken, ImageInput):
        return taken.tensor(generator.integers(0, 256, (ITEMS, *taken.shape), dtype=np.uint8))
    if isinstance(taken, VectorInput):
        return torch.from_numpy(generator.standard_normal((ITEMS, *taken.shape), dtype=np.float32))
    return taken.example(ITEMS)
