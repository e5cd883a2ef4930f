"""What every pass promises on every kind of network, and which orders of passes are refused with which reason."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.passes import PASSES, Fold, LowRank, Merge, Narrow, Thresholds
from hashpress.compress.recipe.recipe import Recipe
from hashpress.core.data import load_data
from hashpress.core.data.images import Split
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import build, default_arch
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile import file
from nets_for_targets import settled

BITS = 10
NETS: dict[str, tuple[str, int, Mapping[str, Any]]] = {  # encoder, side of the images, options
    "lenet300": ("lenet300", 8, {"widths": (48, 24)}),
    "lenet5": ("lenet5", 16, {"widths": (6, 10, 40)}),
    "smallconv": ("smallconv", 8, {"widths": (8, 8, 12, 40)}),
    "resnet20": ("resnet20", 8, {"widths": (4, 8, 12)}),
    "vgg16": ("vgg16", 32, {"widths": (4, 4, *[6] * 11), "hidden": (24, 20)}),
    "alexnet": ("alexnet", 64, {"widths": (4, 6, 8, 8, 6), "hidden": (24, 20)}),
}
SETTINGS: dict[str, Mapping[str, Any]] = {
    "fold": {},
    "merge": {"share": 0.2, "kinds": ("dense", "conv")},
    "narrow": {"ratio": 0.3, "score": "l1"},
    "cp": {"rank": 2, "fit": "greedy", "epc": False, "skip": ()},
    "lowrank": {"ranks": 2, "images": 40, "places": 4},
    "hashed": {"share": 0.25},
    "fastfood": {"skip": ()},
    "finetune": {"epochs": 1, "lr": 1e-4},
    "prune": {"density": 0.3},
    "share": {"bits": 3},
    "pq": {"sweeps": 0, "width": 4, "entries": 8, "skip": ("first",)},
    "int8": {"images": 30},
    "thresholds": {"sure": 0.0},
}
FOLDED = {"lowrank"}  # refuses batch norms that were not folded
EDITLESS = {"finetune", "thresholds"}  # values alone change
GROW = {"fold", *EDITLESS}  # biases where there were none; weights that moved
CASES = [
    pytest.param(net, name, id=f"{net}-{name}", marks=[pytest.mark.slow] if net in ("vgg16", "alexnet") else [])
    for net, name in product(NETS, SETTINGS)
]


@pytest.fixture(scope="module")
def splits() -> dict[int, Split]:
    return {side: load_data(f"digits?size={side}&limit=60") for side in {side for _, side, _ in NETS.values()}}


@pytest.fixture(scope="module")
def models() -> dict[str, HashModel]:
    made = {}
    for name, (encoder, side, options) in NETS.items():
        arch = default_arch(encoder, BITS, ImageInput((1, side, side), (0.3,), (0.35,)), **options)
        made[name] = HashModel(settled(build(arch, seed=3)), arch)
    return made


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all results, beside the outputs of the network that was saved."""
    return tmp_path_factory.mktemp("kept")


def test_every_pass_and_every_encoder_stands_here() -> None:
    assert set(SETTINGS) == set(PASSES)


@pytest.mark.parametrize(("net", "name"), CASES)
def test_the_contract(net: str, name: str, models: dict[str, HashModel], splits: dict[int, Split], kept: Path) -> None:
    model, split, item = models[net], splits[NETS[net][1]], PASSES[name](**SETTINGS[name])
    if name in FOLDED:
        model = Fold()(model)
    edits, history = model.edits, model.history
    before = copy.deepcopy(model.net.state_dict())
    decision = item.decide(model, Context(split, seed=5)).data
    assert json.loads(json.dumps(decision)) == decision
    result = item(model, split, seed=5)
    after = model.net.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items()), "the input was changed"
    places = [{value.data_ptr() for value in one.values() if value.numel()} for one in (after, result.net.state_dict())]
    assert not places[0] & places[1], "the result stands in the input's memory"
    assert (model.edits, model.history) == (edits, history)
    assert result.arch == model.arch
    pixels = split.queries.pixels[:8]
    given = outputs(result, pixels)
    assert given.shape == (8, BITS)
    assert np.isfinite(given).all()
    assert result.edits[: len(edits)] == edits
    assert [step.name for step in result.history[len(history) :]] == [name]
    done = result.edits[len(edits) :]
    if not done and name not in EDITLESS:
        np.testing.assert_array_equal(given, outputs(model, pixels), "nothing was done, and yet something changed")
    assert b"".join(file.content(item(model, split, seed=5))) == b"".join(file.content(result))
    path = kept / f"{net}-{name}.safetensors"
    file.save(result, path)
    np.savez(path.with_suffix(".npz"), pixels=pixels, outputs=given)
    if done and name not in GROW:
        assert path.stat().st_size < file.file_size(model)


