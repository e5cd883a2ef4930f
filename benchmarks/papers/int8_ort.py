"""Integer networks beside ONNX Runtime's static quantization: bit flips and mAP of a 48-bit ResNet-20, same images.

    HASHPRESS_DATA=DIR python -m benchmarks.papers.int8_ort [STAGE ...]

Stages ``ours``, ``ort``, ``low`` (weights of 4 and 3 bits, which ONNX Runtime's convolutions do not have), ``alexnet``
(both on the AlexNet hash network of ``deepfried``, at 64x64) and ``moved`` (both on that network after ``thresholds``). All queries; ResNet-20 searches the whole database of
protocol B, AlexNet 10,000 of its images. Our networks run as compiled bundles. ONNX Runtime gets the same folded network
and the same calibration images, QDQ, per-channel symmetric int8 weights and uint8 activations, with each of its
calibration methods. By default it rounds the network's outputs to 8 bits too: outputs within half a step of zero become
zero, which is bit 1. Both are judged with real outputs and with outputs on that grid of its. The targets compare the same
network and the same calibration range on both sides, flipped bits and mAP of one setting: ours rounded to the nearest, as
ONNX Runtime rounds, and ``learned`` (which looks at 4,096 images instead of 512). A difference of mAP below two of its
standard errors, taken query by query, counts as none. Cells without targets: ``task`` (learned rounding that also sees
labels), ``thresholds`` and ``some`` (that pass after ours alone; it flips bits on purpose). In ``moved`` both sides get the
network after ``thresholds``, and bits count as flipped where they differ from that network's.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from hashpress.compress.observe.sampling import choose
from hashpress.compress.passes import Int8, Pass, Thresholds
from hashpress.compress.recipe.recipe import Recipe
from hashpress.core.data import Split
from hashpress.core.files import atomic_write
from hashpress.core.model import HashModel
from hashpress.targets.compile import compile_model
from hashpress.targets.onnx import export_onnx
from hashpress.targets.runtime import Runtime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from ..lib.cells import SEED, Book, Output, Target, run
from ..lib.hashing import Hasher, cifar10, hasher, judged, resnet20
from . import deepfried

BOOK = Book("int8_ort")
IMAGES = 512
METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
PLAIN = ("nearest", "obs", "learned")  # roundings that see no labels, as ONNX Runtime's, and move no thresholds
COMPARED = ("nearest", "learned")  # as ONNX Runtime rounds, and the best of ours
PEERS = {"minmax": "minmax", "percentile": "percentile", "mse": "entropy"}  # our ranges: the nearest of theirs
ROUNDINGS: dict[str, dict[str, Any]] = {
    "nearest": {"rounding": "nearest"},
    "obs": {"rounding": "obs"},
    "learned": {"rounding": "learned"},
    "task": {"rounding": "learned", "task": 2.0, "steps": 1200},
    "thresholds": {"rounding": "obs"},
    "some": {"rounding": "obs"},
}
AFTER: dict[str, tuple[Pass, ...]] = {
    "thresholds": (Thresholds(),),
    "some": (Thresholds(flips=0.004),),
}
ALL = 10_000  # queries
BATCH = 500
LARGEST = 8  # bits of weights
ERRORS = "standard_errors_of_map_against_ort"
PAPER = {"note": "no paper: the peer is onnxruntime.quantization.quantize_static"}


class Reader(CalibrationDataReader):
    """Calibration images one by one."""

    def __init__(self, model: HashModel, pixels: np.ndarray) -> None:
        self.rows: Iterator[np.ndarray] = iter(model.arch.input.normalise(pixels).numpy())

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next image, or None."""
        row = next(self.rows, None)
        return None if row is None else {"images": row[None]}


def quantised(model: HashModel, method: str, split: Split, *, real: bool) -> bytes:
    """Return ONNX Runtime's integer network; ``real`` leaves its outputs as they are instead of rounding them to 8 bits."""
    options = {"ActivationSymmetric": False, "WeightSymmetric": True}
    with tempfile.TemporaryDirectory() as folder:
        plain, ready, small = (str(Path(folder) / name) for name in ("plain.onnx", "ready.onnx", "small.onnx"))
        export_onnx(model, plain)
        quant_pre_process(plain, ready)
        quantize_static(
            ready, small, Reader(model, choose(split, IMAGES, SEED)[:]), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=METHODS[method],
            extra_options=options | ({"OpTypesToExcludeOutputQuantization": ["Gemm"]} if real else {}),
        )  # fmt: skip
        return Path(small).read_bytes()


def theirs(model: HashModel, network: bytes) -> Hasher:
    """Return what hashes with ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])

    def hashed(pixels: np.ndarray) -> np.ndarray:
        inputs = model.arch.input.normalise(pixels).numpy()
        return np.concatenate([session.run(None, {"images": row[None]})[0] for row in inputs])

    return hashed


def last_grid(network: bytes) -> tuple[float, int]:
    """Return scale and zero of the outputs of ONNX Runtime's network."""
    graph = onnx.load_from_string(network).graph
    last = next(node for node in graph.node if graph.output[0].name in node.output)
    values = {value.name: onnx.numpy_helper.to_array(value) for value in graph.initializer}
    return float(values[last.input[1]]), int(values[last.input[2]])


def compiled(model: HashModel) -> Hasher:
    """Return what hashes with the bundle of ``model``, the same images once."""
    with tempfile.TemporaryDirectory() as folder:
        runtime = Runtime(compile_model(model, "host", Path(folder) / "bundle").path)
    known: dict[int, np.ndarray] = {}

    def hashed(pixels: np.ndarray) -> np.ndarray:
        key = zlib.crc32(np.ascontiguousarray(pixels))
        if key not in known:
            parts = (pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH))
            known[key] = np.concatenate([runtime.outputs(runtime.normalise(part)) for part in parts])
        return known[key]

    return hashed


