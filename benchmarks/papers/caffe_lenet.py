"""LeNet-5 trained as Caffe's example trains it (examples/mnist/lenet_solver.prototxt), with products in bfloat16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from cells import SEED, mnist
from hashpress.core.model import HashModel, InputSpec
from hashpress.hashnets.build import default_arch, untrained
from torch import nn

STEPS = 10_000


def train_as_caffe(_: Path) -> HashModel:
    """Return LeNet-5 from Xavier's initial values, pixels from 0 to 1, after 10,000 steps of 64 images."""
    arch = default_arch("lenet5", 10, InputSpec((1, 28, 28), (0.0,), (1.0,)))
    model, images = untrained(arch, seed=SEED), mnist().train
    torch.manual_seed(SEED)
    for layer in model.net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            bound = (3 / layer.weight[0].numel()) ** 0.5
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)
    net: Any = model.net.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]  # torch's stubs
    groups = [{"params": [v for v in net.parameters() if (v.ndim > 1) is matrix]} for matrix in (True, False)]
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9, weight_decay=5e-4)
    generator, step = torch.Generator().manual_seed(SEED), 0
    while step < STEPS:
        for index in torch.randperm(len(images), generator=generator).split(64)[: STEPS - step]:
            batch = images.take(index.numpy())
            inputs = arch.input.normalise(batch.pixels).contiguous(memory_format=torch.channels_last)
            rate = 0.01 * (1 + 1e-4 * step) ** -0.75
            for group, factor in zip(optimizer.param_groups, (1, 2), strict=True):
                group["lr"] = factor * rate
            with torch.autocast("cpu", dtype=torch.bfloat16):
                given = net(inputs)
            loss = nn.functional.cross_entropy(given.float(), torch.from_numpy(batch.labels))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
    net.to(memory_format=torch.contiguous_format).eval()
    return model
