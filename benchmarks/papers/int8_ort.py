"""Integer networks beside ONNX Runtime's static quantization: bit flips and mAP of a 48-bit ResNet-20, same images.

    HASHPRESS_DATA=DIR python benchmarks/papers/int8_ort.py [STAGE ...]

Stages ``ours``, ``ort``, ``low`` (weights of 4 and 3 bits, which ONNX Runtime's convolutions do not have) and ``alexnet``
(both on the AlexNet hash network of ``deepfried.py``, at 64x64). ONNX Runtime gets
the same folded network and the same calibration images, QDQ, per-channel symmetric int8 weights and uint8 activations,
with each of its calibration methods. The setting of each range is compared with its own kind, and best with best.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import deepfried
import numpy as np
import onnxruntime
from cells import SEED, Book, Target, run
from hashing import Hasher, cifar10, hasher, judged, resnet20
from hashpress.compress.calibrate import choose
from hashpress.compress.passes.int8 import Int8
from hashpress.core.data import Split
from hashpress.core.model import HashModel
from hashpress.targets.onnx import export_onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

BOOK = Book("int8_ort")
IMAGES = 512
METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
well_judged = partial(judged, asked=10_000)
PAPER = {"note": "no paper: the peer is onnxruntime.quantization.quantize_static"}


class Reader(CalibrationDataReader):
    """Calibration images one by one."""

    def __init__(self, model: HashModel, pixels: np.ndarray) -> None:
        self.rows: Iterator[np.ndarray] = iter(model.arch.input.normalise(pixels).numpy())

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next image, or None."""
        row = next(self.rows, None)
        return None if row is None else {"images": row[None]}


def theirs(model: HashModel, method: str, split: Split) -> Any:
    """Return what hashes with ONNX Runtime's integer network."""
    with tempfile.TemporaryDirectory() as folder:
        plain, ready, small = (str(Path(folder) / name) for name in ("plain.onnx", "ready.onnx", "small.onnx"))
        export_onnx(model, plain)
        quant_pre_process(plain, ready)
        quantize_static(
            ready, small, Reader(model, choose(split, IMAGES, SEED)[:]), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=METHODS[method],
            extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
        )  # fmt: skip
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(Path(small).read_bytes(), options, providers=["CPUExecutionProvider"])

    def hashed(pixels: np.ndarray) -> np.ndarray:
        inputs = model.arch.input.normalise(pixels).numpy()
        return np.concatenate([session.run(None, {"images": row[None]})[0] for row in inputs])

    return hashed


def ours() -> None:
    """Quantize with our pass."""
    model = resnet20()
    reference = hasher(model)
    BOOK.cell("original", lambda: well_judged(reference, reference))
    for how in ("minmax", "percentile", "mse"):
        for rounding in ("nearest", "obs", "learned"):
            settings = Int8(range=how, rounding=rounding, images=IMAGES)
            BOOK.cell(
                f"ours-{how}-{rounding}",
                lambda s=settings: well_judged(hasher(s(model, cifar10(), seed=SEED)), reference),
            )


def ort() -> None:
    """Quantize with ONNX Runtime."""
    model = resnet20()
    for method in METHODS:
        BOOK.cell(f"ort-{method}", lambda m=method: well_judged(theirs(model, m, cifar10()), hasher(model)))


def low() -> None:
    """Quantize inner weights to 4 and 3 bits."""
    model = resnet20()
    for bits in (4, 3):
        for rounding in ("nearest", "obs", "learned"):
            settings = Int8(bits=bits, rounding=rounding, images=IMAGES)
            BOOK.cell(
                f"ours-{bits}bit-{rounding}",
                lambda s=settings: well_judged(hasher(s(model, cifar10(), seed=SEED)), hasher(model)),
            )


def alexnet() -> None:
    """Quantize the AlexNet of ``deepfried.py`` with both."""
    model, split = deepfried.dense(), deepfried.cifar10()
    reference = hasher(model)

    def cell(name: str, make: Callable[[], Hasher]) -> None:
        BOOK.cell(f"alexnet-{name}", lambda: judged(make(), reference, data=lambda: split))

    cell("original", lambda: reference)
    for method in METHODS:
        cell(f"ort-{method}", lambda m=method: theirs(model, m, split))
    for how in ("minmax", "percentile", "mse"):
        for rounding in ("nearest", "obs"):
            settings = Int8(range=how, rounding=rounding, images=IMAGES)
            cell(f"ours-{how}-{rounding}", lambda s=settings: hasher(s(model, split, seed=SEED)))


def against(prefix: str) -> list[Target]:
    """Return what the cells of one network have to reach."""
    cells = {name.removeprefix(prefix): cell for name, cell in BOOK.found().items() if name.startswith(prefix)}
    about = f"{prefix.rstrip('-')}, " if prefix else ""
    targets = []
    for method in ("minmax", "percentile"):
        peer = cells.get(f"ort-{method}")
        mine = [cells[name] for name in cells if name.startswith(f"ours-{method}-")]
        if peer and mine:
            best = min(cell["flips_percent"] for cell in mine)
            targets.append(
                Target(
                    f"{about}bits flipped against ort, {method}, points",
                    round(best - peer["flips_percent"], 4),
                    "<=",
                    0.0,
                )
            )
            score = round(max(cell["map"] for cell in mine) - peer["map"], 5)
            targets.append(Target(f"{about}mAP against ort, {method}", score, ">=", 0.0))
    peers = [cell for name, cell in cells.items() if name.startswith("ort-")]
    mine = [cell for name, cell in cells.items() if name.startswith("ours-") and "bit" not in name]
    if peers and mine:
        flips = min(cell["flips_percent"] for cell in mine) - min(cell["flips_percent"] for cell in peers)
        score = max(cell["map"] for cell in mine) - max(cell["map"] for cell in peers)
        targets.append(Target(f"{about}bits flipped against ort, best with best, points", round(flips, 4), "<=", 0.0))
        targets.append(Target(f"{about}mAP against ort, best with best", round(score, 5), ">=", 0.0))
    return targets


def finish() -> None:
    """Write the table."""
    if BOOK.found():
        BOOK.publish(PAPER, [*against(""), *against("alexnet-")])


if __name__ == "__main__":
    run({"ours": ours, "ort": ort, "low": low, "alexnet": alexnet}, finish)
