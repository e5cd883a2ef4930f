"""The contract of every pass over networks, and each pass against a formula of its own."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hashpress.compress.base import Context
from hashpress.compress.passes import PASSES, Finetune, Fold, Prune, Share
from hashpress.compress.select import per_layer
from hashpress.core.data import load_data
from hashpress.core.data.images import Split
from hashpress.core.errors import InputError, RecipeError
from hashpress.core.inputs import ImageInput
from hashpress.core.model import HashModel
from hashpress.hashnets.build import build, default_arch
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile import file
from hashpress.modelfile.layers.base import CompressedLayer
from torch import nn

NETS = ("lenet300", "resnet20", "wide")
OURS: dict[str, Callable[[], object]] = {
    "fold": Fold,
    "prune": lambda: Prune(density=0.3),
    "prune q": lambda: Prune(q=1.0, skip=("head",)),
    "prune global": lambda: Prune(density=0.4, scope="global"),
    "share": lambda: Share(bits=3),
    "share scaled": lambda: Share(bits={"conv": 4, "dense": 3}, scaled=True, start="density"),
    "share priced": lambda: Share(bits=4, lam=0.2, importance="outputs"),
    "finetune": lambda: Finetune(epochs=1, lr=1e-4),
    "finetune normed": lambda: Finetune(epochs=1, lr=1e-4, norms=True),
}
SMALLER = {"prune", "prune q", "prune global", "share", "share scaled", "share priced"}


@pytest.fixture(scope="module")
def split() -> Split:
    return load_data("digits?limit=120")


@pytest.fixture(scope="module")
def nets(split: Split) -> dict[str, HashModel]:
    spec = ImageInput.of(split)
    kinds = {"lenet300": ("lenet300", {}), "resnet20": ("resnet20", {}), "wide": ("lenet300", {"widths": (40, 30)})}
    models = {}
    for name, (encoder, options) in kinds.items():
        arch = default_arch(encoder, 10, spec, **options)
        net = build(arch, seed=3)
        with torch.no_grad():
            for norm in net.modules():
                if isinstance(norm, nn.BatchNorm2d):
                    norm.running_mean.normal_(generator=torch.Generator().manual_seed(1))
                    norm.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))
                    norm.weight.uniform_(0.5, 2, generator=torch.Generator().manual_seed(3))
                    norm.bias.normal_(generator=torch.Generator().manual_seed(4))
        models[name] = HashModel(net.eval(), arch)
    return models


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", OURS)
def test_the_contract(name: str, net: str, nets: dict[str, HashModel], split: Split, tmp_path: Path) -> None:
    model, item = nets[net], OURS[name]()
    before = copy.deepcopy(model.net.state_dict())
    decision = item.decide(model, Context(split)).data
    assert json.loads(json.dumps(decision)) == decision
    result = item(model, split, seed=5)
    assert all(torch.equal(value, model.net.state_dict()[key]) for key, value in before.items()), (
        "the input was changed"
    )
    assert not model.edits
    given = outputs(result, split.queries.pixels)
    assert given.shape == (len(split.queries), 10)
    assert np.isfinite(given).all()
    assert len(result.history) == 1
    again = item(model, split, seed=5)
    assert b"".join(file.content(again)) == b"".join(file.content(result)), "not the same twice"
    path = tmp_path / "model.safetensors"
    file.save(result, path)
    np.testing.assert_array_equal(outputs(file.load(path), split.queries.pixels), given)
    if name in SMALLER:
        assert path.stat().st_size < 0.75 * file.file_size(model)


def test_a_fresh_process_gives_the_same_outputs(nets: dict[str, HashModel], split: Split, tmp_path: Path) -> None:
    model = Finetune(epochs=1)(Share(bits=3, scaled=True)(Prune(density=0.3)(Fold()(nets["resnet20"]))), split)
    file.save(model, tmp_path / "m.safetensors")
    code = (
        "import numpy as np\n"
        "from hashpress.modelfile.file import load\n"
        "from hashpress.core.data import load_data\n"
        "from hashpress.hashnets.retrieval.codes import outputs\n"
        f"split = load_data('digits?limit=120')\nmodel = load({str(tmp_path / 'm.safetensors')!r})\n"
        f"np.save({str(tmp_path / 'out.npy')!r}, outputs(model, split.queries.pixels))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=200)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), outputs(model, split.queries.pixels))


@pytest.mark.parametrize(
    "item", [Prune(density=1.0), Prune(q=0.0), Share(bits=12, codebook="float32"), Finetune(epochs=0)]
)
def test_identity_settings_are_the_identity(item: object, nets: dict[str, HashModel], split: Split) -> None:
    model = nets["wide"]
    result = item(model, split)
    if isinstance(item, Share):  # at most 4,096 values a layer: every weight keeps its own
        np.testing.assert_array_equal(outputs(result, split.queries.pixels), outputs(model, split.queries.pixels))
    else:
        assert all(
            torch.equal(a, b)
            for a, b in zip(model.net.state_dict().values(), result.net.state_dict().values(), strict=True)
        )


def test_fold_is_exact_and_says_what_it_leaves(nets: dict[str, HashModel], split: Split) -> None:
    model = nets["resnet20"]
    result = Fold()(model)
    assert not [layer for layer in result.net.modules() if isinstance(layer, nn.BatchNorm2d)]
    wanted = copy.deepcopy(model.net).double()
    images = model.arch.input.normalise(split.queries.pixels)
    with torch.no_grad():
        exact = wanted(images.double())
        assert torch.allclose(result.net(images).double(), exact, rtol=1e-4, atol=1e-4 * float(exact.abs().max()))

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.twice, self.norm = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)
            self.after, self.bare = nn.BatchNorm2d(2), nn.BatchNorm2d(2, eps=0.3, affine=False)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            hidden = self.conv(images)
            hidden = self.norm(hidden) + hidden
            hidden = self.after(hidden.relu())
            return self.bare(self.twice(hidden)).mean((2, 3))

    odd = HashModel(Odd().eval(), model.arch)
    decision = Fold().decide(odd, Context()).data
    assert decision["fold"] == {"bare": "twice"}
    assert decision["skipped"] == {
        "norm": "the output of conv is used elsewhere too",
        "after": "no layer stands directly before it",
    }
    images = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(Fold()(odd).net(images), odd.net(images), atol=1e-5)


def test_fold_goes_into_the_factors_of_shared_weights(nets: dict[str, HashModel], split: Split, tmp_path: Path) -> None:
    shared = Share(bits=3, scaled=True)(nets["resnet20"])
    result = Fold()(shared)
    assert not [layer for layer in result.net.modules() if isinstance(layer, nn.BatchNorm2d)]
    given, wanted = (outputs(model, split.queries.pixels) for model in (result, shared))
    spread_of = np.abs(wanted - wanted.mean(0)).mean()
    assert np.abs(given - wanted).mean() < 0.01 * spread_of, "factors and biases are binary16, nothing else changes"
    for path, layer in result.net.named_modules():
        if isinstance(layer, CompressedLayer):
            assert torch.equal(layer.form.indices, shared.net.get_submodule(path).form.indices)
    file.save(result, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(outputs(file.load(tmp_path / "m.safetensors"), split.queries.pixels), given)
    unscaled = Share(bits=3)(nets["resnet20"])
    assert "without factors" in next(iter(Fold().decide(unscaled, Context()).data["skipped"].values()))
    assert not Fold()(unscaled).edits[len(unscaled.edits) :]


def test_prune_keeps_the_largest_in_the_asked_share(nets: dict[str, HashModel]) -> None:
    model = nets["wide"]
    result = Prune(density={"encoder.fc1": 0.25, "re:.*fc2": 0.5, "head": 0.1})(model)
    for path, density in (("encoder.fc1", 0.25), ("encoder.fc2", 0.5), ("head", 0.1)):
        before = model.net.get_submodule(path).weight.detach().numpy()
        after = result.net.get_submodule(path).weight.detach().numpy()
        keep = np.argsort(-np.abs(before).reshape(-1))[: round(density * before.size)]
        wanted = np.zeros(before.size, dtype=np.float32)
        wanted[keep] = before.reshape(-1)[keep]
        np.testing.assert_array_equal(after.reshape(-1), wanted)
    shares = Prune(density=0.4, scope="global").decide(model, Context()).data["density"]
    sizes = {path: model.net.get_submodule(path).weight.numel() for path in shares}
    assert sum(shares[path] * sizes[path] for path in shares) / sum(sizes.values()) == pytest.approx(0.4, abs=1e-3)
    weight = model.net.encoder.fc1.weight.detach().numpy()
    wanted = np.mean(np.abs(weight) >= 1.5 * weight.std())
    assert Prune(q={"first": 1.5}).decide(model, Context()).data["density"]["encoder.fc1"] == pytest.approx(
        wanted, abs=1e-6
    )
    assert list(Prune(density=0.5, skip=("first", "head")).decide(model, Context()).data["density"]) == ["encoder.fc2"]


def test_stages_prune_further_each_time_and_zeros_stay(nets: dict[str, HashModel], split: Split) -> None:
    result = Prune(density=0.1, stages=3, finetune={"epochs": 1, "lr": 0.01})(nets["wide"], split)
    assert [edit.kind for edit in result.edits] == ["pruned"]
    for path in ("encoder.fc1", "encoder.fc2", "head"):
        weight = result.net.get_submodule(path).weight
        assert float((weight != 0).float().mean()) == pytest.approx(0.1, abs=0.01)
        assert not torch.signbit(weight[weight == 0]).any(), "a minus zero costs four bytes in the file"


def test_finetune_moves_codebooks_and_keeps_zeros_and_assignments(nets: dict[str, HashModel], split: Split) -> None:
    shared = Share(bits=3)(Prune(density=0.3)(nets["wide"]))
    tuned = Finetune(epochs=2, lr=0.01)(shared, split, reference=nets["wide"])
    for path in ("encoder.fc1", "encoder.fc2", "head"):
        before, after = shared.net.get_submodule(path).form, tuned.net.get_submodule(path).form
        assert torch.equal(before.indices, after.indices)
        assert not torch.equal(before.codebook, after.codebook)
        assert float(after.codebook[0].detach()) == 0
        assert torch.equal(after.codebook, after.codebook.half().float())
    pixels, wanted = split.train.pixels, outputs(nets["wide"], split.train.pixels)
    errors = [float(np.mean((outputs(model, pixels) - wanted) ** 2)) for model in (shared, tuned)]
    assert errors[1] < 0.8 * errors[0]


def test_finetune_asks_the_reference_in_the_precision_it_was_given(nets: dict[str, HashModel], split: Split) -> None:
    pruned, pixels = Prune(density=0.3)(nets["wide"]), split.train.pixels
    single, half = (
        Finetune(epochs=2, lr=0.01, reference_precision=precision)(pruned, split, reference=nets["wide"])
        for precision in ("float32", "bfloat16")
    )
    wanted = outputs(nets["wide"], pixels)
    errors = [float(np.mean((outputs(model, pixels) - wanted) ** 2)) for model in (pruned, single, half)]
    assert errors[2] < 0.8 * errors[0]
    assert errors[2] == pytest.approx(errors[1], rel=0.1)
    assert errors[2] != errors[1]


def test_finetune_learns_a_system_too(nets: dict[str, HashModel], split: Split) -> None:
    tuned = Finetune(epochs=6, batch=16, lr=0.01, system="onehot", distill=0.0)(nets["wide"], split)
    before, after = (
        np.mean(outputs(m, split.train.pixels).argmax(1) == split.train.labels) for m in (nets["wide"], tuned)
    )
    assert after > before + 0.2


@pytest.mark.slow
def test_a_higher_price_gives_a_smaller_file(nets: dict[str, HashModel]) -> None:
    sizes = [file.file_size(Share(bits=5, lam=lam)(nets["resnet20"])) for lam in (0.001, 0.03, 0.3)]
    assert sizes == sorted(sizes, reverse=True)


BAD = [
    (Prune, "one of density, q and flips"),
    (lambda: Prune(density=1.2), r"must be in \[0, 1\], got 1.2"),
    (lambda: Prune(density={"conv": -0.1}), "density of 'conv'"),
    (lambda: Prune(density={"re:(": 0.1}), "no regular expression"),
    (lambda: Prune(density=0.5, stages=2), "need finetune"),
    (lambda: Prune(density={"*": 0.5}, scope="global"), "one density"),
    (lambda: Prune(density=0.5, scope="globe"), "unknown scope"),
    (lambda: Prune(density=0.5, finetune={"epoch": 3}), "epoch"),
    (lambda: Share(bits=0), "must be 1 to 12, got 0"),
    (lambda: Share(start="random"), "unknown start 'random'"),
    (lambda: Share(lam=float("nan")), "lam must be at least 0"),
    (lambda: Finetune(lr=-1), "lr must be positive"),
    (lambda: Finetune(distill=0), "nothing to learn from"),
    (lambda: Finetune(system="dpshh"), "did you mean 'dpsh'"),
    (lambda: Finetune(match="output"), "did you mean 'outputs'"),
    (lambda: Finetune(reference_precision="float23"), "did you mean 'float32'"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_bad_settings_say_what_to_do(number: int) -> None:
    make, message = BAD[number]
    with pytest.raises(RecipeError, match=message):
        make()


def test_patterns_choose_the_narrowest(nets: dict[str, HashModel]) -> None:
    net = nets["wide"].net
    assert per_layer({"*": 1, "dense": 2, "head": 3, "first": 4}, net) == {
        "encoder.fc1": 4,
        "encoder.fc2": 2,
        "head": 3,
    }
    assert per_layer({"re:encoder.*": 5, "encoder.fc1": 6}, net) == {"encoder.fc1": 6, "encoder.fc2": 5}
    with pytest.raises(RecipeError, match=r"no layer matches 'encoder\.fc9'"):
        per_layer({"encoder.fc9": 1}, net)
    assert set(PASSES) >= {"fold", "prune", "share", "finetune"}
    with pytest.raises(InputError, match="needs training images"):
        Finetune()(nets["wide"])


def test_training_while_sharing_beats_sharing_alone(nets: dict[str, HashModel], split: Split) -> None:
    model = Prune(density=0.5)(nets["wide"])
    plain = Share(bits=4, lam=0.05, scaled=True)
    tuned = Share(bits=4, lam=0.05, scaled=True, finetune={"epochs": 20, "batch": 16, "lr": 0.002})
    wanted = outputs(model, split.train.pixels)
    results = [item(model, split) for item in (plain, tuned)]
    errors = [float(np.mean((outputs(result, split.train.pixels) - wanted) ** 2)) for result in results]
    assert errors[1] < 0.5 * errors[0]
    sizes = [file.file_size(result) for result in results]
    assert sizes[1] < 1.25 * sizes[0]
    for path in ("encoder.fc1", "head"):
        gone = model.net.get_submodule(path).weight == 0
        form = results[1].net.get_submodule(path).form
        assert int(form.indices[gone].max()) == 0
        assert len(form.codebook) == int(form.indices.max()) + 1
