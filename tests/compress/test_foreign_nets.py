"""Passes on networks as users write them: what a pass cannot treat it leaves alone with a reason, it never fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nets_foreign
import numpy as np
import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.integers.int8 import means
from hashpress.compress.observe.hooks import first_call
from hashpress.compress.passes import (
    Cp,
    Fastfood,
    Finetune,
    Fold,
    HashWeights,
    Int8,
    LowRank,
    Merge,
    Narrow,
    ProductQuantize,
    Prune,
    Share,
    Thresholds,
)  # fmt: skip
from hashpress.compress.recipe.ledger import Line
from hashpress.compress.recipe.recipe import Recipe
from hashpress.core.data import load_data
from hashpress.core.data.images import Split
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import default_arch, untrained
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile.file import load, save

PASSES = {
    "cp": Cp(share=0.5, sweeps=5),
    "lowrank": LowRank(energy=0.9, images=60),
    "merge": Merge(share=0.3, kinds=("dense", "conv")),
    "narrow": Narrow(ratio=0.25),
    "narrow by code": Narrow(ratio=0.25, score="code", images=60),
    "narrow by taylor": Narrow(ratio=0.25, score="taylor", images=60),
    "hashed": HashWeights(share=0.5),
    "fastfood": Fastfood(),
    "prune": Prune(density=0.4),
    "prune compensated": Prune(density=0.4, compensate="exact", images=60),
    "prune staged": Prune(density=0.4, stages=2, finetune=Finetune(epochs=1, system="dpsh")),
    "prune spread": Prune(density=0.4, scope="sensitivity", images=60),
    "share": Share(bits=3),
    "share priced": Share(bits=3, lam=0.05, importance="outputs"),
    "share trained": Share(bits=3, lam=0.05, scaled=True, finetune=Finetune(epochs=1)),
    "pq": ProductQuantize(samples=60, sweeps=1, entries=8),
    "int8": Int8(images=60),
    "int8 compensated": Int8(images=60, rounding="obs", bits=4),
    "finetune": Finetune(epochs=1, system="dpsh"),
    "finetune one by one": Finetune(epochs=1, batch=1, norms=True, system="dpsh"),
    "thresholds": Thresholds(sure=0.0, images=60),
}
UNTOUCHED = {  # layers that would be wrong in another form
    "reflected": ("encoder.0",),
    "parametrized": ("encoder.0",),
    "standardised": ("encoder.0",),
    "attending": ("encoder.heads.out_proj",),
    "double": ("encoder.net.0", "encoder.net.4"),
    "normed_hooked": ("encoder.conv",),
    "normed_parametrized": ("encoder.conv",),
}


@pytest.fixture(scope="module")
def split() -> Split:
    return load_data("digits?limit=120")


@pytest.fixture(scope="module", params=nets_foreign.NETS)
def model(request: pytest.FixtureRequest, split: Split) -> HashModel:
    arch = default_arch(f"nets_foreign:{request.param}", 12, ImageInput.of(split))
    made = untrained(arch, seed=3, trust_code=True)
    for layer in made.net.modules():
        if isinstance(layer, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.running_mean, -1, 1)  # type: ignore[arg-type]  # it is there
            torch.nn.init.uniform_(layer.running_var, 0.5, 2)  # type: ignore[arg-type]  # it is there
    return made


@pytest.mark.parametrize("name", PASSES)
def test_every_pass_on_every_network(model: HashModel, split: Split, name: str, tmp_path: Path) -> None:
    before = {key: value.clone() for key, value in model.net.state_dict().items()}
    folded = Fold()(model)
    item = PASSES[name]
    left = item.decide(folded, Context(split)).data.get("skipped", {})
    result = item(folded, split)
    found = outputs(result, split.queries.pixels)
    save(result, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors", trust_code=True)
    np.testing.assert_array_equal(outputs(again, split.queries.pixels), found)
    assert all(torch.equal(value, before[key]) for key, value in model.net.state_dict().items())
    places = [
        {value.data_ptr() for value in one.net.state_dict().values() if value.numel()} for one in (folded, result)
    ]
    assert not places[0] & places[1], "the result stands in the input's memory"
    if name.split(maxsplit=1)[0] not in ("finetune", "merge", "narrow", "thresholds"):
        for path in UNTOUCHED.get(model.arch.encoder.split(":")[1], ()):
            assert path in left
            assert type(result.net.get_submodule(path)) is type(model.net.get_submodule(path))


def test_fold_is_exact(model: HashModel, split: Split) -> None:
    wanted = outputs(model, split.queries.pixels)
    np.testing.assert_allclose(outputs(Fold()(model), split.queries.pixels), wanted, atol=1e-4 * np.abs(wanted).max())


KEPT = {  # why a norm stays
    "normed": "",
    "normed_tied": "used elsewhere too",
    "normed_lent": "used elsewhere too",
    "normed_read": "used elsewhere too",
    "normed_hooked": "computes its weight from others",
    "normed_parametrized": "computes its weight from others",
}


@pytest.mark.parametrize("name", KEPT)
def test_norms_stay_where_more_than_their_layer_would_change(name: str, split: Split) -> None:
    decision = Fold().decide(of(name, split), Context()).data
    reason = KEPT[name]
    assert list(decision["fold"]) == ([] if reason else ["encoder.norm"])
    assert reason in decision["skipped"].get("encoder.norm", "")


def test_integers_are_near(model: HashModel, split: Split) -> None:
    wanted = outputs(model, split.queries.pixels)
    found = outputs(Int8(images=120)(Fold()(model), split), split.queries.pixels)
    assert np.abs(found - wanted).mean() < 0.03 * np.abs(wanted).mean()


def of(name: str, split: Split) -> HashModel:
    arch = default_arch(f"nets_foreign:{name}", 12, ImageInput.of(split))
    return untrained(arch, seed=3, trust_code=True)


def test_means_are_those_of_first_calls(split: Split) -> None:
    model = untrained(default_arch("nets_foreign:twice", 12, ImageInput.of(split)), seed=3, trust_code=True)
    paths = ["encoder.first", "encoder.again", "head"]
    found = means(model, paths, split.train.pixels)
    inputs = model.arch.input.normalise(split.train.pixels)
    for path in paths:
        wanted = first_call(model.net, path, inputs)[1].detach().double()  # it stops at the first call
        np.testing.assert_allclose(found[path], wanted.transpose(0, 1).flatten(1).mean(1), atol=1e-6)


def test_a_layer_of_two_names_stays_one_layer(split: Split, tmp_path: Path) -> None:
    result = Share(bits=3)(of("alias", split))
    save(result, tmp_path / "model.safetensors")
    for net in (result.net, load(tmp_path / "model.safetensors", trust_code=True).net):
        assert net.encoder.alias is net.encoder.again
        assert not isinstance(net.encoder.again, torch.nn.Conv2d)


def test_tied_weights_stay_tied_behind_a_file(split: Split, tmp_path: Path) -> None:
    save(of("alias", split), tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors", trust_code=True)
    assert again.net.encoder.tied.weight is again.net.encoder.source.weight
    with torch.no_grad():
        again.net.encoder.tied.weight = torch.nn.Parameter(again.net.encoder.tied.weight + 1)
    save(again, tmp_path / "apart.safetensors")
    apart = load(tmp_path / "apart.safetensors", trust_code=True)
    between = apart.net.encoder.tied.weight - apart.net.encoder.source.weight
    assert float(between.detach().mean()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("item", [PASSES["cp"], PASSES["lowrank"], PASSES["int8"]], ids=["cp", "lowrank", "int8"])
def test_what_is_read_outside_of_its_layer_stays(item: Cp | LowRank | Int8, split: Split) -> None:
    model = untrained(default_arch("nets_foreign:normed_read", 12, ImageInput.of(split)), seed=3, trust_code=True)
    result = item(Fold()(model), split)
    assert (
        item.decide(Fold()(model), Context(split)).data["skipped"]["encoder.conv"]
        == "its bias and weight are read outside of it"
    )
    assert type(result.net.get_submodule("encoder.conv")) is torch.nn.Conv2d
    assert type(result.net.get_submodule("encoder.last")) is not torch.nn.Conv2d


@pytest.mark.parametrize("name", ["pq", "hashed", "share", "int8"])
def test_a_bias_of_two_layers_is_written_for_one(name: str, split: Split, tmp_path: Path) -> None:
    model = untrained(default_arch("nets_foreign:normed_lent", 12, ImageInput.of(split)), seed=3, trust_code=True)
    torch.nn.init.uniform_(model.net.get_submodule("encoder.last").get_parameter("bias"), -1, 1)
    result = replace(PASSES[name], skip=("encoder.last",))(model, split)
    save(result, tmp_path / "model.safetensors")
    for made in (result, load(tmp_path / "model.safetensors", trust_code=True)):
        bias = made.net.get_submodule("encoder.last").get_parameter("bias")
        assert torch.equal(bias, model.net.get_submodule("encoder.last").get_parameter("bias"))
    assert not torch.equal(result.net.get_submodule("encoder.conv").bias, bias)  # type: ignore[arg-type]  # a tensor


def test_narrow_says_why_a_network_that_cannot_be_traced_is_left(split: Split) -> None:
    found = Narrow(ratio=0.25).decide(of("untraceable", split), Context(split)).data
    assert found["widths"] == {}
    assert "cannot be traced" in found["skipped"]["*"]
    assert "nothing was done: the network cannot be traced" in str(Line(1, "narrow", decision=found))


def test_factors_leave_the_callers_generator_alone(split: Split) -> None:
    model, before = of("alias", split), torch.random.get_rng_state()
    assert Cp(share=0.5, sweeps=2)(model, split).edits
    assert torch.equal(torch.random.get_rng_state(), before)


def test_norms_train_behind_fastfood_and_go_into_its_last_diagonal(split: Split, tmp_path: Path) -> None:
    plain = untrained(default_arch("nets_foreign:normed_dense", 12, ImageInput.of(split)), seed=3, trust_code=True)
    recipe = Recipe.of(Fastfood(precision="float32"), Finetune(epochs=1, lr=0.01), Fold())
    result = recipe.run(plain, split)
    trained = Finetune(epochs=1, lr=0.01)(Fastfood(precision="float32")(plain), split, reference=plain)
    assert isinstance(result.net.encoder[2], torch.nn.Identity)
    np.testing.assert_allclose(
        outputs(result, split.queries.pixels), outputs(trained, split.queries.pixels), rtol=1e-4, atol=1e-5
    )
    assert result.net.encoder[1].form.norms.shape == (100,)
    save(result, tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors", trust_code=True)
    np.testing.assert_array_equal(outputs(again, split.queries.pixels), outputs(result, split.queries.pixels))
