"""Size, speed and quality of every shipped recipe on the embedded digits: the columns of ``hashpress ls recipes``.

``python -m benchmarks.recipes [NAME...]`` compresses a small trained network with every recipe (or those named), compiles
both networks for this machine, times them in turn, and writes ``results/recipes.json`` and, with all recipes,
``compress/recipes/measured.json``. Recipes that are made for one network run on a small one of that kind. ``--train``
trains ``nets/digits.safetensors`` anew, the network of all others. Recipes that ask for thousands of steps take STEPS of
them here, so that the whole table takes minutes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hashpress.compress.recipe.load import load_recipe, named_recipes
from hashpress.core.data import load_data
from hashpress.core.files import atomic_write
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.assess import assess
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train
from hashpress.modelfile.file import file_size, load, save
from hashpress.targets.compile import compile_model
from hashpress.targets.runtime import Runtime

from .latency import in_turn
from .lib.results_io import ROOT, write_result

SEED, BITS, WIDTHS, EPOCHS = 0, 24, (32, 32, 48, 128), 20
STEPS = 400
NET = ROOT / "benchmarks" / "nets" / "digits.safetensors"
FROZEN = ROOT / "tests" / "frozen" / "models"
OWN = {  # recipes of one network: the small network of that kind, and its data
    "lenet-300": (FROZEN / "lenet300-classes.safetensors", "digits"),
    "lenet-5": (FROZEN / "lenet5-classes.safetensors", "digits?size=16"),
    "resnet-20": (FROZEN / "resnet20-dpsh.safetensors", "digits"),
}
TABLE = ROOT / "compress" / "recipes" / "measured.json"


def trained() -> HashModel:
    """Return the network of most recipes: the small network of DSH with narrower layers, trained as the demo's."""
    split = load_data("digits")
    arch = default_arch("smallconv", BITS, ImageInput.of(split), widths=WIDTHS)
    schedule = Schedule(epochs=EPOCHS, lr=0.002, optimizer="adam")
    return train(untrained(arch, seed=SEED), split, "dlbhc", schedule, seed=SEED)


def measured(name: str, folder: Path) -> dict[str, Any]:
    """Return what a recipe did to its network: bytes, milliseconds of both bundles, mAP, flips, seconds."""
    place, data = OWN.get(name, (NET, "digits"))
    split, model = load_data(data), load(place)
    began = time.perf_counter()
    recipe = load_recipe(name)
    entries = tuple(
        entry | {"steps": min(entry["steps"], STEPS)} if "steps" in entry else entry for entry in recipe.entries
    )
    small = replace(recipe, entries=entries).run(model, split, seed=SEED)
    seconds = time.perf_counter() - began
    quality = assess(small, split, model)
    runtimes = [
        Runtime(compile_model(net, "host", folder / f"{name}-{side}.bundle").path)
        for side, net in (("before", model), ("after", small))
    ]
    image = np.random.default_rng(SEED).standard_normal((1, *model.arch.input.shape), dtype=np.float32)
    times = in_turn({"original": lambda: runtimes[0].outputs(image), "compressed": lambda: runtimes[1].outputs(image)})
    if quality.original is None or quality.flips is None:
        raise AssertionError("an assessment against an original has both")
    return {
        "network": model.arch.encoder,
        "bits": model.arch.bits,
        "data": data,
        "bytes": [file_size(model), file_size(small)],
        "ms": [round(times[f"{side}_ms"]["p50"], 5) for side in ("original", "compressed")],
        "speed": round(times["ratio"], 3),
        "map": [round(float(quality.original.map), 4), round(float(quality.symmetric.map), 4)],
        "flips": round(float(quality.flips.rate), 4),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """Measure, print a line a recipe, write the result file and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--train", action="store_true", help="train the network anew first")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.train:
        NET.parent.mkdir(exist_ok=True)
        save(trained(), NET)
    values = {}
    with tempfile.TemporaryDirectory(prefix="recipes-") as folder:
        for name in asked.names or named_recipes():
            values[name] = row = measured(name, Path(folder))
            print(f"{name}: {row['bytes'][0]:,} -> {row['bytes'][1]:,} bytes, {row['speed']:.2f} times as fast, "
                  f"mAP {row['map'][0]:.4f} -> {row['map'][1]:.4f}, {row['flips']:.2%} flips, "
                  f"{row['seconds']:.0f} s", flush=True)  # fmt: skip
    print(write_result("recipes", values, [], kind="measured", seed=SEED))
    if not asked.names:
        with atomic_write(TABLE, "w") as handle:
            handle.write(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
