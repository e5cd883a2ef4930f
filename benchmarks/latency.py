"""Latency of bundles against ONNX Runtime, side by side: one process, one thread each, batch 1, runs in turn.

``python -m benchmarks.latency [NAME...]`` measures the networks named and writes ``results/latency.json``;
other benchmarks call :func:`side_by_side`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.encoders.alexnet import AlexNet
from hashpress.targets.compile import compile_model
from hashpress.targets.onnx import export_onnx, open_session
from hashpress.targets.runtime import Runtime

from .lib.results_io import Target, output_of, write_result

SEED = 0
ROUNDS, SECONDS = 5, 4.0  # each round lasts about so long; its runs alternate between the two
COMPILE_LIMIT = 20.0
ASKED = ("resnet20", "smallconv", "alexnet_features")  # the others are measured when named


class Features(torch.nn.Module):
    """The five convolutions of AlexNet with their pooling; 9,216 numbers an image of 224 x 224."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.features = AlexNet(shape, hidden=(1, 1)).features
        self.width = 9216

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, 9216)."""
        return self.features(images).flatten(1)


def network(name: str) -> HashModel:
    """Return an untrained network of 48 bits by name; latency does not depend on the values.

    ``alexnet_features`` is AlexNet without its two dense layers of 4096: the head reads the last pooling.
    """
    if name == "alexnet_features":
        arch = default_arch("latency:Features", 48, default_arch("alexnet", 48).input)
        return untrained(arch, seed=SEED, trust_code=True)
    arch = default_arch(name, 48)
    return untrained(arch, seed=SEED)


def side_by_side(model: HashModel, name: str, work: Path) -> dict[str, Any]:
    """Compile ``model``, export it to ONNX, and time both on one image; ``work`` keeps the files.

    The ratio is the median over all runs of ours divided by the neighbouring run of ONNX Runtime; medians of each and
    the ratio of every round show the spread.
    """
    began, worked = time.perf_counter(), time.process_time()
    bundle = compile_model(model, "host", work / f"{name}.bundle")
    compile_seconds, compile_cpu_seconds = time.perf_counter() - began, time.process_time() - worked
    export_onnx(model, work / f"{name}.onnx")
    runtime, session = Runtime(bundle.path), open_session(work / f"{name}.onnx")
    image = np.random.default_rng(SEED).standard_normal((1, *model.arch.input.shape), dtype=np.float32)
    feed = {session.get_inputs()[0].name: image}
    ours, peer = (lambda: runtime.outputs(image)), (lambda: session.run(None, feed)[0])
    largest = float(np.abs(ours() - peer()).max())
    return {
        **in_turn({"hashpress": ours, "onnxruntime": peer}),
        "compile_seconds": compile_seconds,
        "compile_cpu_seconds": compile_cpu_seconds,  # what is left of it on an idle machine
        "largest_difference": largest,
        "macs": sum(step["macs"] for step in bundle.manifest["steps"]),
    }


def in_turn(calls: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Time two calls in turn: milliseconds of each, and the ratio of the first to the second with its spread."""
    rounds = [_round(*calls.values(), SECONDS / ROUNDS) for _ in range(ROUNDS)]
    pairs = np.concatenate(rounds)
    return {
        "ratio": float(np.median(pairs[:, 0] / pairs[:, 1])),
        "ratio_of_medians": float(np.median(pairs[:, 0]) / np.median(pairs[:, 1])),
        "ratio_by_round": [float(np.median(part[:, 0] / part[:, 1])) for part in rounds],
        **{f"{name}_ms": _summary(pairs[:, place]) for place, name in enumerate(calls)},
        "runs": len(pairs),
    }


def _round(ours: Callable[[], Any], peer: Callable[[], Any], seconds: float) -> np.ndarray:
    """Return milliseconds (runs, 2) of runs in turn; which one goes first alternates too."""
    times: list[tuple[float, float]] = []
    for _ in range(3):
        ours(), peer()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 10:
        first = len(times) % 2 == 0
        one = _timed(ours if first else peer)
        other = _timed(peer if first else ours)
        times.append((one, other) if first else (other, one))
    return np.array(times)


def _timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e6


def _summary(values: np.ndarray) -> dict[str, float]:
    low, middle, high, far = np.percentile(values, [0, 50, 90, 99])
    return {"min": float(low), "p50": float(middle), "p90": float(high), "p99": float(far)}


def targets(values: dict[str, Any]) -> list[Target]:
    """Return the targets."""
    asked = []
    for name in ASKED:
        if name in values:
            asked.append(Target(f"{name} latency over ONNX Runtime's, medians", values[name]["ratio"], "<=", 1.0))
            asked.append(Target(f"{name} compile seconds", values[name]["compile_seconds"], "<=", COMPILE_LIMIT))
    return asked


def main() -> None:
    """Measure, print a line a network, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(ASKED), metavar="NAME", help=f"default: {' '.join(ASKED)}")
    rest, output = output_of(sys.argv[1:])
    names = parser.parse_args(rest).names
    output.commit()
    torch.set_num_threads(1)
    values = {}
    with tempfile.TemporaryDirectory(prefix="latency-") as folder:
        for name in names:
            values[name] = entry = side_by_side(network(name), name, Path(folder))
            ours, peer = entry["hashpress_ms"]["p50"], entry["onnxruntime_ms"]["p50"]
            print(f"{name}: {ours:.3f} ms, ONNX Runtime {peer:.3f} ms, ratio {entry['ratio']:.3f} "
                  f"({min(entry['ratio_by_round']):.3f} to {max(entry['ratio_by_round']):.3f}), "
                  f"compiled in {entry['compile_seconds']:.1f} s "
                  f"({entry['compile_cpu_seconds']:.1f} s of processor time)")  # fmt: skip
    settings = {"rounds": ROUNDS, "seconds": SECONDS, "batch": 1}
    written = write_result(
        "latency", values, targets(values),
        kind="measured", settings=settings, settings_tried="nothing is chosen", seed=SEED, output=output,
    )  # fmt: skip
    print(written)


if __name__ == "__main__":
    main()
