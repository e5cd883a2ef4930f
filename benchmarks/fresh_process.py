"""Run a bundle where torch is never imported: ``python -m benchmarks.fresh_process BUNDLE INPUTS.npy OUTPUTS.npy``."""

import sys

import numpy as np
from hashpress.targets.runtime import Runtime

BATCH = 1


def main(bundle: str, inputs: str, outputs: str) -> None:
    """Write the real-valued outputs (N, bits) of all inputs (N, C, H, W), one inference each."""
    runtime = Runtime(bundle)
    images = np.load(inputs, mmap_mode="r")
    given = [runtime.outputs(np.ascontiguousarray(images[at : at + BATCH])) for at in range(0, len(images), BATCH)]
    np.save(outputs, np.concatenate(given))
    if "torch" in sys.modules:
        sys.exit("torch was imported")


if __name__ == "__main__":
    main(*sys.argv[1:])
