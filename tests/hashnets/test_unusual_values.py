"""Networks whose values are no numbers, too large, or of another type, and too few images: refused by name, or finite."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.passes import (
    PASSES,
    Fastfood,
    Finetune,
    Fold,
    HashWeights,
    Int8,
    Merge,
    Narrow,
    ProductQuantize,
    Prune,
    Share,
    Thresholds,
)  # fmt: skip
from hashpress.core.data import load_data
from hashpress.core.data.images import Split
from hashpress.core.errors import InputError, ModelFileError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile.file import load, save
from hashpress.modelfile.layers.base import round_weights

LAYER = "encoder.conv2"
SETTINGS: dict[str, dict[str, Any]] = {
    "cp": {"rank": 2},
    "lowrank": {"ranks": 2},
    "narrow": {"ratio": 0.3},
    "prune": {"density": 0.3},
}  # of passes that need some


@pytest.fixture(scope="module")
def split() -> Split:
    return load_data("digits?limit=60")


@pytest.fixture(scope="module")
def base(split: Split) -> HashModel:
    arch = default_arch("smallconv", 8, ImageInput.of(split), widths=(6, 6, 8, 24))
    return Fold()(untrained(arch, seed=3))


def changed(model: HashModel, change: Callable[[Any], object]) -> HashModel:
    net = model.copy_net()
    with torch.no_grad():
        change(net.get_submodule(LAYER))
    return replace(model, net=net)


# values that are no numbers


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("name", PASSES)
def test_every_pass_names_the_layer_whose_weights_are_unusable(
    name: str, value: float, base: HashModel, split: Split
) -> None:
    model, item = (
        changed(base, lambda layer: layer.weight[0, 0, 0].fill_(value)),
        PASSES[name](**SETTINGS.get(name, {})),
    )
    shown = re.escape(f"'{LAYER}' has {abs(value):g} in its weight")
    for ask in (item.preview, item.run):
        with pytest.raises(InputError, match=f"^{name} needs weights that are numbers.*{shown}"):
            ask(model, Context(split))


def test_statistics_of_norms_count_too(split: Split) -> None:
    model = untrained(default_arch("resnet20", 8, ImageInput.of(split), widths=(4, 4, 4)), seed=3)
    model.net.encoder.bn1.running_var[0] = torch.nan
    with pytest.raises(InputError, match=r"'encoder.bn1' has nan in its running_var"):
        Fold()(model)


def test_a_pass_that_spoils_a_network_says_so(base: HashModel, split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(*_args: object, **_settings: object) -> HashModel:
        return changed(base, lambda layer: layer.bias.fill_(torch.inf))

    monkeypatch.setattr("hashpress.core.model.HashModel.edited", spoiled)
    with pytest.raises(InputError, match=f"prune cannot treat this network: afterwards layer '{LAYER}' has inf"):
        Prune(density=0.5)(base, split)


# half precision ends at 65504: numpy says so

HALVES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "share": (Share, {"codebook": "float32"}),
    "share scaled": (lambda **more: Share(scaled=True, **more), {"codebook": "float32"}),
    "share trained": (lambda **more: Share(lam=0.1, finetune=Finetune(epochs=1), **more), {"codebook": "float32"}),
    "hashed": (lambda **more: HashWeights(share=0.5, **more), {"precision": "float32"}),
    "pq": (lambda **more: ProductQuantize(width=2, entries=16, sweeps=0, **more), {"precision": "float32"}),
}
TOO_LARGE: dict[str, Callable[[Any], object]] = {
    "bias": lambda layer: layer.bias[0].fill_(70000.0),
    "weights": lambda layer: layer.weight.mul_(1e6),
}


@pytest.mark.parametrize("where", TOO_LARGE)
@pytest.mark.parametrize("name", HALVES)
def test_what_half_precision_cannot_hold_is_refused(name: str, where: str, base: HashModel, split: Split) -> None:
    make, single = HALVES[name]
    model = changed(base, TOO_LARGE[where])
    with pytest.raises(InputError, match=rf"layer '{LAYER}': half precision ends at 65504, .*float32"):
        make()(model, split)
    if name != "share trained":  # outputs as large as these are not imitated in one epoch
        kept = outputs(make(**single)(model, split), split.queries.pixels)
        assert np.isfinite(kept).all()


@pytest.mark.parametrize("name", ["share", "hashed", "pq"])
def test_half_precision_is_used_to_its_end(name: str, base: HashModel, split: Split, tmp_path: Path) -> None:
    make, _ = HALVES[name]
    for value in (65504.0, -65519.0, 65520.0):
        model = changed(base, lambda layer, value=value: layer.bias[0].fill_(value))
        with np.errstate(over="ignore"):
            fits = np.isfinite(np.float16(value))
        if not fits:
            with pytest.raises(InputError, match="found a value of 65520"):
                make()(model, split)
            continue
        result = make()(model, split)
        save(result, tmp_path / "model.safetensors")
        for net in (result.net, load(tmp_path / "model.safetensors").net):
            assert float(net.get_submodule(LAYER).bias[0].detach()) == np.sign(value) * 65504


def test_training_that_leaves_half_precision_is_refused(base: HashModel) -> None:
    net = Share(bits=3)(base).net
    with torch.no_grad():
        net.get_submodule(LAYER).form.codebook[1] = 1e5
    with pytest.raises(InputError, match=rf"layer '{LAYER}': half precision ends at 65504, found a value of 100000"):
        round_weights(net)


# networks in other types


@pytest.mark.parametrize("item", [Fold(), Share(bits=3), HashWeights(share=0.5), Fastfood(skip=()), Narrow(ratio=0.3, score="code"),
                                  ProductQuantize(width=4, entries=8, samples=30), Int8(images=30), Prune(density=0.5),
                                  Thresholds(sure=0.0), Finetune(epochs=1, system="dpsh", distill=0.0)],
                         ids=lambda item: type(item).__name__)  # fmt: skip
def test_a_network_in_half_precision_runs_after_every_pass(item: Any, split: Split, tmp_path: Path) -> None:
    model = untrained(default_arch("nets_foreign:half", 8, ImageInput.of(split)), seed=3, trust_code=True)
    result = item(model, split)
    found = outputs(result, split.queries.pixels)
    save(result, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors", trust_code=True)
    np.testing.assert_array_equal(outputs(again, split.queries.pixels), found)
    assert all(value.dtype == torch.float16 for name, value in result.net.encoder.named_parameters())
    if isinstance(item, Share | Int8):
        assert (
            item.decide(model, Context(split)).data["skipped"]["encoder.net.4"]
            == "its weight is float16, and forms keep float32"
        )


def test_a_type_that_no_file_can_keep_is_refused_by_name(split: Split, tmp_path: Path) -> None:
    model = untrained(default_arch("nets_foreign:brain", 8, ImageInput.of(split)), seed=3, trust_code=True)
    folded = Fold()(model)
    assert folded.net.encoder.net[0].bias.dtype == torch.bfloat16
    with pytest.raises(ModelFileError, match=r"encoder\.net\.0\.weight: a model file cannot store torch\.bfloat16"):
        save(folded, tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


# few images, or none


def some(split: Split, count: int, *, alike: bool = False) -> Split:
    images = split.train.take(np.zeros(count, dtype=np.int64) if alike else np.arange(count))
    return replace(split, train=images)


@pytest.mark.parametrize(
    "item",
    [
        ProductQuantize(),
        Prune(density=0.3, scope="sensitivity"),
        Finetune(norms=True),
        Int8(),
        Thresholds(),
        Merge(refit=9),
    ],
    ids=lambda item: type(item).__name__,
)
def test_a_data_set_without_training_images(item: Any, base: HashModel, split: Split) -> None:
    for ask in (item.preview, item.run):
        with pytest.raises(InputError, match=r"needs training images, digits.* has none; name another data set"):
            ask(base, Context(some(split, 0)))


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("given", ["one", "two", "alike", "constant weights"])
@pytest.mark.slow
def test_error_correction_without_damping(given: str, width: int, base: HashModel, split: Split) -> None:
    """The responses that were seen come out right, though the inputs leave most of the weight open."""
    few = {"one": some(split, 1), "two": some(split, 2), "alike": some(split, 9, alike=True)}.get(given, split)
    if given == "constant weights":
        base = changed(base, lambda layer: layer.weight.fill_(0.01))
    item = ProductQuantize(width=width, entries=16, damping=0.0, precision="float32")
    result = item(base, few)
    errors = result.history[-1].after["response_errors"]
    assert errors
    assert all(after <= before + 1e-6 for before, after in errors.values()), "error correction made it worse"
    assert np.isfinite(outputs(result, split.queries.pixels)).all()


# forms without values to round, and layers that cannot be copied


def test_integers_are_left_by_fold(base: HashModel, split: Split) -> None:
    integers = Int8(images=30)(base, split)
    again = Fold()(integers)
    assert again.edits == integers.edits
    np.testing.assert_array_equal(outputs(again, split.queries.pixels), outputs(integers, split.queries.pixels))


def test_a_norm_behind_integers_stays(split: Split) -> None:
    model = untrained(default_arch("resnet20", 8, ImageInput.of(split), widths=(4, 4, 4)), seed=3)
    left = Fold().decide(Int8(images=30)(model, split), Context()).data["skipped"]
    assert left["encoder.bn1"] == "the layer before it, encoder.conv1, is a Int8Conv2d"


def test_what_cannot_be_copied_is_said(base: HashModel) -> None:
    net = base.copy_net()
    net.lock = Lock()
    with pytest.raises(InputError, match=r"the network cannot be copied.*lock"):
        Prune(density=0.5)(replace(base, net=net))