def rounded(hashed: Hasher, network: bytes) -> Hasher:
    """Return what gives outputs on the grid of 8 bits that ``network`` gives its own on."""
    scale, zero = last_grid(network)
    return lambda pixels: ((np.clip(np.rint(hashed(pixels) / scale) + zero, 0, 255) - zero) * scale).astype(np.float32)


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

    def ours(self, name: str, rounding: str, **settings: Any) -> None:
        """Judge the network after our passes."""
        work = Int8(images=IMAGES, **settings, **ROUNDINGS[rounding])
        recipe = Recipe.of(work, *AFTER.get(rounding, ()))
        hashed = cache(lambda: compiled(recipe.run(self.model(), self.data(), seed=SEED)))
        self.cell(f"ours-{name}-{rounding}", hashed)
        if work.bits == LARGEST:
            self.cell(f"ours-{name}-{rounding}-rounded", lambda: rounded(hashed(), self.network(PEERS[work.range])))

    def network(self, method: str, *, real: bool = False) -> bytes:
        """Return ONNX Runtime's network, kept."""
        path = BOOK.folder / f"{self.prefix}{method}{'-real' * real}.onnx"
        if not path.exists():
            with atomic_write(path) as handle:
                handle.write(quantised(self.model(), method, self.data(), real=real))
        return path.read_bytes()

    def theirs(self) -> None:
        """Judge the uncompressed network and ONNX Runtime's."""
        self.cell("original", lambda: hasher(self.model()))
        for method in METHODS:
            self.cell(f"ort-{method}-rounded", lambda m=method: theirs(self.model(), self.network(m)))
            self.cell(f"ort-{method}", lambda m=method: theirs(self.model(), self.network(m, real=True)))


RESNET20 = Contest("", cache(resnet20), cifar10, 50_000)
ALEXNET = Contest("alexnet-", cache(deepfried.dense), deepfried.cifar10, 10_000)
MOVED = Contest(
    "alexnet-moved-",
    cache(lambda: Thresholds()(ALEXNET.model(), ALEXNET.data(), seed=SEED)),
    ALEXNET.data,
    ALEXNET.stored,
)


NETWORKS = {"": "ResNet-20", ALEXNET.prefix: "AlexNet", MOVED.prefix: "AlexNet after thresholds"}


def ours() -> None:
    """Quantize ResNet-20 with our pass."""
    for how in PEERS:
        for rounding in ROUNDINGS:
            RESNET20.ours(how, rounding, range=how)


def low() -> None:
    """Quantize inner weights of ResNet-20 to 4 and 3 bits."""
    for bits in (4, 3):
        for rounding in ROUNDINGS:
            RESNET20.ours(f"{bits}bit", rounding, bits=bits)


def alexnet() -> None:
    """Quantize the AlexNet of ``deepfried`` with both."""
    ALEXNET.theirs()
    for how in PEERS:
        for rounding in ROUNDINGS:
            ALEXNET.ours(how, rounding, range=how)


def moved() -> None:
    """Quantize that network after ``thresholds`` with both."""
    MOVED.theirs()
    for how in PEERS:
        for rounding in PLAIN:
            MOVED.ours(how, rounding, range=how)


def against(prefix: str, spreads: dict[str, float]) -> list[Target]:
    """Return how our networks compare with ONNX Runtime's of the same range: flipped bits and mAP of one and the same setting.

    A mAP that is lower by no more than two standard errors of the difference counts as equal.
    """
    cells, targets = BOOK.found(), []
    for method in ("minmax", "percentile"):
        for outputs, end in (("real outputs", ""), ("outputs of both in 8 bits", "-rounded")):
            for rounding in COMPARED:
                name = f"{prefix}ours-{method}-{rounding}{end}"
                ours, peer = cells.get(name), cells.get(f"{prefix}ort-{method}{end}")
                if ours is None or peer is None or name not in spreads:
                    continue
                words = f"{NETWORKS[prefix]}, {method}, {rounding}, {outputs}"
                flips = round(ours["flips_percent"] - peer["flips_percent"], 4)
                targets.append(Target(f"{words}: bits flipped, ours minus ort's, points", flips, "<=", 0.0))
                score, least = round(ours["map"] - peer["map"], 5), round(-2 * spreads[name], 6)
                line = f"{words}: mAP, ours minus ort's, equal within two standard errors"
                targets.append(Target(line, score, ">=", least))
    return targets


def errors() -> dict[str, float]:
    """Return the standard error of the difference of mAP between each of ours and ONNX Runtime's network of its range."""
    found = dict(BOOK.published().get("paper", {}).get(ERRORS, {}))
    for path in sorted(BOOK.folder.glob("*ours-*.npy")):
        prefix, how = path.stem.split("ours-")
        method = PEERS.get(how.split("-")[0])
        peer = BOOK.folder / f"{prefix}ort-{method}{'-rounded' * how.endswith('-rounded')}.npy"
        found.pop(path.stem, None)
        if peer.exists():
            apart = np.load(path) - np.load(peer)
            found[path.stem] = round(float(apart.std() / len(apart) ** 0.5), 6)
    return {name: found[name] for name in sorted(found, key=lambda name: f"{name}.npy")}


def finish(output: Output) -> None:
    """Write the table."""
    if BOOK.found():
        spreads = errors()
        targets = [line for prefix in NETWORKS for line in against(prefix, spreads)]
        BOOK.publish(output, {**PAPER, ERRORS: spreads}, targets, settings={"images": IMAGES, "compared": COMPARED})


if __name__ == "__main__":
    run({"ort": RESNET20.theirs, "ours": ours, "low": low, "alexnet": alexnet, "moved": moved}, finish)
