"""Small untrained networks on images of 16x16, and what tests ask of them."""

from __future__ import annotations

import numpy as np
import torch
from hashpress.core.data.images import Images
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import build, default_arch
from hashpress.hashnets.retrieval.codes import outputs

SPEC = ImageInput((1, 16, 16), (0.5,), (0.5,))


def a_model(encoder="lenet5", bits=12, *, spec=SPEC, seed=1, norms=False, **options):
    """Return a network; with ``norms`` its batch norms do something, as those of a trained one."""
    arch = default_arch(encoder, bits, spec, **options)
    net = build(arch, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    for layer in net.modules():
        if norms and isinstance(layer, torch.nn.BatchNorm2d):
            for values, low in (
                (layer.weight, 0.5),
                (layer.bias, -0.5),
                (layer.running_mean, -0.5),
                (layer.running_var, 0.5),
            ):
                values.data.copy_(torch.rand(values.shape, generator=generator) + low)
    return HashModel(net, arch)


def some_images(spec=SPEC, count=40, seed=0):
    generator = np.random.default_rng(seed)
    return Images(
        generator.integers(0, 256, (count, *spec.shape), dtype=np.uint8),
        generator.integers(0, 4, count).astype(np.int64),
    )


def flips(model, other, split):
    """Return the share of the bits of all queries on which two networks differ."""
    pixels = split.queries.pixels
    return float(np.mean((outputs(model, pixels) >= 0) != (outputs(other, pixels) >= 0)))
