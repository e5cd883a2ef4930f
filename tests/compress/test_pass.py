"""The base class of passes: it decides once, its order of work is final, and an outsider's pass works like our own."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hashpress import Context, Decision, Pass, Runtime, compile_model, load_recipe
from hashpress.cli.main import run
from hashpress.compress import thresholds
from hashpress.compress.channels import merge, narrow
from hashpress.compress.codebooks import share
from hashpress.compress.factorize import cp, lowrank
from hashpress.compress.integers import int8
from hashpress.compress.passes import (
    PASSES,
    Cp,
    Finetune,
    Fold,
    Int8,
    LowRank,
    Merge,
    Narrow,
    Prune,
    Share,
    Thresholds,
)  # fmt: skip
from hashpress.compress.prune import prune
from hashpress.compress.recipe import run as running
from hashpress.compress.recipe.recipe import Recipe
from hashpress.core.data import load_data
from hashpress.core.data.images import Split
from hashpress.core.errors import InputError, ModelFileError, RecipeError
from hashpress.core.model import HashModel
from hashpress.hashnets.retrieval.codes import outputs
from hashpress.modelfile import file
from hashpress.modelfile.edits import edit_to_json
from hashpress.modelfile.reader import decoded_layers, read_dense, read_manifest
from pass_of_somebody import KeepSigns, Signed
from program import refused
from small_models import a_model

FOREIGN = "pass_of_somebody:KeepSigns"
EDIT = "pass_of_somebody:Signed"


@pytest.fixture(scope="module")
def split() -> Split:
    return load_data("digits?size=16&limit=120")


@pytest.fixture(scope="module")
def model() -> HashModel:
    return a_model(widths=[4, 6, 10], bits=8)


def bytes_of(model: HashModel) -> bytes:
    return b"".join(file.content(model))


# decided once

TUNING = {"epochs": 1, "lr": 1e-4, "batch": 64}
STEPS = (
    Fold(), Narrow(ratio=0.2), Finetune(**TUNING), Prune(density=0.5, stages=2, finetune=TUNING),
    Share(bits=3, lam=0.01, finetune=TUNING), Thresholds(images=40),
)  # fmt: skip


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often passes were asked for a decision, by name."""
    count: Counter[str] = Counter()
    for kind in {type(step) for step in (*STEPS, Int8())}:

        def decide(self: Pass, model: HashModel, context: Context, real: Any = kind.decide) -> Decision:
            count[self.name] += 1
            return real(self, model, context)

        monkeypatch.setattr(kind, "decide", decide)
    return count


def test_no_step_is_decided_twice(model: HashModel, split: Split, decided: Counter[str]) -> None:
    Recipe.of(*STEPS).run(model, split)
    assert {name: decided[name] for name in ("fold", "narrow", "prune", "share", "thresholds")} == dict.fromkeys(
        ("fold", "narrow", "prune", "share", "thresholds"), 1
    )
    assert decided["finetune"] == 3  # a step, and two stages of prune


def test_a_preview_decides_each_step_once(model: HashModel, split: Split, decided: Counter[str]) -> None:
    Recipe.of(*STEPS).preview(model, split)
    assert decided == {step.name: 1 for step in STEPS}


