"""Seconds that the recipe ``one-shot`` takes on a ResNet-20 at 3x32x32, one thread: the wall clock, and processor time.

``HASHPRESS_DATA=DIR python -m benchmarks.one_shot CHECKPOINT`` writes ``results/one_shot.json``. DIR has
``cifar10-jpeg.tar.xz``; CHECKPOINT is a ResNet-20 as ``hashpress import`` takes it, for instance
``resnet20-12fca82f.th``.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch
from hashpress.compress.recipe.load import load_recipe
from hashpress.core.data import load_data
from hashpress.hashnets.importers.recognise import import_checkpoint

from .lib.results_io import Target, write_result

SEED, BITS, LIMIT, SECONDS = 0, 48, 4000, 60.0


def main() -> None:
    """Measure, print the seconds, write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    checkpoint = parser.parse_args().checkpoint
    torch.set_num_threads(1)
    split = load_data(f"cifar10:{Path(os.environ['HASHPRESS_DATA']) / 'cifar10-jpeg.tar.xz'}?limit={LIMIT}")
    model = import_checkpoint(checkpoint, bits=BITS)
    began, worked = time.perf_counter(), time.process_time()
    load_recipe("one-shot").run(model, split, seed=SEED)
    values = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - worked}
    print(f"{values['seconds']:.1f} s, {values['cpu_seconds']:.1f} s of processor time")
    targets = [Target("one-shot on ResNet-20, seconds by the clock", values["seconds"], "<=", SECONDS)]
    print(write_result("one_shot", values, targets, kind="measured", seed=SEED))


if __name__ == "__main__":
    main()