def test_a_fresh_process_loads_the_same_networks(kept: Path) -> None:
    """One process for all files that the tests before this one left."""
    code = (
        "import sys\nfrom pathlib import Path\nimport numpy as np\n"
        "from hashpress.modelfile.file import load\nfrom hashpress.hashnets.retrieval.codes import outputs\n"
        "for path in sorted(Path(sys.argv[1]).glob('*.safetensors')):\n"
        "    with np.load(path.with_suffix('.npz')) as wanted:\n"
        "        same = np.array_equal(outputs(load(path), wanted['pixels']), wanted['outputs'])\n"
        "    print(path.stem, same)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(kept)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(list(kept.glob("*.npz")))
    assert not [line for line in lines if not line.endswith(" True")]


IDENTITIES: dict[str, tuple[str, Callable[[], Any]]] = {
    "merge nothing": ("lenet5", lambda: Merge(share=0.0, kinds=("dense", "conv"))),
    "narrow nothing": ("resnet20", lambda: Narrow(ratio=0.0)),
    "keep all multiplications": ("smallconv", lambda: Narrow(macs=1.0)),
    "no norms": ("smallconv", Fold),
    "thresholds as they are": ("resnet20", lambda: Thresholds(reach=0.0, sure=0.0)),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_identity_settings_are_the_identity(name: str, models: dict[str, HashModel], splits: dict[int, Split]) -> None:
    net, make = IDENTITIES[name]
    model, split = models[net], splits[NETS[net][1]]
    result = make()(model, split)
    assert result.net.state_dict().keys() == model.net.state_dict().keys()
    for one, other in zip(model.net.state_dict().values(), result.net.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_low_ranks_that_keep_all_are_the_network(models: dict[str, HashModel], splits: dict[int, Split]) -> None:
    model, split = models["smallconv"], splits[8]
    result = LowRank(energy=1.0, images=40, places=4)(model, split)
    wanted = outputs(model, split.queries.pixels)
    np.testing.assert_allclose(outputs(result, split.queries.pixels), wanted, atol=1e-3 * np.abs(wanted).max())


# orders

STRUCTURE = ("merge", "narrow", "cp", "lowrank", "hashed", "fastfood")
VALUES = ("prune", "share", "pq", "int8")
FIRST = "norms are folded before anything else changes weights"
SHAPES = "layers change shape before their values are pruned or shared"
REFUSED = {
    **{(one, "fold"): FIRST for one in (*STRUCTURE, *VALUES) if one != "fastfood"},
    **{(one, other): SHAPES for one in VALUES for other in STRUCTURE},
    ("share", "prune"): "weights that share values cannot be pruned one by one",
    **{("int8", other): "int8 is the last pass" for other in ("prune", "share", "pq", "finetune")},
}
OPEN = {("share", "fold")}  # depends on the settings of share


@pytest.mark.parametrize("pair", [pair for pair in product(SETTINGS, repeat=2) if pair not in OPEN], ids=" then ".join)
def test_orders(pair: tuple[str, str]) -> None:
    recipe = Recipe(tuple({"name": name, **SETTINGS[name]} for name in pair))
    problems = recipe.problems()
    if pair not in REFUSED:
        assert problems == []
        return
    assert len(problems) == 1
    assert problems[0].startswith(f"step 2 ({pair[1]}): ")
    assert REFUSED[pair] in problems[0]
    between = Recipe((recipe.entries[0], {"name": "finetune"}, recipe.entries[1]))
    assert any(REFUSED[pair] in problem for problem in between.problems()), "training in between changes nothing"
