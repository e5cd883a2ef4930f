"""Memory and time of every pass on AlexNet (57 million parameters), each in a process of its own, without fine-tuning.

    HASHPRESS_DATA=DIR python -m benchmarks.alexnet_passes [PASS ... | publish]

A pass may take three times the bytes of the model's float32 parameters, the model it is given and its result included,
beside what the process held before the model was loaded (libraries and 4,096 images, the most that a pass looks at unless
it is told), and ten minutes by the clock on two cores; other work on the machine counts. Loading the model and writing
the result are measured by themselves. The network is untrained: neither time nor memory depends on the values much,
except for ``merge``. ``int8-learned`` takes 20 of its 400 steps; ``int8-learned-default`` takes all of them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "2")

import torch
from hashpress.compress.passes import PASSES
from hashpress.core.data import Split, load_data
from hashpress.hashnets.build import default_arch, untrained
from hashpress.modelfile.file import load, save
from hashpress.profiling import machine

from .lib.results_io import FOLDER, ROOT, Output, Target, output_of, write_result

WORK = ROOT / "runs" / "alexnet"
RESULT = FOLDER / "alexnet_passes.json"
SEED = 0
WORDS = {"int8-learned": "int8-learned, 20 of its 400 steps,"}  # of passes that do not take their default settings
MEMORY, SECONDS = 3.0, 600.0
IMAGES = 4096  # as many as `thresholds` takes by default
SETTINGS: dict[str, dict[str, Any]] = {
    "prune": {"density": 0.11},
    "prune-obs": {"density": 0.11, "compensate": "obs"},
    "prune-exact": {"density": 0.11, "compensate": "exact"},
    "prune-sensitivity": {"density": 0.11, "scope": "sensitivity"},
    "share": {"bits": {"conv": 8, "dense": 5}},
    "share-density": {"bits": 5, "start": "density"},
    "share-optimal": {"bits": 5, "start": "optimal"},
    "share-priced": {"bits": 5, "lam": 0.1, "scaled": True},
    "share-outputs": {"bits": 5, "lam": 0.1, "scaled": True, "importance": "outputs"},
    "cp": {"order": 3, "energy": 0.8},
    "cp-data": {"order": 3, "energy": 0.8, "data": True},
    "cp-tucker": {"order": "tucker", "energy": 0.9},
    "lowrank": {"speedup": 2.0},
    "lowrank-3d": {"speedup": 2.0, "three_d": True},
    "merge": {"share": 0.3},
    "merge-refit": {"share": 0.3, "refit": 1000},
    "merge-few": {"share": 0.02, "refit": 1000},
    "merge-conv": {"share": 0.05, "refit": 1000, "kinds": ("conv", "dense")},
    "merge-many-images": {"share": 0.3, "refit": 4096},
    "merge-noise": {"share": 0.3, "refit": 1000, "images": "noise"},
    "merge-outputs": {"share": 0.3, "by": "outputs", "refit": 1000},
    "narrow": {"ratio": 0.3},
    "narrow-taylor": {"ratio": 0.3, "score": "taylor"},
    "narrow-code": {"ratio": 0.3, "score": "code"},
    "narrow-refit": {"ratio": 0.3, "refit": True},
    "narrow-few": {"ratio": 0.05, "refit": True},
    "hashed": {"share": 0.125, "start": "trained"},
    "fastfood": {},
    "pq": {},
    "pq-permute": {"permute": True},
    "pq-priced": {"lam": 0.1},
    "int8": {},
    "int8-4bits": {"bits": 4},
    "int8-obs": {"rounding": "obs"},
    "int8-learned": {"rounding": "learned", "steps": 20},
    "int8-learned-default": {"rounding": "learned"},
    "thresholds": {},
}


def held() -> int:
    """Return the bytes that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_of(call: Callable[[], Any]) -> tuple[Any, int, dict[str, float]]:
    """Return what ``call`` gives, the most bytes the process held meanwhile, and the seconds it took, also of processors."""
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark starts anew
    began = time.perf_counter(), time.process_time()
    value = call()
    seconds = {"clock": round(time.perf_counter() - began[0], 1), "processor": round(time.process_time() - began[1], 1)}
    mark = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return value, 1024 * int(mark[1]) if mark else 0, seconds


