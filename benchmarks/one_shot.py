"""Seconds that the recipe ``one-shot`` takes on a ResNet-20 at 3x32x32, one thread: the wall clock, and processor time.

``HASHPRESS_DATA=DIR python -m benchmarks.one_shot CHECKPOINT`` writes ``results/one_shot.json``. DIR has
``cifar10-jpeg.tar.xz``; CHECKPOINT is a ResNet-20 as ``hashpress import`` takes it, for instance
``resnet20-12fca82f.th``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import torch
from hashpress.compress.recipe.load import load_recipe
from hashpress.core.data import Split, load_data
from hashpress.core.model import HashModel
from hashpress.hashnets.importers.recognise import import_checkpoint

from .lib.results_io import Output, Target, output_of, write_result

SEED, BITS, LIMIT, SECONDS = 0, 48, 4000, 60.0
RECIPE = "one-shot"


def measured(model: HashModel, split: Split, output: Output) -> None:
    """Run the recipe, print the seconds, write the result file."""
    began, worked = time.perf_counter(), time.process_time()
    load_recipe(RECIPE).run(model, split, seed=SEED)
    values = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - worked}
    print(f"{values['seconds']:.1f} s, {values['cpu_seconds']:.1f} s of processor time")
    targets = [Target("one-shot on ResNet-20, seconds by the clock", values["seconds"], "<=", SECONDS)]
    written = write_result(
        "one_shot", values, targets,
        kind="measured", settings={"recipe": RECIPE, "limit": LIMIT}, settings_tried="nothing is chosen", seed=SEED,
        output=output,
    )  # fmt: skip
    print(written)


def main() -> None:
    """Measure the recipe on a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    rest, output = output_of(sys.argv[1:])
    checkpoint = parser.parse_args(rest).checkpoint
    output.commit()
    torch.set_num_threads(1)
    split = load_data(f"cifar10:{Path(os.environ['HASHPRESS_DATA']) / 'cifar10-jpeg.tar.xz'}?limit={LIMIT}")
    measured(import_checkpoint(checkpoint, bits=BITS), split, output)


if __name__ == "__main__":
    main()
