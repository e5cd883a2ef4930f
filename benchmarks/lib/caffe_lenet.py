"""LeNet-5 trained as Caffe's example trains it (examples/mnist/lenet_solver.prototxt)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from torch import nn

from .cells import SEED, mnist

STEPS = 10_000


def caffe_lenet(*, seed: int = SEED, **options: Any) -> HashModel:
    """Return an untrained LeNet-5 with Xavier's initial values, pixels from 0 to 1."""
    model = untrained(default_arch("lenet5", 10, ImageInput((1, 28, 28), (0.0,), (1.0,)), **options), seed=seed)
    torch.manual_seed(seed)
    for layer in model.net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            bound = (3 / layer.weight[0].numel()) ** 0.5
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)
    return model


def train_as_caffe(_: Path) -> HashModel:
    """Return LeNet-5 after Caffe's training, with products in bfloat16."""
    return as_caffe(caffe_lenet(), halved=True)


def as_caffe(model: HashModel, *, seed: int = SEED, halved: bool = False) -> HashModel:
    """Return ``model``, trained in place by 10,000 steps of 64 images; ``halved`` has products in bfloat16."""
    images, spec = mnist().train, model.arch.input
    net: Any = model.net.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]  # torch's stubs
    groups = [
        {"params": [value for name, value in net.named_parameters() if name.endswith("bias") is biases]}
        for biases in (False, True)
    ]
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9, weight_decay=5e-4)
    generator, step = torch.Generator().manual_seed(seed), 0
    while step < STEPS:
        for index in torch.randperm(len(images), generator=generator).split(64)[: STEPS - step]:
            batch = images.take(index.numpy())
            inputs = spec.normalise(batch.pixels).contiguous(memory_format=torch.channels_last)
            rate = 0.01 * (1 + 1e-4 * step) ** -0.75
            for group, factor in zip(optimizer.param_groups, (1, 2), strict=True):
                group["lr"] = factor * rate
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=halved):
                given = net(inputs)
            loss = nn.functional.cross_entropy(given.float(), torch.from_numpy(batch.labels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    net.to(memory_format=torch.contiguous_format).eval()
    return model