def enlarged(split: Split) -> Split:
    """Return the split with every pixel seven times as wide and high: 32 becomes 224."""
    train = replace(split.train, values=split.train.pixels.repeat(7, axis=2).repeat(7, axis=3))
    return replace(split, train=train)


def one(name: str) -> dict[str, Any]:
    """Run one pass here and return what it took."""
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    split = enlarged(
        load_data(f"cifar10:{os.environ['HASHPRESS_DATA']}/cifar10-jpeg.tar.xz?limit={IMAGES}", protocol="B")
    )
    item = PASSES[name.split("-", maxsplit=1)[0]](**SETTINGS[name])
    load(WORK / "small.safetensors").net(
        torch.zeros(1, 3, 32, 32)
    )  # libraries that come into memory at their first use
    before = held()
    model, loading, _ = peak_of(lambda: load(WORK / "alexnet.safetensors"))
    size = 4 * sum(value.numel() for value in model.net.parameters())
    result, working, seconds = peak_of(lambda: item(model, split, seed=SEED))
    out = WORK / f"{name}.safetensors"
    _, writing, more = peak_of(lambda: save(result, out))
    written = out.stat().st_size
    out.unlink()
    peaks = {"load": loading, "pass": working, "save": writing}
    return {
        "settings": SETTINGS[name],
        "cpu": machine.describe()["cpu"],
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "seconds_to_write": more,
        "model_bytes": size,
        "file_bytes": written,
        "times_the_model": {what: round((peak - before) / size, 3) for what, peak in peaks.items()},
    }


def start() -> None:
    """Write the untrained networks once."""
    for name, encoder in (("alexnet", "alexnet"), ("small", "smallconv")):
        if not (WORK / f"{name}.safetensors").exists():
            arch = default_arch(encoder, 48)
            save(untrained(arch, seed=SEED), WORK / f"{name}.safetensors")


def main(chosen: list[str], output: Output) -> None:
    """Run the passes named, or all, each in a process of its own; write the result file, which keeps those measured before."""
    if "HASHPRESS_DATA" not in os.environ:
        sys.exit("this script needs HASHPRESS_DATA: a folder with cifar10-jpeg.tar.xz")
    output.commit()
    WORK.mkdir(parents=True, exist_ok=True)
    start()
    for name in [name for name in chosen if name != "publish"] if chosen else SETTINGS:
        path = WORK / f"{name}.json"
        if chosen or not path.exists():
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.alexnet_passes", "--one", name], check=True, stdout=subprocess.PIPE
            )
            path.write_bytes(done.stdout.splitlines()[-1])
            print(name, path.read_text(), flush=True)
    earlier = json.loads(RESULT.read_text(encoding="utf-8"))["values"] if RESULT.exists() else {}
    here = {name: json.loads(path.read_text()) for name in SETTINGS if (path := WORK / f"{name}.json").exists()}
    found = {name: value for name in SETTINGS if (value := here.get(name, earlier.get(name)))}
    written = write_result(
        "alexnet_passes", found, targets(found),
        kind="measured", settings=SETTINGS, settings_tried="unknown", seed=SEED,
        threads=int(os.environ["OMP_NUM_THREADS"]), output=output,
    )  # fmt: skip
    print(written)


def targets(found: dict[str, Any]) -> list[Target]:
    """Return memory and clock time of every pass that was measured."""
    lines = []
    for name, cell in found.items():
        what = f"{WORDS.get(name, name)} on AlexNet"
        lines.append(Target(f"{what}, memory over the model's size", cell["times_the_model"]["pass"], "<=", MEMORY))
        lines.append(Target(f"{what}, seconds by the clock", cell["seconds"]["clock"], "<=", SECONDS))
    return lines


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(one(sys.argv[2])))
    else:
        main(*output_of(sys.argv[1:]))