@pytest.mark.parametrize(
    ("work", "room", "name"),
    [
        (Prune(density=0.5, scope="sensitivity", images=40), prune, "measured"),
        (Int8(images=40), int8.ranges, "observe_ranges"),
        (LowRank(speedup=1.1, images=40), lowrank, "count"),
        (Cp(share=0.5), cp, "count"),
        (Merge(share=0.3, by="outputs", refit=40), merge, "channels"),
        (Narrow(ratio=0.3, score="taylor"), narrow, "channels"),
        (Share(bits=3, lam=0.01, importance="outputs", finetune=TUNING), share, "output_energy"),
        (Thresholds(), thresholds, "outputs"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Pass) else "",
)
def test_what_takes_long_travels_from_the_decision_to_its_application(
    work: Pass, room: Any, name: str, model: HashModel, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, function = [], getattr(room, name)
    monkeypatch.setattr(room, name, lambda *args, **more: calls.append(1) or function(*args, **more))
    work.run(model, Context(split))
    assert len(calls) == 1


@pytest.mark.parametrize(
    "work",
    [
        Fold(), Merge(share=0.3), Merge(share=0.3, images="noise", refit=20), Narrow(ratio=0.3), Share(bits=3),
        Int8(images=40), Prune(density=0.5),
    ],
    ids=repr,
)  # fmt: skip
def test_a_decision_can_be_applied_again(work: Pass, model: HashModel, split: Split) -> None:
    before, context = bytes_of(model), Context(split, seed=3)
    decision = work.decide(model, context)
    first = bytes_of(work.apply(model, decision, context))
    assert bytes_of(work.apply(model, decision, context)) == first == bytes_of(work(model, split, seed=3))
    assert bytes_of(model) == before


def test_training_returns_the_decision_that_was_applied(model: HashModel, split: Split) -> None:
    trained, decision = Share(bits=3, lam=0.01, finetune={**TUNING, "lr": 0.05}).run(model, Context(split))
    zeros = {
        path: round(float((trained.net.get_submodule(path).form.indices == 0).float().mean()), 6)
        for path in decision.data["layers"]
    }
    assert {path: layer["zeros"] for path, layer in decision.data["layers"].items()} == pytest.approx(zeros, abs=2e-6)
    pruned, decision = Prune(density=0.25, stages=2, finetune={**TUNING, "lr": 0.05}).run(model, Context(split))
    for path, least in decision.data["threshold"].items():
        weight = model.net.get_submodule(path).weight
        assert float((weight.abs() >= least).float().mean()) != decision.data["density"][path], "it was trained since"
        assert int(pruned.net.get_submodule(path).weight.count_nonzero()) <= round(0.25 * weight.numel()) + 1


def test_each_model_of_a_run_is_encoded_once(
    model: HashModel, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded, real = [], file.content
    monkeypatch.setattr(file, "content", lambda model: encoded.append(len(model.history)) or real(model))
    recipe = Recipe.of(Fold(), Prune(density=0.5), Share(bits=3))
    result = running.compress(model, recipe, split, out=tmp_path / "out.safetensors")
    assert encoded == [0, 1, 2, 3]
    assert (tmp_path / "out.safetensors").read_bytes() == b"".join(real(result))
    one = file.encode(result)
    assert one.size == (tmp_path / "out.safetensors").stat().st_size


# what is final, and what a subclass must say


def define(**members: Any) -> type:
    whole = {"name": "x", "phase": "values", "decide": lambda *_: Decision({}), "apply": lambda *_: None}
    return type("Mine", (Pass,), {key: value for key, value in (whole | members).items() if value is not None})


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"run": lambda *_: None}, "Mine: run of a pass is final; define decide, and apply or execute"),
        ({"__call__": lambda *_: None, "preview": lambda *_: None}, "Mine: preview, __call__ of a pass is final"),
        ({"name": None}, "Mine: a pass needs the class variable name, a text"),
        ({"name": None, "phase": None}, "class variable name and phase"),
        ({"phase": "value"}, r"Mine: unknown phase 'value' \(there are: fold, structure"),
        ({"decide": None}, "a pass defines decide, and apply or execute"),
        ({"apply": None}, "a pass defines decide, and apply or execute"),
    ],
)
def test_a_class_that_is_no_pass_is_refused(members: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        define(**members)
    assert issubclass(define(), Pass)


def test_every_pass_is_called_what_it_is_registered_as() -> None:
    assert {name: kind.name for name, kind in PASSES.items()} == {name: name for name in PASSES}


def test_data_of_a_decision_are_plain() -> None:
    with pytest.raises(TypeError, match="must be plain JSON, arrays belong into its plan"):
        Decision({"layers": {"a": np.zeros(2)}})


# preconditions


@dataclass(frozen=True)
class Counted(Pass):
    """Needs images, and does nothing."""

    name: ClassVar[str] = "counted"
    phase: ClassVar[str] = "code"
    without_images: ClassVar[str] = "blind = true"
    spoil: bool = False

    @property
    def needs_images(self) -> bool:
        return True

    def decide(self, model: HashModel, context: Context) -> Decision:
        return Decision({"images": len(context.training_split(self).train)})

    def apply(self, model: HashModel, decision: Decision, context: Context) -> HashModel:
        net = model.copy_net()
        if self.spoil:
            net.head.bias.data[0] = torch.nan
        return model.edited(net, [], self.step(context.seed, **decision.data))


def test_preconditions_are_checked_before_and_afterwards(model: HashModel, split: Split) -> None:
    message = "^counted needs training images; name a data set with --data, or set blind = true$"
    with pytest.raises(InputError, match=message):
        Counted()(model)
    with pytest.raises(InputError, match=r"counted needs training images, digits.* has none; name another data set"):
        Counted()(model, replace(split, train=split.train.take(np.zeros(0, dtype=np.int64))))
    with pytest.raises(
        InputError, match="counted cannot treat this network: afterwards layer 'head' has nan in its bias"
    ):
        Counted(spoil=True)(model, split)
    with pytest.raises(
        InputError, match="counted needs weights that are numbers of a usable size, layer 'head' has nan"
    ):
        Counted()(Counted(spoil=True).apply(model, Decision({}), Context()), split)
    assert Counted()(model, split, seed=7).history[-1].seed == 7


# somebody's own pass and layer


def test_an_outsiders_pass_runs_in_recipes_by_class_and_by_name(model: HashModel, split: Split, tmp_path: Path) -> None:
    recipe = Recipe.of(Fold(), KeepSigns("encoder.fc1"), Counted())
    assert [entry["name"] for entry in recipe.entries] == ["fold", FOREIGN, f"{__name__}:Counted"]
    lines = recipe.preview(model, split).lines
    assert lines[2].decision["layers"]["encoder.fc1"]["sizes"]
    result = running.compress(model, recipe, split, out=tmp_path / "out.safetensors")
    weight = model.net.get_submodule("encoder.fc1").weight.detach()
    wanted = weight.sign() * weight.abs().mean(1, keepdim=True)
    assert torch.allclose(result.net.get_submodule("encoder.fc1").form(), wanted)
    text = (tmp_path / "out.safetensors.recipe.toml").read_text()
    assert f'name = "{FOREIGN}"\nlayer = "encoder.fc1"' in text
    (tmp_path / "mine.toml").write_text(text)
    trusted = load_recipe(tmp_path / "mine.toml", trust_code=True)
    assert bytes_of(trusted.run(model, split)) == (tmp_path / "out.safetensors").read_bytes()
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "mine.toml").check()
    assert (
        f"step 2: pass '{FOREIGN}' would import and run code from module 'pass_of_somebody'" in caught.value.problems[0]
    )
    with pytest.raises(
        RecipeError, match=r"step 1: pass 'math:pi' is a float, a subclass of hashpress.Pass was expected"
    ):
        Recipe(({"name": "math:pi"},), trust_code=True).check()
    with pytest.raises(RecipeError, match=r"step 1: pass 'math:tau2' cannot be imported: .*tau2"):
        Recipe(({"name": "math:tau2"},), trust_code=True).check()


