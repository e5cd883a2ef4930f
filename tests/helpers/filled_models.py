"""Networks after any edits, with drawn values: model files of every kind without running a pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from hashpress.core.inputs import ImageInput
from hashpress.core.model import Arch, Edit, HashModel, Step
from hashpress.modelfile.edits import Folded, Pruned, rebuild
from hashpress.modelfile.layers.factored import Factored
from hashpress.modelfile.layers.fastfood import Fastfooded
from hashpress.modelfile.layers.hashed import Hashed
from hashpress.modelfile.layers.int8 import Quantized
from hashpress.modelfile.layers.narrowed import Narrowed, Repadded
from hashpress.modelfile.layers.pq import ProductQuantized
from hashpress.modelfile.layers.shared import Shared

CONV2 = (6, 4, 5, 5)
CHAINS = {"cp4": (3,), "cp3": (2,), "tucker2": (2, 3), "lowrank": (3,), "lowrank3d": (2, 3)}
BANDS = (4, 3, 3, 2, 2, 2, 1, 1, 5)
LENET: dict[str, tuple[Edit, ...]] = {
    "plain": (),
    "shared": (
        Pruned(("encoder.conv2", "encoder.fc1")),
        Shared("encoder.conv2", 5, scaled=True),
        Shared("encoder.fc1", 300, half=False),
    ),
    "hashed": (
        Hashed("encoder.conv1", (4, 1, 5, 5), BANDS, 4294967295),
        Hashed("encoder.conv2", CONV2, (37,), 7, half=False),
        Hashed("head", (12, 10), (16,), 0),
    ),
    "fastfood": (Fastfooded("encoder.fc1", 3), Fastfooded("head", 1 << 31, half=False)),
    "pq": (
        ProductQuantized("encoder.conv2", 4, 3, 7, permuted=True),
        ProductQuantized("encoder.fc1", 6, 6, 257, half=False),
        ProductQuantized("head", 10, 1, 1, permuted=True),
    ),
    "int8": (
        Quantized("encoder.conv2", 0.0371, 3, 0.0078125, 4, 8),
        Quantized("encoder.fc1", 0.5, 0, 2.0**-9, 8, 5),
        Quantized("head", 1e-3, 17, 0.0),
    ),
    "mixed": (
        Hashed("encoder.conv1", (4, 1, 5, 5), BANDS, 12),
        ProductQuantized("encoder.conv2", 4, 2, 16, permuted=True),
        Fastfooded("encoder.fc1", 5),
        Quantized("head", 0.02, 5, 0.0),
    ),
} | {
    form: (Factored("encoder.conv2", form, ranks, bias=True), Shared("encoder.conv2.0", 4, scaled=True))
    for form, ranks in CHAINS.items()
}
RESNET: tuple[Edit, ...] = (
    Folded("encoder.bn1", "encoder.conv1"),
    Narrowed("encoder.layer1.0.conv1", 2, 1),
    Narrowed("encoder.layer1.0.bn1", 1, 1),
    Narrowed("encoder.layer1.0.conv2", 1, 2),
    Repadded("encoder.layer2.0", 0, 1),
    Shared("encoder.layer1.1.conv1", 3, scaled=True),
    Folded("encoder.layer1.1.bn1", "encoder.layer1.1.conv1"),
    Factored("head", "lowrank", (2,)),
)
LENET5 = Arch("lenet5", 12, ImageInput((1, 16, 16), (0.3,), (0.4,)), {"widths": [4, 6, 10]})
LENET300 = Arch("lenet300", 5, ImageInput((1, 8, 8), (0.5,), (0.25,)), {"widths": [20, 7]})
RESNET20 = Arch("resnet20", 4, ImageInput((3, 8, 8), (0.4, 0.5, 0.6), (0.2, 0.2, 0.25)), {"widths": [2, 3, 4]})


def every_kind() -> dict[str, HashModel]:
    """A model of every kind of edit, by name."""
    models = {name: filled(LENET5, edits, seed) for seed, (name, edits) in enumerate(LENET.items())}
    models["large plain"] = filled(LENET300, (), 20)
    models["structure"] = filled(RESNET20, RESNET, 21)
    return models


def filled(arch: Arch, edits: Sequence[Edit], seed: int) -> HashModel:
    """The network of ``arch`` after ``edits`` with values drawn from ``seed``, some of them odd."""
    generator = np.random.default_rng(seed)
    net = rebuild(arch, edits)
    shapes = {name: (tuple(value.shape), value.dtype) for name, value in net.state_dict().items()}
    halves = {f"{edit.layer}." for edit in edits if getattr(edit, "half", False)}
    whole = {f"{edit.layer}.bias" for edit in edits if isinstance(edit, Quantized)}
    pruned = {f"{layer}.form.indices" for edit in edits if isinstance(edit, Pruned) for layer in edit.layers}
    state = {}
    for name, (shape, dtype) in shapes.items():
        codebook = shapes.get(name.removesuffix("indices") + "codebook", ((1,), None))[0]
        entries = codebook[min(len(codebook) - 1, 1)]
        if name.endswith("order"):
            array = generator.permutation(shape[0])
        elif name.endswith("integers"):
            array = generator.integers(-128, 128, shape)
        elif dtype != torch.float32:
            array = generator.integers(0, entries, shape) * (generator.random(shape) < (0.3 if name in pruned else 1))
        elif name in whole:
            array = np.rint(generator.normal(size=shape) * 1000)
        else:
            array = drawn(generator, shape)
            array = array.astype(np.float16).astype(np.float32) if name.startswith(tuple(halves)) else array
        state[name] = torch.from_numpy(np.ascontiguousarray(array)).to(dtype)
    net.load_state_dict(state, assign=True)
    step = Step("filled", {"seed": seed}, seed, {}, {"bytes": 1.5})
    return HashModel(net.eval(), arch, tuple(edits), (step,))


def drawn(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Float32 values: normal ones, halves, multiples of a power of two, or many zeros."""
    values = generator.normal(size=shape).astype(np.float32)
    how = generator.integers(0, 5)
    if how == 1:
        return np.asarray(values.astype(np.float16).astype(np.float32))
    if how == 2:
        return np.asarray(np.rint(values * 8) / np.float32(8), dtype=np.float32)
    if how == 3:
        return np.asarray(np.where(generator.random(shape) < 0.3, values, np.float32(0)))
    return np.asarray(values)


def bits_of(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Shape, type and bytes of every tensor, to be compared bit for bit."""
    return {name: (array.shape, array.dtype.str, array.tobytes()) for name, array in tensors.items()}
