"""What the scripts of one paper share: MNIST, kept models, cells that are computed once, the table at the end."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from hashpress.core.data import Split, load_data
from hashpress.core.files import atomic_write
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.encoders.spec import MNIST
from hashpress.hashnets.retrieval.evaluate import error_rate
from hashpress.hashnets.training.schedule import Schedule
from hashpress.hashnets.training.train import train
from hashpress.modelfile.file import load, save

from . import document, nets
from .results_io import FOLDER, ROOT, UNKNOWN, Output, Target, output_of, write_result

SEED = 0
# Model files name their encoder ``nets:FUNCTION``, and loading one imports that name; another name would be other bytes.
sys.modules["nets"] = nets
RECALLED = "recalled, not checked against the paper"


@dataclass(frozen=True)
class Row:
    """One published figure beside ours; ``ours`` is None as long as its cell has not run, ``why`` says why they differ."""

    what: str
    unit: str
    published: float | None
    ours: float | None
    why: str = ""
    source: str = RECALLED


class Book:
    """Cells of one paper under ``runs/papers/NAME``: a value that is there is not computed again.

    The table holds what is there and, of what is not, the figures that it held before (it names them ``earlier``): a new
    clone adds to it. Cells that no script makes any more are taken out of the result file by hand.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def folder(self) -> Path:
        """The folder of cells, models and checkpoints, created at first use."""
        path = ROOT / "runs" / "papers" / self.name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def cell(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the value of a cell."""
        path = self.folder / f"{name}.json"
        if not path.exists():
            value = make()
            with atomic_write(path, "w") as handle:
                json.dump(value, handle, indent=1, allow_nan=False)
            print(f"{self.name} {name}: {value}", flush=True)
        return json.loads(path.read_text(encoding="utf-8"))

    def model(self, name: str, make: Callable[[Path], HashModel]) -> HashModel:
        """Return a kept model, made first (with a checkpoint to go on from) when it is not there."""
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            save(make(self.folder / f"{name}.checkpoint"), path)
        return load(path, trust_code=True)

    def bytes(self, name: str) -> int:
        """Return the size of a kept model."""
        return (self.folder / f"{name}.safetensors").stat().st_size

    def published(self) -> dict[str, Any]:
        """Return what the table of ``results/NAME.json`` holds, nothing when there is none."""
        path = FOLDER / f"{self.name}.json"
        return json.loads(path.read_text(encoding="utf-8"))["values"] if path.exists() else {}

    def here(self) -> dict[str, Any]:
        """Return the cells that are kept in the folder."""
        return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in self.folder.glob("*.json")}

    def found(self) -> dict[str, Any]:
        """Return all cells that have been computed, by name: here, or else for the table."""
        cells = self.published().get("ours", {}) | self.here()
        return {name: cells[name] for name in sorted(cells, key=lambda name: f"{name}.json")}

    def value(self, cell: str, key: str) -> Any:
        """Return one figure of a cell, None when it has not run."""
        return self.found().get(cell, {}).get(key)

    def publish(
        self,
        output: Output,
        paper: dict[str, Any],
        targets: list[Target],
        rows: Sequence[Row] = (),
        *,
        settings: Mapping[str, Any],
        settings_tried: int | str = UNKNOWN,
    ) -> None:
        """Write ``results/NAME.json`` with our cells beside those of the paper, and ``docs/papers.md`` anew."""
        cells = self.found()
        earlier = sorted(cells.keys() - self.here().keys())
        values = {"ours": cells, "earlier": earlier, "paper": paper, "rows": [asdict(row) for row in rows]}
        written = write_result(
            self.name, values, targets,
            kind="measured", settings=settings, settings_tried=settings_tried, seed=SEED, output=output,
        )  # fmt: skip
        print(written)
        if output.published:
            document.main([])


def mnist() -> Split:
    """Return MNIST; the folder comes from HASHPRESS_DATA."""
    folder = os.environ.get("HASHPRESS_DATA")
    if not folder:
        sys.exit("this script needs HASHPRESS_DATA: a folder with mnist/")
    return load_data(f"mnist:{folder}/mnist", protocol="B")


def empty(encoder: str, bits: int = 10, *, seed: int = SEED, **options: Any) -> HashModel:
    """Return an untrained network with ten outputs on MNIST."""
    arch = default_arch(encoder, bits, MNIST, **options)
    return untrained(arch, seed=seed, trust_code=True)


def classifier(model: HashModel, schedule: Schedule, checkpoint: Path, *, seed: int = SEED) -> HashModel:
    """Return ``model`` trained by cross-entropy alone."""
    return train(model, mnist(), "onehot", schedule, seed=seed, checkpoint=checkpoint, settings={"weight": 0.0})


def test_error(model: HashModel) -> float:
    """Return the test error in percent."""
    return round(100 * error_rate(model, mnist().queries), 3)


def run(stages: dict[str, Callable[[], object]], finish: Callable[[Output], None]) -> None:
    """Run the stages named on the command line, or all, one thread; then write what is there."""
    torch.set_num_threads(1)
    named, output = output_of(sys.argv[1:])
    output.commit()  # refuses now, not after hours
    chosen = named or list(stages)
    unknown = [name for name in chosen if name not in (*stages, "publish")]
    if unknown:
        sys.exit(f"unknown stage {unknown[0]!r} (there are: {', '.join(stages)}, publish)")
    for name in chosen:
        if name in stages:
            stages[name]()
    finish(output)


__all__ = [
    "RECALLED", "SEED", "Book", "Output", "Row", "Target", "classifier", "empty", "mnist", "run", "test_error",
]  # fmt: skip
