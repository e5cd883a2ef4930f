"""Images hashed per second, against a plain loop of torch over batches of 100: one thread, processor time, in turn.

``python -m benchmarks.hashing_speed`` writes ``results/hashing_speed.json``. Weights are random: speed does not depend on
them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs

from .lib.results_io import Target, output_of, write_result

SEED, BITS = 0, 48
BATCH = 100  # of the plain loop
IMAGES = {"resnet20": 200, "smallconv": 500, "alexnet": 48}
ROUNDS = 5


def plain_loop(model: HashModel, pixels: np.ndarray) -> np.ndarray:
    """Return the outputs (N, bits) of a plain loop over batches."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (model.arch.input.mean, model.arch.input.std))
    parts = []
    with torch.inference_mode():
        for start in range(0, len(pixels), BATCH):
            part = torch.from_numpy(pixels[start : start + BATCH]).float() / 255
            parts.append(model.net((part - mean) / std))
    return torch.cat(parts).numpy()


def compared(name: str) -> dict[str, Any]:
    """Return images per second of both, the ratio (median over rounds), and the largest difference of outputs."""
    model = untrained(default_arch(name, BITS), seed=SEED)
    model.net.eval()
    count = IMAGES[name]
    pixels = np.random.default_rng(SEED).integers(0, 256, (count, *model.arch.input.shape), dtype=np.uint8)
    difference = float(np.abs(outputs(model, pixels) - plain_loop(model, pixels)).max())
    calls: list[Callable[[], Any]] = [lambda: outputs(model, pixels), lambda: plain_loop(model, pixels)]
    seconds = np.empty((ROUNDS, 2))
    for turn in range(ROUNDS):
        for which in (0, 1) if turn % 2 else (1, 0):
            start = time.process_time()
            calls[which]()
            seconds[turn, which] = time.process_time() - start
    ratios = seconds[:, 1] / seconds[:, 0]
    ours, plain = count / np.median(seconds, axis=0)
    return {
        "images": count,
        "hashpress_per_second": float(ours),
        "plain_loop_per_second": float(plain),
        "ratio": float(np.median(ratios)),
        "ratio_by_round": [float(ratio) for ratio in ratios],
        "largest_difference": difference,
    }


def main() -> None:
    """Measure, print a line a network, write the result file."""
    _, output = output_of(sys.argv[1:])
    output.commit()
    torch.set_num_threads(1)
    values = {}
    for name in IMAGES:
        values[name] = found = compared(name)
        print(
            f"{name}: {found['hashpress_per_second']:.1f} images/s, plain loop {found['plain_loop_per_second']:.1f}, "
            f"ratio {found['ratio']:.2f} ({min(found['ratio_by_round']):.2f} to {max(found['ratio_by_round']):.2f})"
        )
    targets = [
        Target(f"{name} images hashed over a plain torch loop's", found["ratio"], ">=", 1.0)
        for name, found in values.items()
    ]
    settings = {"images": IMAGES, "rounds": ROUNDS, "batch_of_the_plain_loop": BATCH}
    written = write_result(
        "hashing_speed", values, targets,
        kind="measured", settings=settings, settings_tried="nothing is chosen", seed=SEED, output=output,
    )  # fmt: skip
    print(written)


if __name__ == "__main__":
    main()