def test_rules_of_order_hold_for_an_outsiders_pass() -> None:
    assert Recipe.of(Prune(density=0.5), KeepSigns()).problems() == []
    assert "must come before keepsigns: norms are folded" in Recipe.of(KeepSigns(), Fold()).problems()[0]
    assert f"step 2 ({FOREIGN}): int8 is the last pass" in Recipe.of(Int8(), KeepSigns()).problems()[0]


def test_an_outsiders_layer_is_saved_loaded_decoded_and_compiled(
    model: HashModel, split: Split, tmp_path: Path
) -> None:
    path, result = tmp_path / "m.safetensors", KeepSigns("encoder.fc1")(model)
    file.save(result, path)
    assert read_manifest(path)["edits"] == [{"kind": EDIT, "layer": "encoder.fc1"}]
    with pytest.raises(ModelFileError, match=f"edit '{EDIT}' would import and run code"):
        file.load(path)
    loaded = file.load(path, trust_code=True)
    wanted = outputs(result, split.queries.pixels)
    np.testing.assert_array_equal(outputs(loaded, split.queries.pixels), wanted)
    assert decoded_layers(read_manifest(path)) == {"encoder.fc1": EDIT}
    with pytest.raises(
        ModelFileError, match=f"the encoding of layer 'encoder.fc1', '{EDIT}' would import and run code"
    ):
        read_dense(path)
    dense = read_dense(path, trust_code=True)["encoder.fc1.weight"]
    np.testing.assert_array_equal(dense, result.net.get_submodule("encoder.fc1").form().detach().numpy())
    compile_model(loaded, "c", tmp_path / "bundle")
    assert read_manifest(tmp_path / "bundle" / "model.safetensors")["edits"] == [], "the device has none of their code"
    given = Runtime(tmp_path / "bundle").outputs(model.arch.input.normalise(split.queries.pixels).numpy())
    np.testing.assert_allclose(given, wanted, atol=1e-4)


def test_what_an_outsiders_pass_leaves_compiles(model: HashModel, split: Split, tmp_path: Path) -> None:
    result = Counted()(model, split)
    compile_model(result, "c", tmp_path / "bundle")
    pixels = split.queries.pixels[:8]
    given = Runtime(tmp_path / "bundle").outputs(model.arch.input.normalise(pixels).numpy())
    np.testing.assert_allclose(given, outputs(result, pixels), atol=1e-4)


def test_layers_that_nobody_else_can_decode_or_import_are_said(
    model: HashModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.save(KeepSigns()(model), tmp_path / "m.safetensors")
    monkeypatch.delattr(Signed, "decode")
    with pytest.raises(
        ModelFileError, match=r"layer 'head' cannot be decoded without torch: .* no static method decode"
    ):
        read_dense(tmp_path / "m.safetensors", trust_code=True)

    class Hidden(Signed):
        pass

    with pytest.raises(ModelFileError, match="define it at module level"):
        edit_to_json(Hidden("head"))


def test_the_command_line_runs_an_outsiders_pass_where_it_is_trusted(
    model: HashModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.save(model, tmp_path / "m.safetensors")
    (tmp_path / "r.toml").write_text(f'[[pass]]\nname = "{FOREIGN}"\nlayer = "encoder.fc1"\n')
    words = ["compress", str(tmp_path / "m.safetensors"), "--recipe", str(tmp_path / "r.toml")]
    words += ["-o", str(tmp_path / "out.safetensors")]
    line = refused(capsys, *words)
    assert f"pass '{FOREIGN}' would import and run code" in line
    assert "--trust-code" in line
    assert run([*words, "--trust-code"]) == 0
    assert file.load(tmp_path / "out.safetensors", trust_code=True).edits == (Signed("encoder.fc1"),)
