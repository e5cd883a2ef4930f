"""Integer networks beside ONNX Runtime's static quantization: bit flips and mAP of a 48-bit ResNet-20, same images.

    HASHPRESS_DATA=DIR python benchmarks/papers/int8_ort.py [STAGE ...]

Stages ``ours``, ``ort``, ``low`` (weights of 4 and 3 bits, which ONNX Runtime's convolutions do not have) and ``alexnet``
(both on the AlexNet hash network of ``deepfried.py``, at 64x64). All queries; ResNet-20 searches the whole database of
protocol B, AlexNet 10,000 of its images. Our networks run as compiled bundles. ONNX Runtime gets the same folded network
and the same calibration images, QDQ, per-channel symmetric int8 weights and uint8 activations, with each of its
calibration methods. The setting of each range is compared with its own kind, and best with best; beside the difference of
mAP stands its standard error, query by query.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
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
from hashpress.targets.build import compile_model
from hashpress.targets.onnx import export_onnx
from hashpress.targets.runtime import Runtime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

BOOK = Book("int8_ort")
IMAGES = 512
METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
RANGES = ("minmax", "percentile", "mse")
ROUNDINGS = ("nearest", "obs", "learned")
ALL = 10_000  # queries
BATCH = 500
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


def compiled(model: HashModel) -> Hasher:
    """Return what hashes with the bundle of ``model``."""
    with tempfile.TemporaryDirectory() as folder:
        runtime = Runtime(compile_model(model, "host", Path(folder) / "bundle").path)

    def hashed(pixels: np.ndarray) -> np.ndarray:
        parts = (pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH))
        return np.concatenate([runtime.outputs(runtime.normalise(part)) for part in parts])

    return hashed


@dataclass(frozen=True)
class Contest:
    """One network, its images, and how many of the database are searched."""

    prefix: str
    model: Callable[[], HashModel]
    data: Callable[[], Split]
    stored: int

    def cell(self, name: str, make: Callable[[], Hasher]) -> None:
        """Judge one hasher by all queries; the precision of each is kept beside the cell."""
        path = BOOK.folder / f"{self.prefix}{name}.npy"
        reference = hasher(self.model())
        BOOK.cell(path.stem, lambda: judged(make(), reference, ALL, self.data, stored=self.stored, kept_at=path))

    def ours(self, name: str, work: Int8) -> None:
        """Judge the network after our pass."""
        self.cell(f"ours-{name}", lambda: compiled(work(self.model(), self.data(), seed=SEED)))

    def theirs(self) -> None:
        """Judge the uncompressed network and ONNX Runtime's."""
        self.cell("original", lambda: hasher(self.model()))
        for method in METHODS:
            self.cell(f"ort-{method}", lambda m=method: theirs(self.model(), m, self.data()))


RESNET20 = Contest("", cache(resnet20), cifar10, 50_000)
ALEXNET = Contest("alexnet-", cache(deepfried.dense), deepfried.cifar10, 10_000)


def ours() -> None:
    """Quantize ResNet-20 with our pass."""
    for how in RANGES:
        for rounding in ROUNDINGS:
            RESNET20.ours(f"{how}-{rounding}", Int8(range=how, rounding=rounding, images=IMAGES))


def low() -> None:
    """Quantize inner weights of ResNet-20 to 4 and 3 bits."""
    for bits in (4, 3):
        for rounding in ROUNDINGS:
            RESNET20.ours(f"{bits}bit-{rounding}", Int8(bits=bits, rounding=rounding, images=IMAGES))


def alexnet() -> None:
    """Quantize the AlexNet of ``deepfried.py`` with both."""
    ALEXNET.theirs()
    for how in RANGES:
        for rounding in ROUNDINGS:
            ALEXNET.ours(f"{how}-{rounding}", Int8(range=how, rounding=rounding, images=IMAGES))


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


def errors() -> dict[str, float]:
    """Return the standard error of the difference of mAP between each of ours and ONNX Runtime's network of its range."""
    found = {}
    for path in sorted(BOOK.folder.glob("*ours-*.npy")):
        prefix, how = path.stem.split("ours-")
        peer = BOOK.folder / f"{prefix}ort-{how.split('-')[0]}.npy"
        if peer.exists():
            apart = np.load(path) - np.load(peer)
            found[path.stem] = round(float(apart.std() / len(apart) ** 0.5), 6)
    return found


def finish() -> None:
    """Write the table."""
    if BOOK.found():
        BOOK.publish({**PAPER, "standard_errors_of_map_against_ort": errors()}, [*against(""), *against("alexnet-")])


if __name__ == "__main__":
    run({"ort": RESNET20.theirs, "ours": ours, "low": low, "alexnet": alexnet}, finish)
